"""Simulated machines with physics and faults, and replay of recordings, over real MQTT."""
