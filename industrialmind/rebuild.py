"""`industrialmind rebuild`: a projection made anew from the log, while the plant goes on.

The telemetry store is made beside the old one and taken in by ingest, its only writer; the ledger is folded anew by
the cloud process, which keeps it; MLflow and the edges' desired state are reconciled with the topic `models`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry

from cloud.ingest.adopt import adopt
from cloud.ingest.rebuild import events_whole, read_into
from cloud.ledger.app import Ledger, Metrics
from cloud.telemetry.lateness import STAGES, LateBounds
from cloud.telemetry.port import Source, StoredRanges, open_store
from cloud.telemetry.rebuild import copy_url, discard, mark_complete, refused, set_aside, use_copy, waiting
from industrialmind.client import Client
from industrialmind.plant import DataDir
from industrialmind.progress import Teller
from industrialmind.served import Served, plant_log, served
from industrialmind.trainer_job import Job
from shared.clock import SystemClock
from shared.errors import Misconfigured, Rejected, Unavailable
from shared.eventlog import EventLog

Figures = Mapping[str, Any]

PROJECTIONS: Final[Mapping[str, str]] = {
    "telemetry": "readings, scores and events in telemetry.db, from the topics that ingest stores",
    "ledger": "row ranges in ledger.json, from the headers of the same topics",
    "assets": "assets, counters and work orders in the database, from the topics assets and work-orders",
    "models": "MLflow and what the edges are to run, from the topic models",
}
_LOOK_SECONDS: Final = 0.2
_ADOPTED_WITHIN: Final = 300.0


async def run_rebuild(root: Path, name: str, tell: Teller, *, fresh: bool = False) -> Figures:
    """Rebuild a projection; returns what it came to.

    Raises Rejected (no such projection), NotFound (no plant), Unavailable, Misconfigured.
    """
    data = DataDir(root)
    data.plant()  # raises NotFound
    rebuild: Mapping[str, Callable[[], Awaitable[Figures]]] = {
        "telemetry": lambda: _telemetry(data, tell, fresh=fresh),
        "ledger": lambda: _ledger(data, tell),
        "assets": lambda: _assets(data, tell),
        "models": lambda: _models(data, tell),
    }
    if name not in rebuild:
        raise Rejected(f"no projection {name[:40]!r}: there are {', '.join(PROJECTIONS)}")
    return await rebuild[name]()


async def _telemetry(data: DataDir, tell: Teller, *, fresh: bool) -> Figures:
    url = data.telemetry_url
    async with served(data) as at, plant_log(data, at) as log:
        figures: dict[str, Any] = {"records": 0, "taken_over": 0}
        bounds = LateBounds()
        if fresh and not at.running and (old := waiting(url)) is not None:
            discard(old)
        if waiting(url) is None:
            bounds, figures = await _copy(data, log, tell, fresh=fresh, running=at.running)
        await _swap(data, at, log, bounds, tell)
    return figures


async def _copy(
    data: DataDir, log: EventLog, tell: Teller, *, fresh: bool, running: bool
) -> tuple[LateBounds, dict[str, Any]]:
    """The copy, whole and waiting. One that was begun before goes on where it is."""
    url = data.telemetry_url
    if fresh:
        discard(copy_url(url))
    held, bounds = await _held(data, running=running)
    async with open_store(copy_url(url), bounds=bounds) as copy:
        records = await read_into(log, copy, told=tell.phase("reading the log"))
        taken_over = 0
        if data.telemetry.exists():
            events = not await events_whole(log)
            told = tell.phase("taking over what the log no longer has")
            taken_over = await copy.take_over(url, held, events=events, told=told)
    mark_complete(url)
    return bounds, {"records": records, "taken_over": taken_over}


async def _held(data: DataDir, *, running: bool) -> tuple[Mapping[Source, StoredRanges], LateBounds]:
    """What the old store holds, looked at before the log is read to its end; a damaged one holds nothing."""
    if not data.telemetry.exists():
        return {}, LateBounds()
    try:
        async with open_store(data.telemetry_url, read_only=True) as old:
            counted = [part for parts in (await old.lateness()).values() for part in parts.items()]
            known = {stage: one.bound_us for stage, one in counted}
            bounds = LateBounds(*(known.get(stage, LateBounds().of(stage)) for stage in STAGES))
            return await old.stored_ranges(), bounds
    except Misconfigured as error:
        if running:
            raise Misconfigured(
                f"the old store can't be read ({error})",
                hint="stop the plant and rebuild again: it is set aside then",
            ) from error
        set_aside(data.telemetry_url, "damaged")
        return {}, LateBounds()


async def _swap(data: DataDir, at: Served, log: EventLog, bounds: LateBounds, tell: Teller) -> None:
    url = data.telemetry_url
    if not at.running:
        told = tell.phase("replacing the old content")
        if data.telemetry.exists():
            async with open_store(url, bounds=bounds) as store:
                await adopt(log, store, url, bounds=bounds, told=told)
        else:
            use_copy(url)
        return
    tell.phase("waiting for ingest to take it in")
    with suppress(TimeoutError):
        async with asyncio.timeout(_ADOPTED_WITHIN):
            while waiting(url) is not None:  # noqa: ASYNC110 - another process takes it: only its folder tells
                await asyncio.sleep(_LOOK_SECONDS)
            if (aside := refused(url)) is not None:
                raise Unavailable(
                    f"ingest could not use the rebuilt store, which is now {aside.name}: see its log"
                )
            return
    raise Unavailable(
        "ingest has not taken in the rebuilt store: see its log; it goes on trying, also after a restart"
    )


async def _ledger(data: DataDir, tell: Teller) -> Figures:
    if data.running() is not None:
        with Client.of(data) as client:
            return await _ask_cloud(client, "ledger", tell)
    async with (
        served(data) as at,
        plant_log(data, at) as log,
        open_store(data.telemetry_url, read_only=True) as store,
    ):
        ledger = Ledger(log, store, _no_reports, data.ledger, Metrics(CollectorRegistry()), SystemClock())
        await ledger.rebuild(tell.phase("reading the log"))
        return {"sources": len(ledger.fold.sources)}


async def _assets(data: DataDir, tell: Teller) -> Figures:
    if data.running() is not None:
        with Client.of(data) as client:
            return await _ask_cloud(client, "assets", tell)
    from cloud.assets.app import Owner  # noqa: PLC0415 - only this projection needs it
    from cloud.assets.sql import open_assets  # noqa: PLC0415 - loads SQLAlchemy
    from shared.sqlalchemy import open_database  # noqa: PLC0415 - the same

    async with (
        served(data) as at,
        plant_log(data, at) as log,
        open_database(data.app_url, setting="api.app_url") as database,
    ):
        owner = Owner(log, await open_assets(database), SystemClock())
        await owner.rebuild(tell.phase("reading the log"))
        state, _ = await owner.look()
        return {"assets": len(state.assets), "work_orders": len(state.orders)}


async def _no_reports() -> Mapping[str, Any]:
    return {}


async def _ask_cloud(client: Client, name: str, tell: Teller) -> Figures:
    told = tell.phase("reading the log")
    found = client.post("/v1/rebuilds", {"name": name})
    while found["state"] == "running":
        told(found["done"], found["total"])
        await asyncio.sleep(_LOOK_SECONDS)  # another process works: it is asked now and then
        found = client.get(f"/v1/rebuilds/{name}")
    if found["state"] != "done":
        raise Unavailable(f"the {name} was not rebuilt: {found['why'] or 'its process began anew'}")
    told(found["done"], found["total"])
    return {"records": found["total"]}


async def _models(data: DataDir, tell: Teller) -> Figures:
    from industrialmind.train import run_job  # noqa: PLC0415 - only this projection needs the trainer

    if data.running() is None:
        raise Unavailable(
            f"no plant is running on {data.root}: what edges are to run is told to a running one"
        )
    steps = 0

    def heard(event: Mapping[str, Any]) -> None:
        nonlocal steps
        if event["event"] == "step":
            steps += 1
            tell.phase(" ".join(str(event[key]) for key in ("step", "machine", "method") if event.get(key)))

    await run_job(data.root, Job(reconcile=True), heard)
    return {"steps": steps}
