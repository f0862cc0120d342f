"""A look now and then at machines that no edge looks after: assets, and what the store has of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog

from cloud.api.fleet import Fleet
from cloud.api.models import ModelDetail
from cloud.assets.model import Kind
from cloud.assets.port import AssetReader, Wanted
from cloud.telemetry.port import DAY_US, HOUR_US, TelemetryReader
from shared.clock import Clock
from shared.errors import NotFound, Unavailable
from shared.events import AnomalyEnded, AnomalyStarted

log = structlog.get_logger()

LOOK_SECONDS: Final = 5.0
MACHINES_A_LOOK: Final = 20
"""Of how many machines a look asks the store; the others' turn comes at the next ones."""
_EPISODES: Final = (AnomalyStarted.type, AnomalyEnded.type)
_PAGE: Final = 1000

Models = Callable[[], Awaitable[tuple[Sequence[ModelDetail], Mapping[str, int]]]]


class Looking:
    """Reads what the log's followers can't know: who there is, and what was before."""

    def __init__(
        self,
        fleet: Fleet,
        store: TelemetryReader,
        models: Models,
        assets: AssetReader | None,
        clock: Clock,
    ) -> None:
        """Without `assets` who has readings is there."""
        self._fleet, self._others = fleet, fleet.others
        self._store, self._models, self._assets, self._clock = store, models, assets, clock
        self._turn = 0
        self._looked: dict[str, int] = {}

    async def run(self) -> None:
        """Look for ever; what is away is waited for."""
        while True:
            try:
                await self.look()
            except (Unavailable, NotFound) as error:  # NotFound: the log's topics are not made yet
                log.debug("machines with no edge can't be looked at now", why=str(error))
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Once. Raises Unavailable."""
        self._turn += 1
        self._others.keep(*await self._there())
        models, _ = await self._models()
        self._others.models = {model.version_hash: model for model in models}
        waiting = sorted(self._fleet.unassigned(), key=lambda machine: self._looked.get(machine, 0))
        self._looked = {machine: self._looked.get(machine, 0) for machine in waiting}
        for machine in waiting[:MACHINES_A_LOOK]:
            await self._look_at(machine)
            self._looked[machine] = self._turn

    async def _there(self) -> tuple[dict[str, str], frozenset[str]]:
        if self._assets is None:
            return {each.machine: "" for each in await self._store.series()}, frozenset()
        sites: dict[str, str] = {}
        retired: set[str] = set()
        after, more = ("", ""), True
        while more:
            page = await self._assets.assets(Wanted(kind=Kind.MACHINE, retired=True), after, _PAGE)
            for asset in page.items:
                if asset.retired_at is not None:
                    retired.add(asset.id)
                else:
                    sites[asset.id] = str(asset.fields.get("site") or "")
                after = (asset.kind, asset.id)
            more = page.more
        return sites, frozenset(retired)

    async def _look_at(self, machine: str) -> None:
        latest = await self._store.latest(machine)
        self._others.take_latest(machine, latest)
        self._fleet.stored(machine, latest)
        newest = max((each.time_us for each in latest), default=None)
        if newest is not None:
            for body in await self._store.scores(machine, newest - DAY_US, newest + HOUR_US, 1, newest=True):
                self._others.take_scores(machine, body)
        for stored in await self._store.events(machine, _EPISODES, limit=1):
            self._others.take_event(machine, stored.fact.json)
