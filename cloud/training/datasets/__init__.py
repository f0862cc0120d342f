"""Readers of public recordings with labels, and the split by which models are judged on each. They only read by path."""
