"""Devices under load that know what they were promised: every reading they sent, and which the broker confirmed."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from shared.paho import MqttClient, open_mqtt
from tests.faults.background import Background

SITE = "s1"
SENSORS = ("pressure", "flow")
_TICK_S = 0.05
_IN_FLIGHT = 400
_ROWS = (1, 1, 1, 1, 1, 10)


class Identity(NamedTuple):
    """A reading's, everywhere."""

    machine: str
    sensor: str
    time_us: int


class Device:
    """One machine at one broker. The n-th reading of a sensor has value n and a time of its own.

    `sent` is identity to value of what was given to the client; `confirmed` are the messages with a PUBACK, in order.
    """

    def __init__(self, machine: str, url: str, credentials: str, *, seed: str, per_second: float) -> None:
        self.machine = machine
        self.sent: dict[Identity, float] = {}
        self.confirmed: list[tuple[Identity, ...]] = []
        self.messages = 0
        self.last: Identity | None = None
        self.per_second = per_second
        self._url, self._credentials = url, credentials
        self._rng = random.Random(seed)
        self._number = dict.fromkeys(SENSORS, 0)
        self.start_ms = time.time_ns() // 1_000_000 - 3_600_000
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._halt = asyncio.Event()

    @property
    def acked(self) -> list[Identity]:
        """The readings that the broker confirmed."""
        return [identity for message in self.confirmed for identity in message]

    @property
    def in_flight(self) -> int:
        """Messages that wait for their PUBACK."""
        return self.messages - len(self.confirmed)

    def numbers(self, sensor: str) -> int:
        """How many readings of a sensor were given to the client."""
        return self._number[sensor]

    async def run(self) -> None:
        """Publish until told to halt; returns when the broker has confirmed all, the last reading after all others."""
        username, password = self._credentials.split(":")
        async with open_mqtt(
            self._url, client_id=f"device-{self.machine}", username=username, password=password, clean=True
        ) as client:
            async with asyncio.TaskGroup() as publishing:
                owed = 0.0
                while not self._halt.is_set():
                    owed = min(owed + self.per_second * _TICK_S, _IN_FLIGHT)
                    while owed >= 1 and not self._halt.is_set():
                        owed -= 1
                        await self._slots.acquire()
                        publishing.create_task(self._publish(client, self._next(self._rng.choice(_ROWS))))
                    await asyncio.sleep(_TICK_S)
            await self._slots.acquire()
            mark = self._next(1)
            self.last = mark[0]
            await self._publish(client, mark)

    def halt(self) -> None:
        """Send no more. To be called in the load's loop."""
        self._halt.set()

    def _next(self, count: int) -> tuple[Identity, ...]:
        sensor = self._rng.choice(SENSORS)
        first = self._number[sensor]
        self._number[sensor] += count
        rows = {
            Identity(self.machine, sensor, (self.start_ms + n) * 1000): float(n)
            for n in range(first, first + count)
        }
        self.sent |= rows
        self.messages += 1
        return tuple(rows)

    async def _publish(self, client: MqttClient, rows: Sequence[Identity]) -> None:
        try:
            items = [{"ts": each.time_us // 1000, "value": self.sent[each], "unit": "bar"} for each in rows]
            payload = orjson.dumps(items if len(items) > 1 else items[0])
            await client.publish(f"plant/{SITE}/{self.machine}/{rows[0].sensor}", payload)
            self.confirmed.append(tuple(rows))
        finally:
            self._slots.release()


class Load:
    """Devices, running in the background."""

    def __init__(self, background: Background, devices: list[Device]) -> None:
        self.devices = {device.machine: device for device in devices}
        self._background = background
        self._running = [background.start(device.run()) for device in devices]

    def stop(self, seconds: float) -> None:
        """Let every device send its last reading; returns when all is confirmed. Raises TimeoutError."""
        for device in self.devices.values():
            self._background.loop.call_soon_threadsafe(device.halt)
        until = time.monotonic() + seconds
        for running in self._running:
            running.result(max(0.0, until - time.monotonic()))

    def confirmed(self) -> int:
        """Messages confirmed so far, of all machines."""
        return sum(len(device.confirmed) for device in self.devices.values())
