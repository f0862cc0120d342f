"""From values to MQTT messages: payloads as devices write them, published with a bound on what is in flight."""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Protocol, Self

import orjson

from firmware_sim.settings import DeviceSettings
from shared.paho import MqttClient, open_mqtt

BATCH_READINGS: Final = 500


class Publisher(Protocol):
    """Where messages go: `publish` returns once the broker confirmed."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        """Publish one message."""
        ...


@asynccontextmanager
async def device_client(settings: DeviceSettings) -> AsyncIterator[MqttClient]:
    """The MQTT connection of simulated devices; it publishes only, so the broker keeps no session for it."""
    client_id = settings.mqtt_client_id or f"sim-{secrets.token_hex(8)}"
    async with open_mqtt(
        settings.mqtt_url,
        client_id=client_id,
        username=settings.mqtt_username,
        password=settings.mqtt_password.get_secret_value(),
        clean=True,
    ) as client:
        yield client


def milliseconds(time_us: int) -> int | float:
    """Epoch ms of a payload; a fraction carries the µs (exact: 16 digits fit a double)."""
    return time_us // 1000 if time_us % 1000 == 0 else time_us / 1000


def reading(time_us: int, value: float, unit: str) -> dict[str, Any]:
    """One reading as a device writes it."""
    return {"ts": milliseconds(time_us), "value": value, "unit": unit, "quality": "good"}


def batches(times_us: Sequence[int], values: Sequence[float], unit: str) -> list[tuple[int, bytes]]:
    """(count, payload) of batches of at most 500 readings; NaN, which means nothing was measured, is left out."""
    readings = [
        reading(time_us, value, unit)
        for time_us, value in zip(times_us, values, strict=True)
        if not math.isnan(value)
    ]
    parts = [readings[at : at + BATCH_READINGS] for at in range(0, len(readings), BATCH_READINGS)]
    return [(len(part), orjson.dumps(part)) for part in parts]


class Pipeline:
    """Publishes in order with at most `limit` messages unconfirmed. Leaving the block waits for the rest."""

    def __init__(self, publisher: Publisher, limit: int) -> None:
        self._publisher = publisher
        self._slots = asyncio.Semaphore(limit)
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, topic: str, payload: bytes) -> None:
        """Hand a message over; waits for a free slot. Raises what an earlier message raised."""
        await self._slots.acquire()
        self._reap()
        self._tasks.add(asyncio.create_task(self._publish(topic, payload)))

    async def drain(self) -> None:
        """Return once every message is confirmed. Raises what one of them raised."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._reap()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _publish(self, topic: str, payload: bytes) -> None:
        try:
            await self._publisher.publish(topic, payload, qos=1)
        finally:
            self._slots.release()

    def _reap(self) -> None:
        done = {task for task in self._tasks if task.done()}
        self._tasks -= done
        for task in done:
            task.result()
