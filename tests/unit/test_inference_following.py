"""Machines with no edge, scored from a real log into it: whole through kills, take-overs and a log that is away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from cloud.inference.following import Following
from cloud.ingest.pump import Metrics as PumpMetrics
from cloud.ingest.pump import Pump
from cloud.ledger.audit import audit
from shared.errors import Unavailable
from shared.eventlog import Record
from shared.frame_codec import decode
from shared.frames import Readings, Scores
from shared.names import MACHINE_EVENTS, SCORES, SENSOR_READINGS
from shared.packing import join
from shared.service import ended
from tests.servers import NatsServer
from tests.unit.edge_models import artifact, loaded
from tests.unit.inference_parts import CLOCK, Inference, open_inference
from tests.unit.test_inference_direct import LOG, record, scorer, scores_of, take


@pytest.fixture
async def inference(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Inference]:
    """With a champion of the pump, and ingest beside it."""
    async with open_inference(tmp_path, nats_server, fetch_records=7) as made:
        await made.promoted(artifact())
        stop = asyncio.Event()
        pump = Pump(made.events, made.store, PumpMetrics(CollectorRegistry()), CLOCK)
        tasks = [
            asyncio.create_task(made.models.follow(made.events)),
            asyncio.create_task(pump.run(stop)),
        ]
        yield made
        assert not any(task.done() for task in tasks)
        stop.set()
        await tasks[1]
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def member(inference: Inference, number: int = 1) -> Following:
    return Following(
        inference.events,
        inference.control,
        inference.models,
        inference.metrics,
        CLOCK,
        number=number,
        fetch_records=inference.settings.fetch_records,
        retry_cap_seconds=0.2,
    )


@asynccontextmanager
async def at_work(following: Following) -> AsyncIterator[asyncio.Event]:
    """A member until the block ends; it stops in order unless the block cancelled it by then."""
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(following.watch_assignments()),
        asyncio.create_task(following.run(stop)),
        asyncio.create_task(following.watch_lag(stop)),
    ]
    try:
        yield stop
        assert not any(task.done() for task in tasks)
    finally:
        stop.set()
        await asyncio.gather(*tasks[1:])
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.01)


async def append(
    inference: Inference,
    first: int = 0,
    last: int | None = None,
    machine: str = "pump",
    pace: Callable[[], float] | None = None,
) -> None:
    for each in LOG[first:last]:
        header, body = decode(each.value)
        assert isinstance(body, Readings)
        value = each.value if machine == "pump" else record(1, body, machine, first=header.first).value
        if pace is not None:
            await asyncio.sleep(pace())
        await inference.events.append(SENSOR_READINGS, machine, [Record(value)])


async def stored(inference: Inference, machine: str = "pump") -> Scores | None:
    """What the store has of a machine's windows."""
    found = await inference.store.scores(machine, 0, 2**62, 10_000)
    body = join(found) if found else None
    assert body is None or isinstance(body, Scores)
    return body


async def has(inference: Inference, windows: int) -> bool:
    found = await stored(inference)
    return found is not None and len(found) >= windows


@cache
def steady() -> Scores:
    """The scores of a life without interruption."""
    direct = scorer()
    return scores_of([take(direct, [each], loaded()) for each in LOG])


def same(found: Scores | None, wanted: Scores) -> None:
    assert found is not None
    assert found.time_us.tolist() == wanted.time_us.tolist()
    np.testing.assert_array_equal(found.score, wanted.score)
    np.testing.assert_array_equal(found.state, wanted.state)


async def audited(inference: Inference) -> None:
    """The audit of log and store finds nothing, once ingest has stored what the log holds."""

    async def all_stored() -> bool:
        report = await audit(inference.events, inference.store, {})
        assert report.findings == ()
        return report.rows_in_log == report.rows_in_store

    await until(all_stored)


async def test_a_machine_with_no_edge_gets_its_scores_and_events_and_others_are_left_alone(
    inference: Inference,
) -> None:
    await inference.control.assign("s1", "fan", "edge-fan")
    await inference.promoted(artifact("fan"), "edge-fan")
    async with at_work(member(inference)):
        await append(inference, machine="fan")
        await append(inference)
        await until(lambda: has(inference, len(steady())))
    same(await stored(inference), steady())
    assert await stored(inference, "fan") is None
    kinds = [each.fact.type for each in await inference.store.events("pump")]
    assert sorted(kinds) == ["anomaly.ended", "anomaly.started", "model.activated"]
    assert inference.figure("im_inference_scored_windows_total") == len(steady())
    assert inference.figure("im_inference_machines") == 1
    await audited(inference)
    (source,) = {s for s, r in (await inference.store.stored_ranges("inference-1")).items() if r.stored}
    assert source.edge == "inference-1"


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_again_and_again_no_window_is_lost_or_doubled(inference: Inference, seed: int) -> None:
    """A life ends by cancellation at any await: what was under way is as good as a process's that was killed."""
    random = np.random.default_rng(seed)
    await append(inference, 0, 20)
    async with at_work(member(inference)):
        await until(lambda: has(inference, 10))
    paced = np.random.default_rng(seed + 100)
    feeding = asyncio.create_task(append(inference, 20, pace=lambda: paced.uniform(0, 0.02)))
    for _ in range(8):
        following = member(inference)
        tasks = [
            asyncio.create_task(following.watch_assignments()),
            asyncio.create_task(following.run(asyncio.Event())),
        ]
        await asyncio.sleep(random.uniform(0.02, 0.25))
        assert not any(task.done() for task in tasks)
        await ended(*tasks)
    await feeding
    async with at_work(member(inference)):
        await until(lambda: has(inference, len(steady())))
    same(await stored(inference), steady())
    await audited(inference)
    records = [each async for each in inference.events.read(SCORES)]
    assert len({decode(each.value)[0].epoch for each in records}) > 1
    events = [each async for each in inference.events.read(MACHINE_EVENTS)]
    assert events


async def test_a_member_that_was_overtaken_reads_the_memory_again(inference: Inference) -> None:
    """Another scores what came between, as after a lease that was lost unseen; the first goes on from there."""
    first, second = member(inference), member(inference, 2)
    ends = (25, 50, len(LOG))
    for turn, end in enumerate(ends):
        await append(inference, 0 if turn == 0 else ends[turn - 1], end)
        async with at_work((first, second, first)[turn]):
            await until(lambda end=end: has(inference, reached(end)))  # type: ignore[misc]
    same(await stored(inference), steady())
    await audited(inference)


@cache
def reached(end: int) -> int:
    """How many windows the log closes up to a record."""
    direct = scorer()
    return len(scores_of([take(direct, [each], loaded()) for each in LOG[:end]]))


async def test_a_log_that_is_away_is_waited_for(inference: Inference, nats_server: NatsServer) -> None:
    following = member(inference)
    async with at_work(following):
        await append(inference, 0, 30)
        await until(lambda: has(inference, 10))
        nats_server.kill()
        async with asyncio.timeout(20):
            while not following.waiting_for:
                await asyncio.sleep(0.01)
        nats_server.start()
        await until(lambda: answers(inference))
        await append(inference, 30)
        await until(lambda: has(inference, len(steady())))
        assert following.waiting_for == ""
    same(await stored(inference), steady())


async def answers(inference: Inference) -> bool:
    with suppress(Unavailable):
        await inference.events.end(SENSOR_READINGS)
        return True
    return False


async def test_machines_beyond_the_bound_are_left_alone(inference: Inference) -> None:
    following = member(inference)
    following._most = 1
    await append(inference, 0, 5, "fan")
    await append(inference)
    async with at_work(following):
        async with asyncio.timeout(20):
            while following._seen.get("0", 0) < len(LOG) + 5:
                await asyncio.sleep(0.01)
    assert await stored(inference) is None
