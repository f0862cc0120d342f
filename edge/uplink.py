"""The uplink: frames from the outbox to the gateway, acknowledged ranges back, for ever.

A PUBACK only says that the broker has the message, and a denied publish gets one, too: nothing is freed by it.
"""

import asyncio
from contextlib import suppress

import structlog
from prometheus_client import CollectorRegistry, Counter

from edge.flight import Flight
from edge.outbox import Outbox
from edge.outbox_frames import FrameRef
from edge.waiting import event_or_time
from shared.clock import Clock
from shared.errors import Rejected, Unavailable
from shared.names import UplinkTopic
from shared.paho import MqttClient, MqttMessage
from shared.uplink import CUT_AFTER_SECONDS, Ack

log = structlog.get_logger()

_ACKS_A_BATCH = 100


class Uplink:
    """One outbox's way to the log over one MQTT connection."""

    def __init__(
        self,
        client: MqttClient,
        outbox: Outbox,
        flight: Flight,
        clock: Clock,
        registry: CollectorRegistry,
        *,
        site: str,
        edge: str,
    ) -> None:
        self._client, self._outbox, self._flight, self._clock = client, outbox, flight, clock
        self._edge = edge
        self._ordinary = str(UplinkTopic(site, edge, "frames"))
        self._urgent = str(UplinkTopic(site, edge, "urgent"))
        self._acks = str(UplinkTopic(site, edge, "acks"))
        self._due = asyncio.Event()
        self._waiting = asyncio.Event()
        self._held = False
        self._publishing: set[int] = set()
        self._sent = Counter("im_edge_frames_sent", "Frames published, resends included", registry=registry)
        self._freed = Counter(
            "im_edge_frames_freed", "Frames that the event log confirmed", registry=registry
        )
        self._refused = Counter(
            "im_edge_acks_refused", "Acks that were not for this outbox", registry=registry
        )
        outbox.listen(self._on_frames, self._on_thinned)

    async def start(self) -> None:
        """Take up what the outbox kept from before."""
        self._on_frames(await self._outbox.frames())
        self.rows_waiting()

    def rows_waiting(self) -> None:
        """Rows were committed and want their cut."""
        self._waiting.set()

    def _on_frames(self, frames: list[FrameRef]) -> None:
        self._flight.add(frames)
        self._due.set()

    def _on_thinned(self, gone: list[int], made: list[FrameRef]) -> None:
        self._flight.free(gone)
        self._flight.add(made, old=True)
        self._due.set()

    async def watch_link(self) -> None:
        """On each new connection what is in flight goes out again, and what was held back may be cut."""
        while True:
            await self._client.connected.wait()
            self._flight.link_up()
            self._room()
            await self._client.wait_lost()

    def _room(self) -> None:
        self._due.set()
        if self._held:
            self._waiting.set()

    async def cut(self) -> None:
        """Cut what waits: after 100 ms while the link is up and has room, else only what fills a frame."""
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            await self._clock.sleep(CUT_AFTER_SECONDS)
            partial = self._client.connected.is_set() and self._flight.has_room
            self._held = not partial
            try:
                await self._outbox.cut(partial=partial)
            except Unavailable as error:
                log.warning("the cut has to wait", reason=str(error))
                await self._clock.sleep(error.retry_after)
                self._waiting.set()

    async def send(self) -> None:
        """Publish what is due, as long as there is a connection."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._client.connected.wait()
                for ref in self._flight.take():
                    # One still waiting for its PUBACK is sent again by the MQTT client itself.
                    if ref.first not in self._publishing:
                        self._publishing.add(ref.first)
                        group.create_task(self._publish(ref), name=f"frame {ref.first}")
                await event_or_time(self._due, self._clock, self._flight.next_due())

    async def _publish(self, ref: FrameRef) -> None:
        try:
            data = await self._outbox.data(ref.first)
            if data is None:  # freed meanwhile, or damaged and set aside: either way not in flight
                self._flight.free([ref.first])
                self._room()
                return
            self._sent.inc()
            await self._client.publish(self._urgent if ref.urgent else self._ordinary, data)
        except Unavailable as error:  # the frame stays in flight and is overdue soon
            log.info("a frame was not published", first=ref.first, reason=str(error))
        finally:
            self._publishing.discard(ref.first)

    async def take_acks(self) -> None:
        """Free what the log confirmed."""
        await self._client.subscribe(self._acks)
        while True:
            messages = await self._client.receive(_ACKS_A_BATCH)
            acks = [ack for message in messages if (ack := self._parsed(message)) is not None]
            await self._free(acks)
            self._client.ack(messages)
            self._room()

    async def _free(self, acks: list[Ack]) -> None:
        ranges = [pair for ack in acks for pair in ack.ranges]
        while ranges:
            try:
                freed = await self._outbox.free(ranges)
            except Unavailable as error:
                log.warning("acknowledged rows can't be freed yet", reason=str(error))
                await self._clock.sleep(error.retry_after)
                continue
            self._flight.free(freed)
            self._freed.inc(len(freed))
            return

    def _parsed(self, message: MqttMessage) -> Ack | None:
        with suppress(Rejected):
            ack = Ack.decode(message.payload)
            if ack.edge == self._edge and ack.epoch == self._outbox.epoch:
                return ack
        self._refused.inc()
        log.debug("an ack that is not for this outbox", topic=message.topic)
        return None
