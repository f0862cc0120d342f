"""Ending a paho client of a test."""

from contextlib import suppress

from paho.mqtt.client import Client


def leave(client: Client) -> None:
    """Disconnect, and return once its network thread has ended.

    paho looks whether there is a thread and joins it then: one that ended in between is none to join.
    """
    client.disconnect()
    with suppress(AttributeError):
        client.loop_stop()
