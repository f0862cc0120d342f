"""The models that are served: each machine's champion, and any registered version by its hash.

A promotion is followed from the log. The new version is fetched, checked against its hash, tested with its own probe
(the first time by a child with resource limits) and only then swapped in, in one step: a request that began with the
old one ends with it, and none waits or fails. A version that does not pass leaves the old one at work.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from cloud.inference.batching import Batcher
from cloud.inference.metrics import Metrics
from shared.clock import Clock
from shared.errors import NotFound, Rejected, Unavailable
from shared.eventlog import EventLog
from shared.loaded import Desired, Load, LoadedModel, load_model
from shared.names import MODELS

log = structlog.get_logger()

_RETRY_SECONDS = 1.0
_RETRY_CAP_SECONDS = 30.0


@dataclass(frozen=True)
class Catalog:
    """What the registry says: each machine's champion, and every version by hash with the machine that it is for."""

    champions: Mapping[str, Desired] = field(default_factory=dict)
    versions: Mapping[str, tuple[str, Desired]] = field(default_factory=dict)


Look = Callable[[], Awaitable[Catalog]]
"""The registry as it is now. Raises Unavailable."""
Fetch = Callable[[str], Awaitable[bytes]]
"""An artifact's bytes by its object's name. Raises NotFound, Unavailable."""


@dataclass(frozen=True)
class Served:
    """A version that is loaded, and what its requests share."""

    model: LoadedModel
    batcher: Batcher


class Models:
    """The loaded versions, at most `kept`; the one unused longest makes room and is loaded again when asked for."""

    def __init__(
        self,
        look: Look,
        fetch: Fetch,
        load: Load,
        serve: Callable[[LoadedModel], Batcher],
        metrics: Metrics,
        clock: Clock,
        *,
        kept: int,
    ) -> None:
        self._look, self._fetch, self._load, self._serve = look, fetch, load, serve
        self._metrics = metrics
        self._clock, self._kept = clock, kept
        self._catalog: Catalog | None = None
        self._active: dict[str, Desired] = {}
        self._loaded: dict[str, Served] = {}
        self._loading: dict[str, asyncio.Task[Served]] = {}
        self._proven: set[str] = set()

    def problem(self) -> str:
        """For readiness."""
        return "" if self._catalog is not None else "the registry was not read yet"

    async def champion(self, machine: str) -> Served:
        """What serves the machine now. Raises NotFound (none is promoted), Unavailable, Rejected (it can't be loaded)."""
        desired = self._active.get(machine)
        if desired is None:
            desired = self._known().champions.get(machine)
            if desired is None:
                raise NotFound(f"no model is promoted for a machine {machine!r}")
            served = await self._served(desired)
            self._active.setdefault(machine, desired)
            return served
        return await self._served(desired)

    async def version(self, machine: str, version_hash: str) -> Served:
        """A registered version of the machine. Raises NotFound, Unavailable, Rejected."""
        owner, desired = self._known().versions.get(version_hash, ("", None))
        if desired is None or owner != machine:
            raise NotFound(f"{machine!r} has no registered version {version_hash[:12]}…")
        return await self._served(desired)

    async def follow(self, events: EventLog) -> None:
        """Bring what is served to what is promoted, for ever."""
        async with asyncio.TaskGroup() as swaps:
            while True:
                try:
                    position = await events.end(MODELS)
                    await self._refresh(swaps)
                    async for _ in events.read(MODELS, position, follow=True):
                        await self._refresh(swaps)
                except Unavailable as error:
                    log.info("the registry can't be read now", why=str(error))
                    await self._clock.sleep(error.retry_after)

    async def _refresh(self, swaps: asyncio.TaskGroup) -> None:
        self._catalog = await self._look()
        self._proven &= self._catalog.versions.keys()
        for machine, running in list(self._active.items()):
            desired = self._catalog.champions.get(machine)
            if desired is not None and desired != running:
                swaps.create_task(self._swap(machine, desired), name=f"model of {machine}")

    async def _swap(self, machine: str, desired: Desired) -> None:
        """Load the version and let it serve; as long as it is still the one that is wanted."""
        delay = _RETRY_SECONDS
        while self._known().champions.get(machine) == desired and self._active.get(machine) != desired:
            try:
                await self._served(desired)
            except Unavailable as error:
                log.info("a promoted model can't be fetched yet", machine=machine, why=str(error))
                await self._clock.sleep(delay)
                delay = min(2 * delay, _RETRY_CAP_SECONDS)
            except (NotFound, Rejected) as error:
                self._metrics.reloads.labels("refused").inc()
                log.error(  # noqa: TRY400 - what happened is in the reason
                    "a promoted model is refused; the old one serves on",
                    machine=machine,
                    model=desired.model,
                    version=desired.version,
                    reason=str(error),
                )
                return
            else:
                # Asked twice for one version (its registration and its promotion came together), it is swapped once.
                wanted = self._known().champions.get(machine) == desired
                if wanted and self._active.get(machine) != desired:
                    self._active[machine] = desired
                    self._metrics.reloads.labels("swapped").inc()
                    log.info("model swapped", machine=machine, model=desired.model, version=desired.version)

    def _known(self) -> Catalog:
        if self._catalog is None:
            raise Unavailable(self.problem())
        return self._catalog

    async def _served(self, desired: Desired) -> Served:
        """The loaded version; loaded once however many ask."""
        served = self._loaded.pop(desired.sha256, None)
        if served is None:
            task = self._loading.get(desired.sha256)
            if task is None:
                task = asyncio.create_task(self._make(desired), name=f"load {desired.sha256[:12]}")
                self._loading[desired.sha256] = task
                task.add_done_callback(lambda done: self._loading_ended(desired.sha256, done))
            served = await asyncio.shield(task)
            self._loaded.pop(desired.sha256, None)
        self._loaded[desired.sha256] = served  # at the end: used last
        while len(self._loaded) > self._kept:
            del self._loaded[next(iter(self._loaded))]
        self._metrics.loaded.set(len(self._loaded))
        return served

    def _loading_ended(self, sha256: str, task: "asyncio.Task[Served]") -> None:
        del self._loading[sha256]
        if not task.cancelled():
            task.exception()  # whoever asked may have gone

    async def _make(self, desired: Desired) -> Served:
        data = await self._fetch(desired.object_name)
        load = load_model if desired.sha256 in self._proven else self._load
        model = await asyncio.to_thread(load, desired, data)
        self._proven.add(desired.sha256)
        return Served(model, self._serve(model))
