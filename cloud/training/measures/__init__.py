"""How models are measured: row by row, event by event, with intervals. Never with point adjustment."""
