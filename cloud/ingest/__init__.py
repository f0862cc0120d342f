"""Batches from the event log into the telemetry store, idempotent by identity."""
