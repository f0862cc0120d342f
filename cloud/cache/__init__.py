"""Answers kept for the next asker: in this process, or in Redis for all processes."""
