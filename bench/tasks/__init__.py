"""Anomaly, remaining life and failure mode by one network with three heads, beside networks of one head and what ships."""
