"""The agent on the plant device: MQTT in, SQLite outbox, ONNX scores, frames to the gateway."""
