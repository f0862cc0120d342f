"""The gateway as a Sparkplug host: births, data and deaths of edge nodes to readings and events in the log."""
