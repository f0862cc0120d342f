"""A simulated Sparkplug edge node on a real broker: will, births, data, and rebirths when it is asked."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiomqtt

from shared.names import slug
from shared.sparkplug.births import REBIRTH
from shared.sparkplug.codec import decode, encode
from shared.sparkplug.datatypes import DataType
from shared.sparkplug.payload import Metric, Payload, Property, metric
from shared.sparkplug.state import HostState
from shared.sparkplug.topics import MessageType, NodeId, NodeTopic, StateTopic

TEMP, FLOW, MODE, STRANGER = 1, 2, 3, 99


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class SparkplugNode:
    """One session of a node with one device `Pump`. `states` are the host's; `rebirths` counts what it was asked, `commands` has how (QoS, retained).

    `obedient`: it answers a request for a rebirth with one.
    """

    def __init__(
        self,
        port: int,
        node: NodeId,
        *,
        host: str,
        bd_seq: int = 0,
        username: str = "im",
        password: str = "secret",  # noqa: S107 - of a server on the loopback
        obedient: bool = True,
    ) -> None:
        self.node, self.bd_seq, self.seq = node, bd_seq, 0
        self.states: list[HostState] = []
        self.rebirths = 0
        self.commands: set[tuple[int, bool]] = set()
        self._obedient = obedient
        self._host = str(StateTopic(host))
        self._changed = asyncio.Event()
        self._last_ms = 0
        death = Payload(now_ms(), (metric("bdSeq", DataType.INT64, bd_seq),))
        self._mqtt = aiomqtt.Client(
            "127.0.0.1",
            port,
            username=username,
            password=password,
            identifier=slug(f"{node} {bd_seq}"),
            will=aiomqtt.Will(str(NodeTopic(node, MessageType.NDEATH)), encode(death), qos=1),
        )
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._mqtt.__aenter__()
        await self._mqtt.subscribe(self._host, qos=1)
        await self._mqtt.subscribe(str(NodeTopic(self.node, MessageType.NCMD)), qos=1)
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        with contextlib.suppress(aiomqtt.MqttError):
            await self._mqtt.__aexit__(kind, error, trace)
        if self._mqtt._disconnected.done():
            self._mqtt._disconnected.exception()  # seen: it died as it was told to

    def die(self) -> None:
        """Vanish: the connection breaks off, and the broker publishes the will."""
        opened = self._mqtt._client.socket()
        assert isinstance(opened, socket.socket)
        opened.shutdown(socket.SHUT_RDWR)

    async def until(self, condition: Callable[["SparkplugNode"], bool]) -> None:
        """Return once what it heard satisfies `condition`."""
        async with asyncio.timeout(15):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def until_host(self, *, online: bool) -> HostState:
        """The host's last word, once it is this one."""
        await self.until(lambda node: bool(node.states) and node.states[-1].online is online)
        return self.states[-1]

    async def birth(self) -> None:
        """The node's birth and the device's."""
        self.seq = 0
        own = (
            metric("bdSeq", DataType.INT64, self.bd_seq),
            metric(REBIRTH, DataType.BOOLEAN, False),
            metric("Supply/Temp", DataType.FLOAT, 20.0, alias=TEMP, properties=_unit("°C")),
        )
        await self._send(MessageType.NBIRTH, *own)
        device = (
            metric("Flow", DataType.DOUBLE, 1.5, alias=FLOW, properties=_unit("m³/h")),
            metric("Mode", DataType.STRING, "auto", alias=MODE),
        )
        await self._send(MessageType.DBIRTH, *device, device="Pump")

    async def temp(self, value: float, *, ago_ms: int = 0) -> None:
        """The node's metric, by alias; `ago_ms` makes it history."""
        at = now_ms() - ago_ms if ago_ms else self._fresh()
        made = metric(
            None, DataType.FLOAT, value, alias=TEMP, timestamp=at, typeless=True, historical=bool(ago_ms)
        )
        await self._send(MessageType.NDATA, made)

    async def flow(self, value: float) -> None:
        """The device's metric, by alias."""
        made = metric(None, DataType.DOUBLE, value, alias=FLOW, timestamp=self._fresh(), typeless=True)
        await self._send(MessageType.DDATA, made, device="Pump")

    async def stranger(self) -> None:
        """A metric that is in no birth."""
        await self._send(MessageType.NDATA, metric(None, DataType.FLOAT, 1.0, alias=STRANGER, typeless=True))

    def skip(self, count: int) -> None:
        """Messages that nobody will hear."""
        self.seq = (self.seq + count) % 256

    async def death_of_device(self) -> None:
        """The device is gone."""
        await self._send(MessageType.DDEATH, device="Pump")

    async def _send(self, kind: MessageType, *metrics: Metric, device: str = "") -> None:
        payload = Payload(self._fresh(), metrics, self.seq)
        self.seq = (self.seq + 1) % 256
        await self._mqtt.publish(str(NodeTopic(self.node, kind, device)), encode(payload), qos=0)

    def _fresh(self) -> int:
        """A time that was not used yet."""
        self._last_ms = max(now_ms(), self._last_ms + 1)
        return self._last_ms

    async def _listen(self) -> None:
        async for message in self._mqtt.messages:
            assert isinstance(message.payload, bytes)
            if str(message.topic) == self._host:
                self.states.append(HostState.decode(message.payload))
            elif any(each.name == REBIRTH for each in decode(message.payload).metrics):
                self.rebirths += 1
                self.commands.add((message.qos, message.retain))
                if self._obedient:
                    await self.birth()
            self._changed.set()


def _unit(unit: str) -> dict[str, Property]:
    return {"engUnit": Property(DataType.STRING, unit)}
