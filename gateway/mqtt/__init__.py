"""Our own MQTT client for asyncio, 3.1.1 and 5, made for one thing: to receive much at QoS 1, cheaply.

`packets` and `stream` are the pure codec, `connection` is one socket, `client` keeps one up for ever.
"""

from gateway.mqtt.client import LeanBroker, open_lean

__all__ = ["LeanBroker", "open_lean"]
