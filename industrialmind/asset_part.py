"""The assets in the cloud process: their owner, its tables, and what it sees of the plant."""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from cloud.api.live import Broadcaster
from cloud.assets.app import Metrics, Owner
from cloud.assets.commands import Commands
from cloud.assets.port import Projection
from cloud.assets.settings import AssetsSettings
from cloud.assets.sightings import Sightings
from cloud.telemetry.port import TelemetryReader
from industrialmind.model_answers import ModelAnswers
from shared.clock import Clock
from shared.errors import Rejected
from shared.eventlog import EventLog
from shared.events import EdgeStarted, Event, NodeOnline, parse_event
from shared.nats import ControlPlane
from shared.sqlalchemy import open_database

BIRTHS: Final = (EdgeStarted.type, NodeOnline.type)
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
        self._control, self._store, self._live, self._models = control, store, live, models
        self._seq: int | None = None

    async def see(self) -> Sightings:
        """All there is to be seen now. Raises Unavailable."""
        registered, _ = await self._models.models()
        wanted = {model.machine: model.manifest for model in registered if model.promoted_to}
        series = await self._store.series()
        return Sightings(
            assignments=await self._control.assignments(),
            series=[(each.machine, each.sensor, each.unit) for each in series],
            sites=dict(self._live.sites),
            births=await self._births(),
            models=list(wanted.items()),
        )

    async def _births(self) -> list[Event]:
        found = await self._store.events(types=BIRTHS, limit=MAX_BIRTHS, after_seq=self._seq)
        in_order = found if self._seq is not None else list(reversed(found))
        self._seq = max((one.seq for one in found), default=self._seq or 0)
        births: list[Event] = []
        for one in in_order:
            with suppress(Rejected):  # a later release's
                births.append(parse_event(one.fact.json))
        return births


async def follow_assets(part: AssetsPart | None, eyes: Eyes, settings: AssetsSettings) -> None:
    """Let assets appear, for ever."""
    if part is None:
        await asyncio.Event().wait()
    else:
        await part.owner.run(eyes.see, settings.look_seconds)
