"""The telemetry store: readings, scores and events, ordered by event time in each series."""
