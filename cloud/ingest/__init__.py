"""Ingest: from the event log to the telemetry store, each row once."""
