"""What crosses a tier boundary: names, events, frames, windows, errors, clock, settings, event log, lifecycle."""
