"""Judges what `industrialmind score` and `industrialmind rul` ship by the protocols of the data sets, beside floors."""
