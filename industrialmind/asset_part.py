"""The assets in the cloud process: their owner, its tables, and what it sees of the plant."""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from cloud.api.live import Broadcaster
from cloud.assets.app import Metrics, Owner
from cloud.assets.commands import Commands
from cloud.assets.port import Projection
from cloud.assets.settings import AssetsSettings
from cloud.assets.sightings import Sightings
from cloud.registry.logic import ANOMALY
from cloud.telemetry.port import StoredEvent, TelemetryReader
from industrialmind.model_answers import ModelAnswers
from shared.clock import Clock
from shared.errors import Conflict, NotFound, Rejected, Unavailable
from shared.eventlog import EventLog
from shared.events import EdgeStarted, Event, NodeOnline, parse_event
from shared.machine_events import MachineCounted
from shared.nats import ControlPlane
from shared.sqlalchemy import open_database

log = structlog.get_logger()

BIRTHS: Final = (EdgeStarted.type, NodeOnline.type)
MAX_COUNTED: Final = 200
MAX_BIRTHS: Final = 1000
"""Births that one look takes: at first the newest ones, then those that came since."""


@dataclass(frozen=True, slots=True)
class AssetsPart:
    """The owner, the tables to read, and how people change them."""

    owner: Owner
    reader: Projection
    commands: Commands


async def open_assets_part(
    stack: AsyncExitStack, url: str, events: EventLog, clock: Clock, registry: CollectorRegistry
) -> AssetsPart | None:
    """The part in the database `url`; None where there is none. Raises Misconfigured, Unavailable."""
    if not url:
        return None
    from cloud.assets.sql import open_assets  # noqa: PLC0415 - only who has a database loads SQLAlchemy

    database = await stack.enter_async_context(open_database(url, setting="api.app_url"))
    reader = await open_assets(database)
    owner = Owner(events, reader, clock, Metrics(registry))
    return AssetsPart(owner, reader, Commands(owner, clock))


class Eyes:
    """Looks at everything; births are read on from the last look."""

    def __init__(
        self, control: ControlPlane, store: TelemetryReader, live: Broadcaster, models: ModelAnswers
    ) -> None:
        self._control, self.store, self._live, self._models = control, store, live, models
        self._seq: int | None = None
        self._newest: int | None = None
        self._born: dict[tuple[str, str], Event] = {}

    async def see(self) -> Sightings:
        """All there is to be seen now. Raises Unavailable."""
        registered, _ = await self._models.models()
        wanted = {
            model.machine: model.manifest
            for model in registered
            if model.promoted_to and model.purpose == ANOMALY  # life models know no ranges
        }
        series = await self.store.series()
        return Sightings(
            assignments=await self._control.assignments(),
            series=[(each.machine, each.sensor, each.unit) for each in series],
            sites=dict(self._live.sites),
            births=await self._births(),
            models=list(wanted.items()),
        )

    async def _births(self) -> list[Event]:
        """The last birth of each; kept, so that one whose look failed is not forgotten."""
        newest = await self.store.events(types=BIRTHS, limit=1)
        if not newest:
            return []
        found: list[StoredEvent] = []
        if self._seq is not None:
            found = await self.store.events(types=BIRTHS, limit=MAX_BIRTHS, after_seq=self._seq)
        if self._seq is None or (not found and newest[0].seq != self._newest):
            # At first; and where the store was made anew, which numbers its events anew.
            found = list(reversed(await self.store.events(types=BIRTHS, limit=MAX_BIRTHS)))
        self._newest = newest[0].seq
        self._seq = max((one.seq for one in found), default=self._seq)
        for one in found:
            with suppress(Rejected):  # a later release's
                event = parse_event(one.fact.json)
                known = self._born.get((event.type, event.subject), event)
                self._born[event.type, event.subject] = max(event, known, key=lambda each: each.occurred_at)
        return list(self._born.values())


class Counting:
    """Brings counters to what edges count, in the store's order; what was counted before changes nothing."""

    def __init__(self, owner: Owner, store: TelemetryReader) -> None:
        self._owner, self._store = owner, store
        self._seq = 0

    async def look(self) -> bool:
        """Take what is new, at most MAX_COUNTED events; whether there may be more. Raises Unavailable, Conflict, NotFound."""
        kinds = (MachineCounted.type,)
        found = await self._store.events(types=kinds, limit=MAX_COUNTED, after_seq=self._seq)
        if not found:
            newest = await self._store.events(types=kinds, limit=1)
            if newest and newest[0].seq < self._seq:  # the store was made anew, and numbers its events anew
                self._seq = 0
                return True
            return False
        counted = []
        for one in found:
            with suppress(Rejected):  # a later release's
                event = parse_event(one.fact.json)
                if isinstance(event, MachineCounted):
                    counted.append(event)
        await self._owner.count(counted)
        self._seq = found[-1].seq
        return len(found) == MAX_COUNTED

    async def run(self, clock: Clock, seconds: float) -> None:
        """For ever; what is away is waited for."""
        while True:
            try:
                more = await self.look()
            except (Unavailable, Conflict, NotFound) as error:
                log.info("counters can't be brought up now", why=str(error))
                more = False
            if not more:
                await clock.sleep(seconds)


async def follow_assets(part: AssetsPart | None, eyes: Eyes, settings: AssetsSettings, clock: Clock) -> None:
    """Let assets appear and counters run, for ever."""
    if part is None:
        await asyncio.Event().wait()
    else:
        counting = Counting(part.owner, eyes.store)
        await asyncio.gather(
            part.owner.run(eyes.see, settings.look_seconds), counting.run(clock, settings.look_seconds)
        )
