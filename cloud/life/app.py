"""Remaining life over HTTP: of a machine's history in the store since it was last renewed, and of posted histories."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Path, Query, Response

from cloud.life.artifact import LifeArtifact, load_tried
from cloud.life.history import History, read_history
from cloud.life.runs import Runs, make_runs
from cloud.life.schemas import (
    LifeAnswer,
    LifeChange,
    LifeModelInfo,
    LifeMove,
    LifeRequest,
    LifeSpan,
    LifeTeller,
    LifeTellers,
)
from cloud.life.told import COVERAGES, Told, moved_by
from cloud.telemetry.port import BEGIN_US, DAY_US, HOUR_US, TelemetryReader
from shared.access import Principal, Right
from shared.asgi_access import needs
from shared.errors import NotFound, Rejected
from shared.loaded import Desired
from shared.names import ID_PATTERN
from shared.problems import documented

MOST_MOVES: Final = 3
AT_ONCE: Final = 4
Machine = Annotated[str, Path(pattern=f"^{ID_PATTERN}$")]
Reader = Annotated[Principal, Depends(needs(Right.READ))]
_RIGHT: Final = {"x-right": Right.READ.value}

Find = Callable[[str, str | None], Awaitable[Desired]]
"""A machine's life model, or its version by hash. Raises NotFound, Unavailable."""
Tellers = Callable[[], Awaitable[dict[str, Desired]]]
"""Machines whose life is told, each with the version that tells it. Raises Unavailable."""
Renewed = Callable[[str], Awaitable[int | None]]
"""When a machine was last renewed, as people say; None where nobody does. Raises Unavailable."""
Count = Callable[[str], None]


class LifeModels:
    """The loaded versions, at most `kept`; loaded when asked for, at most AT_ONCE at a time, each once for all who wait."""

    def __init__(self, find: Find, fetch: Callable[[str], Awaitable[bytes]], *, kept: int) -> None:
        self._find, self._fetch, self._kept = find, fetch, kept
        self._loaded: dict[str, LifeArtifact] = {}
        self._loading: dict[str, asyncio.Task[LifeArtifact]] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def get(self, machine: str, version_hash: str | None) -> tuple[Desired, LifeArtifact]:
        """Raises NotFound, Unavailable, Rejected (it can't be loaded)."""
        desired = await self._find(machine, version_hash)
        artifact = self._loaded.pop(desired.sha256, None)
        if artifact is None:
            artifact = await self._load(desired)
        self._loaded[desired.sha256] = artifact  # at the end: used last
        while len(self._loaded) > self._kept:
            del self._loaded[next(iter(self._loaded))]
        return desired, artifact

    async def _load(self, desired: Desired) -> LifeArtifact:
        """Whoever waits may go away: the others still wait for the same."""
        loading = self._loading.get(desired.sha256)
        if loading is None:
            loading = asyncio.create_task(self._fetched(desired), name=f"life model {desired.sha256[:12]}")
            self._loading[desired.sha256] = loading
            loading.add_done_callback(lambda done: self._over(desired.sha256, done))
        return await asyncio.shield(loading)

    def _over(self, version_hash: str, done: "asyncio.Task[LifeArtifact]") -> None:
        del self._loading[version_hash]
        if not done.cancelled():
            done.exception()  # whoever waits is told; where nobody does any more it is no news

    async def _fetched(self, desired: Desired) -> LifeArtifact:
        async with self._at_once:
            data = await self._fetch(desired.object_name)
            return await asyncio.to_thread(load_tried, data, expected_hash=desired.sha256)


@dataclass(frozen=True)
class _Asked:
    """A history, and how it came here."""

    runs: Runs
    duty: float
    renewed_by: str
    silent: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    stored: History | None = None


def life_router(
    models: LifeModels, tellers: Tellers, store: TelemetryReader, renewed: Renewed, count: Count
) -> APIRouter:
    """The endpoints."""
    router = APIRouter()

    async def answered(machine: str, desired: Desired, artifact: LifeArtifact, asked: _Asked) -> Response:
        answer = await asyncio.to_thread(answer_of, machine, desired, artifact, asked)
        count(answer.outcome)
        return Response(orjson.dumps(answer.model_dump()), media_type="application/json")

    @router.get("/v1/life", response_model=LifeTellers, openapi_extra=_RIGHT)
    async def told(_: Reader) -> Response:
        """Machines whose remaining life is told, each with the version that tells it."""
        found = await tellers()
        rows = [
            LifeTeller(machine=machine, name=one.model, version=one.version, version_hash=one.sha256)
            for machine, one in sorted(found.items())
        ]
        answer = LifeTellers(machines=rows)
        return Response(orjson.dumps(answer.model_dump()), media_type="application/json")

    @router.post("/v1/life", response_model=LifeAnswer, responses=documented(404), openapi_extra=_RIGHT)
    async def life(request: LifeRequest, _: Reader) -> Response:
        """Remaining life at the newest row of a posted history."""
        desired, artifact = await models.get(request.machine, request.version_hash)
        asked = await asyncio.to_thread(_posted, request, artifact)
        return await answered(request.machine, desired, artifact, asked)

    @router.get(
        "/v1/machines/{machine}/life",
        response_model=LifeAnswer,
        responses=documented(404),
        openapi_extra=_RIGHT,
    )
    async def latest_life(
        machine: Machine,
        _: Reader,
        since_us: Annotated[
            int | None,
            Query(ge=BEGIN_US, description="when it was last renewed; what people say if left out"),
        ] = None,
    ) -> Response:
        """The same of the machine's history in the store since it was last renewed."""
        desired, artifact = await models.get(machine, None)
        said = await renewed(machine) if since_us is None else since_us
        by = "asked" if since_us is not None else "first-reading" if said is None else "work-order"
        history = await read_history(store, machine, artifact.manifest, BEGIN_US if said is None else said)
        asked = _Asked(history.runs, history.duty, by, history.silent, stored=history)
        return await answered(machine, desired, artifact, asked)

    return router


def _posted(request: LifeRequest, artifact: LifeArtifact) -> _Asked:
    """Raises Rejected."""
    sensors = artifact.manifest.sensors
    nothing: list[float | None] = [None] * len(request.cycles)
    table = np.array([request.values.get(name, nothing) for name in sensors], dtype=np.float64).T
    known = set(sensors) & set(request.values)
    if not known:
        raise Rejected(f"none of the model's sensors was posted: {', '.join(sensors)[:300]}")
    runs = make_runs([request.machine] * len(table), np.array(request.cycles, float), table, sensors)
    return _Asked(
        runs,
        request.duty,
        "posted",
        tuple(name for name in sensors if name not in known),
        tuple(sorted(set(request.values) - known)),
    )


def answer_of(machine: str, desired: Desired, artifact: LifeArtifact, asked: _Asked) -> LifeAnswer:
    """The answer at the history's newest row. Raises Rejected."""
    manifest, runs = artifact.manifest, asked.runs
    hours = manifest.cycle_us / HOUR_US
    now = len(runs.cycles) - 1
    told = artifact.tell(runs)[0]
    outcome = "not-enough-evidence" if not told.enough else "told" if told.more_than is None else "more-than"
    return LifeAnswer(
        machine=machine,
        model=LifeModelInfo(
            name=desired.model,
            version=desired.version,
            version_hash=desired.sha256,
            provisional=manifest.provisional,
            units=manifest.units,
            knee_hours=None if manifest.knee is None else manifest.knee * hours,
            interval_method=manifest.interval_method,
        ),
        outcome=outcome,
        reason=told.reason,
        unusual=list(told.unusual),
        run_hours=_span(told, hours),
        calendar_days=_span(told, hours / 24 / asked.duty),
        more_than_hours=None if told.more_than is None else told.more_than * hours,
        duty=asked.duty,
        failure_criterion=manifest.failure_criterion,
        load_assumption=manifest.load_assumption,
        age_hours=float(runs.cycles[now]) * hours,
        since_us=None if asked.stored is None else asked.stored.from_us,
        renewed_by=asked.renewed_by,
        at_us=None if asked.stored is None else int(asked.stored.ends_us[now]),
        silent=list(asked.silent),
        ignored=list(asked.ignored),
        change=None if asked.stored is None else _change(artifact, asked.stored, told, hours),
    )


def _span(told: Told, unit: float) -> LifeSpan:
    ends: dict[str, Any] = {
        f"interval_{coverage}": tuple(end * unit for end in told.ends[coverage]) for coverage in COVERAGES
    }
    return LifeSpan(median=told.median * unit, **ends)


def _change(artifact: LifeArtifact, history: History, told: Told, hours: float) -> LifeChange | None:
    """Beside the newest row that was over a day before; None where the history is younger."""
    now = len(history.ends_us) - 1
    before = int(np.searchsorted(history.ends_us, history.ends_us[now] - DAY_US, side="right")) - 1
    if before < 0:
        return None
    runs = history.runs
    (then,) = artifact.tell(runs, np.array([before]))
    ran = float(runs.cycles[now] - runs.cycles[before])
    low, high = then.ends[80]
    moves = moved_by(artifact.preparation, artifact.graph, runs, now, before)
    return LifeChange(
        before_us=int(history.ends_us[before]),
        ran_hours=ran * hours,
        median_hours=then.median * hours,
        moved_hours=(told.median - then.median) * hours,
        bounded=max(0.0, low - ran) <= told.median <= max(0.0, high - ran),
        because=[
            LifeMove(sensor=name, hours=moved * hours)
            for name, moved in list(moves.items())[:MOST_MOVES]
            if moved
        ],
    )


def no_life_model(machine: str) -> NotFound:
    """What is said where there is none."""
    return NotFound(f"no life model is registered for {machine!r}: industrialmind life train makes one")
