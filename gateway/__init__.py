"""MQTT in (frames, plain JSON) to the event log, with acknowledgements after the log's confirmation."""
