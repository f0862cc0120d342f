"""Foreign MQTT clients of tests, on paho."""

import queue
from contextlib import suppress

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion


def leave(client: Client) -> None:
    """Disconnect, and return once its network thread has ended.

    paho looks whether there is a thread and joins it then: one that ended in between is none to join.
    """
    client.disconnect()
    with suppress(AttributeError):
        client.loop_stop()


class Mqtt:
    """A small MQTT client: what it subscribed and what came."""

    def __init__(self, port: int, name: str, password: str | None, session: str = "") -> None:
        self.connected: queue.Queue[bool] = queue.Queue()
        self.granted: queue.Queue[int] = queue.Queue()
        self.came: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.client = Client(
            CallbackAPIVersion.VERSION2, client_id=session or f"test-{id(self)}", clean_session=not session
        )
        if password is not None:
            self.client.username_pw_set(name, password)
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self.connected.put(not reason.is_failure)
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.granted.put(codes[0].value)
        self.client.on_message = lambda _c, _u, message: self.came.put(
            (message.topic, bytes(message.payload))
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def subscribe(self, topic: str) -> int:
        self.client.subscribe(topic, qos=1)
        return self.granted.get(timeout=5)

    def publish(self, topic: str, payload: bytes) -> None:
        self.client.publish(topic, payload, qos=1).wait_for_publish(5)

    def close(self) -> None:
        leave(self.client)
