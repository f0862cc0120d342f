"""The books of a telemetry store whose readings are elsewhere: row ranges, counters, events, positions, in SQL."""
