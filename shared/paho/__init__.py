"""MQTT for asyncio on paho: publishes that survive reconnects, and messages that the caller acknowledges.

MQTT 3.1.1, which every broker speaks, or 5. Only this folder imports paho.
"""

from shared.paho.client import MqttClient
from shared.paho.inbox import MqttMessage
from shared.paho.opening import open_mqtt

__all__ = ["MqttClient", "MqttMessage", "open_mqtt"]
