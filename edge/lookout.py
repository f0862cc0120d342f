"""Scores and local alarms while the outbox takes nothing: a full disk, one that can't be written, nothing left to thin.

What arrives then is not acknowledged, so after a while the broker sends no more of it, and scoring has nothing to do. So
the machines are watched beside it: copies of their scoring get the live messages by a connection of their own, at QoS 0, and
speak on the local topics. Nothing that the copies make is kept. Every message comes by the first connection as well, once it
can be committed, and is scored by the scoring proper; when that has caught up the copies are forgotten (ADR 36).
"""

import asyncio
import copy
import secrets
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, Gauge

from edge.intake import Intake
from edge.local import LocalBroker
from edge.mapping.gathered import Gathered
from edge.reading import MessageReader
from edge.scorer import ScoringLoop, take_rows, windows_in
from edge.scoring import MachineScoring
from shared.clock import Clock
from shared.errors import Misconfigured, Unavailable
from shared.frames import Readings
from shared.paho import MqttClient

log = structlog.get_logger()

GRACE_SECONDS: Final = 1.0
"""A disk that refuses for so long is worth a second connection; until then what was taken is being scored anyway."""
CONNECT_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 5.0
"""Where the first connection brings nothing for so long there is nothing to catch up with."""
_LOOK_SECONDS: Final = 0.25
_BATCH: Final = 500


class Open(Protocol):
    """Opens another connection to the devices' broker, under the first one's client id and `suffix`."""

    def __call__(self, *, suffix: str, clean: bool) -> AbstractAsyncContextManager[MqttClient]:
        """As `open_mqtt` does."""


class Lookout:
    """Swaps copies into `shown`, from which states and alarms are told, and the scoring proper back.

    `trouble` says why it can't, empty if it can or need not.
    """

    def __init__(
        self,
        open_client: Open,
        devices: MqttClient,
        intake: Intake,
        reader: MessageReader,
        scorer: ScoringLoop,
        scoring: Mapping[str, MachineScoring],
        shown: MutableMapping[str, MachineScoring],
        local: LocalBroker,
        clock: Clock,
        registry: CollectorRegistry,
        *,
        on_change: Callable[[], None],
    ) -> None:
        self._open, self._devices, self._intake, self._reader = open_client, devices, intake, reader
        self._scorer, self._scoring, self._shown, self._local = scorer, scoring, shown, local
        self._clock, self._on_change = clock, on_change
        self._bound = False
        self.trouble = ""
        self._on = Gauge(
            "im_edge_lookout", "1 while machines are watched beside an outbox that refuses", registry=registry
        )

    async def run(self) -> None:
        """For ever: whenever the outbox refuses, keep watch until it takes again and all that waited was scored."""
        while True:
            await self._intake.refused.wait()
            await self._clock.sleep(GRACE_SECONDS)
            if not self._intake.refused.is_set():
                self.trouble = ""
            elif not self._bound:
                await self._try()

    async def _try(self) -> None:
        suffix = f"-live-{secrets.token_hex(4)}"  # MQTT would let a namesake take the session over
        try:
            await self._probe(suffix)
            if not self._bound:
                await self._watch(suffix)
        except (Unavailable, Misconfigured, TimeoutError) as error:
            trouble = f"no second connection to the devices' broker: {error}"
            if trouble != self.trouble:
                log.warning("scores and local alarms will stop", why=trouble)
            self.trouble = trouble

    async def _probe(self, suffix: str) -> None:
        """See that the broker takes us under the new name.

        One that binds ids to users gives us the first connection's session instead. To ask for a clean one would wipe it, with
        all that waits there; so this asks for none, and goes at once.
        """
        async with self._open(suffix=suffix, clean=False) as client:
            await client.wait_connected(CONNECT_SECONDS)
            self._bound = client.session_present
        if self._bound:
            self.trouble = (
                "the devices' broker allows no second connection: it binds the client id to the user"
            )
            log.warning("scores and local alarms will stop", why=self.trouble)

    async def _watch(self, suffix: str) -> None:
        async with self._open(suffix=suffix, clean=True) as client:
            await client.wait_connected(CONNECT_SECONDS)
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.subscribe(*self._filters(), qos=0)
            copies, reader = await self._scorer.copies(), copy.deepcopy(self._reader)
            self._shown.update(copies)
            self._local.speak_through(client)
            self._on.set(1)
            self.trouble = ""
            log.warning("machines are watched beside the outbox, which takes nothing")
            try:
                async with asyncio.TaskGroup() as group:
                    listening = group.create_task(self._listen(client, reader, copies))
                    await self._until_caught_up(copies)
                    listening.cancel()
            finally:
                self._shown.update(self._scoring)
                self._local.speak_through(self._devices)
                self._on.set(0)
                self._on_change()
            log.info("the outbox takes again, and all that waited was scored")

    def _filters(self) -> list[str]:
        mapped = self._reader.mapped
        nodes = mapped.node_filters() if mapped is not None and mapped.has_nodes else []
        return [*self._reader.filters(), *nodes]

    async def _listen(
        self, client: MqttClient, reader: MessageReader, copies: Mapping[str, MachineScoring]
    ) -> None:
        """Score what is live. What can't be read is told by the intake, once, when it comes there."""
        while True:
            messages = [each for each in await client.receive(_BATCH) if not each.retain]
            out = Gathered()
            joined, _ = reader.limited(reader.read(messages, self._clock, out), out)
            for machine, rows in joined.items():
                await self._score(machine, copies[machine], rows)

    async def _score(self, machine: str, scoring: MachineScoring, rows: Readings) -> None:
        outcome, _ = await take_rows(scoring, rows)
        if outcome.changed:
            self._on_change()
        if outcome.changed or windows_in(outcome):
            self._local.tell(machine)

    async def _until_caught_up(self, copies: Mapping[str, MachineScoring]) -> None:
        """Return once the outbox takes and the scoring proper is as far as the copies were when it began to."""
        goal: dict[str, int] | None = None
        idle = 0.0
        while True:
            if self._intake.refused.is_set():
                goal = None
            elif goal is None:
                goal, idle = {machine: seen_until(each) for machine, each in copies.items()}, 0.0
            elif idle >= IDLE_SECONDS or all(
                seen_until(self._scoring[machine]) >= until for machine, until in goal.items()
            ):
                return
            await self._clock.sleep(_LOOK_SECONDS)
            idle = idle + _LOOK_SECONDS if self._intake.idle else 0.0


def seen_until(scoring: MachineScoring) -> int:
    """The event time of the newest of the rows that it was given last, in µs."""
    recent = scoring.recent
    return int(recent[-1].time_us.max()) if recent and len(recent[-1]) else 0
