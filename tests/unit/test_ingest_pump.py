"""Ingest over a real log and a real store: batches, dead letters, outages, stopping."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cloud.ingest.app import run
from cloud.ingest.fetch import Fetched, Fetcher, Limits
from cloud.ingest.logic import TOPICS, read_batch
from cloud.ingest.pump import Metrics, Pump
from cloud.ingest.settings import IngestSettings
from cloud.telemetry.port import Entry, Source, TelemetryStore, WriteResult, open_store
from shared import names
from shared.clock import SystemClock
from shared.dead_letter import DeadLetter
from shared.errors import Unavailable
from shared.eventlog import EventLog, Record, Stored, open_event_log
from shared.frames import Kind
from shared.jetstream import default_budgets, ensure_topics
from shared.supervise import free_ports
from tests.servers import NatsServer
from tests.unit.test_ingest_logic import EPOCH, frame, readings, record


@pytest.fixture
async def event_log(nats_server: NatsServer) -> AsyncIterator[EventLog]:
    await ensure_topics(
        nats_server.url,
        credentials=nats_server.credentials,
        budgets=default_budgets(nats_server.max_file_store),
    )
    async with open_event_log(nats_server.url, credentials=nats_server.credentials) as log:
        yield log


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TelemetryStore]:
    async with open_store(f"sqlite:///{tmp_path}/t.db") as opened:
        yield opened


async def until(check: "object", seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not await check():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def stored_rows(store: TelemetryStore) -> int:
    ranges = await store.stored_ranges()
    return sum(len(one.stored) + len(one.rejected) for one in ranges.values())


async def test_records_reach_the_store_and_bad_ones_the_dead_letters(
    event_log: EventLog, store: TelemetryStore
) -> None:
    good = Record(frame(Kind.READINGS, readings()))
    await event_log.append(names.SENSOR_READINGS, "pump-1", [good, Record(b"garbage"), good])
    registry = CollectorRegistry()
    pump = Pump(event_log, store, Metrics(registry), SystemClock())
    stop = asyncio.Event()
    task = asyncio.create_task(pump.run(stop))

    async def level() -> bool:
        return not any((await pump.measure_lag()).values()) and bool(await store.positions())

    await until(level)
    stop.set()
    await task
    letters = [r async for r in event_log.read(names.DEAD_LETTER)]
    assert [DeadLetter.decode(one.value).payload for one in letters] == [b"garbage"]
    assert list((await store.stored_ranges())[Source("edge-1", EPOCH)].stored) == [(7, 7)]
    text = generate_latest(registry).decode()
    assert 'im_ingest_rows_total{outcome="stored"} 1.0' in text
    assert 'im_ingest_rows_total{outcome="redelivered"} 1.0' in text
    assert "im_ingest_dead_letters_total 1.0" in text


async def test_a_batch_ends_by_size_or_by_time_after_its_first_record(
    event_log: EventLog, store: TelemetryStore
) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    def of_batches(what: str) -> float | None:
        return registry.get_sample_value(f"im_ingest_batch_records_{what}")

    async def take(wait: float, records: int) -> None:
        stored = of_batches("sum") or 0.0
        pump = Pump(event_log, store, metrics, SystemClock(), limits=Limits(100, 100, wait))
        stop = asyncio.Event()
        task = asyncio.create_task(pump.run(stop))

        async def all_there() -> bool:
            return of_batches("sum") == stored + records

        await until(all_there)
        stop.set()
        await task

    many = [Record(frame(Kind.READINGS, readings()))] * 250
    await event_log.append(names.SENSOR_READINGS, "pump-1", many)
    await take(0.3, 250)
    assert of_batches("count") == 3, "two of a hundred, and the rest when the time was up"
    await event_log.append(names.SENSOR_READINGS, "pump-1", many[:1])
    await take(0.3, 1)
    assert of_batches("count") == 4
    assert registry.get_sample_value("im_ingest_write_seconds_count") == 4


class Given:
    """Records of the log whose acknowledgement is lost."""

    def __init__(self, count: int = 1) -> None:
        self.records: Sequence[Stored] = [
            record(names.SENSOR_READINGS, frame(Kind.READINGS, readings()))
        ] * count

    async def ack(self) -> None:
        raise Unavailable("moved on")


class Backlog:
    """A member with so many records at hand, of one row each, and the log away behind them."""

    def __init__(self, records: int) -> None:
        self.left = records
        self.asked: list[int] = []

    async def fetch(self, limit: int, wait: float) -> Given:
        assert wait >= 0
        self.asked.append(limit)
        if not self.left:
            raise Unavailable("away")
        count = min(limit, self.left)
        self.left -= count
        return Given(count)


async def taken(member: Backlog, limits: Limits, *busy: bool) -> list[int]:
    """Records of the batches that are made while the store is busy or not."""
    fetcher = Fetcher(member, limits, SystemClock())
    found = [await fetcher.fetch(lambda one=one: one) for one in busy]  # type: ignore[misc]
    return [len(one.entries) for one in found if one is not None]


async def test_small_frames_gather_only_while_the_store_is_busy() -> None:
    limits = Limits(100, 50_000, 10.0)
    assert await taken(Backlog(5000), limits, False, True, True, False) == [100, 1000, 1000, 100]
    assert await taken(Backlog(150), limits, True) == [150], "what came before the log went away is kept"


async def test_a_batch_ends_by_rows_and_asks_for_no_more_than_fill_it() -> None:
    member = Backlog(5000)
    assert await taken(member, Limits(100, 70, 10.0), True, True) == [70, 70]
    assert member.asked == [1, 69, 70], "a frame may have a thousand rows: how many these have is known later"
    assert await taken(Backlog(5000), Limits(100, 50_000, 1e-9), False) == [50], "its time was up"


class Slow:
    """A store whose writes wait for a word."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun: list[int] = []

    async def write(self, entries: Sequence[Entry], /) -> WriteResult:
        self.begun.append(len(entries))
        await self.go_on.wait()
        return WriteResult()


async def test_the_next_batch_is_fetched_while_one_is_written_and_waits_for_it(event_log: EventLog) -> None:
    many = [Record(frame(Kind.READINGS, readings()))] * 130
    await event_log.append(names.SENSOR_READINGS, "pump-1", many)
    slow = Slow()
    pump = Pump(event_log, slow, Metrics(CollectorRegistry()), SystemClock(), limits=Limits(100, 100, 0.2))  # type: ignore[arg-type]
    stop = asyncio.Event()
    task = asyncio.create_task(pump.run(stop))

    async def begun() -> bool:
        return bool(slow.begun)

    await until(begun)
    stop.set()
    await asyncio.sleep(0)
    assert slow.begun == [100], "one at a time"
    slow.go_on.set()
    await task
    assert slow.begun == [100, 30], "what was fetched before the end is written"
    async with event_log.consume(TOPICS, "ingest") as member:
        assert not (await member.fetch(1, 0.5)).records, "and acknowledged"


class Failing:
    """A store that is away for its first writes."""

    def __init__(self, store: TelemetryStore, failures: int) -> None:
        self._store = store
        self.failures = failures

    async def write(self, entries: Sequence[Entry], /) -> WriteResult:
        if self.failures:
            self.failures -= 1
            raise Unavailable("disk full")
        return await self._store.write(entries)


async def test_it_waits_while_the_store_is_away_and_says_so(
    event_log: EventLog, store: TelemetryStore
) -> None:
    failing = Failing(store, 10_000)
    pump = Pump(event_log, failing, Metrics(CollectorRegistry()), SystemClock(), retry_cap_seconds=0.1)  # type: ignore[arg-type]
    stop = asyncio.Event()
    task = asyncio.create_task(pump.run(stop))
    await event_log.append(names.SENSOR_READINGS, "pump-1", [Record(frame(Kind.READINGS, readings()))])

    async def waiting() -> bool:
        return "disk full" in pump.waiting_for

    async def there() -> bool:
        return await stored_rows(store) == 1

    await until(waiting)
    failing.failures = 0
    await until(there)
    assert pump.waiting_for == ""
    stop.set()
    await task


async def test_told_to_stop_while_the_store_is_away_it_leaves_the_records_unacknowledged(
    event_log: EventLog, store: TelemetryStore
) -> None:
    pump = Pump(event_log, Failing(store, 10_000), Metrics(CollectorRegistry()), SystemClock())  # type: ignore[arg-type]
    stop = asyncio.Event()
    task = asyncio.create_task(pump.run(stop))
    await event_log.append(names.SENSOR_READINGS, "pump-1", [Record(frame(Kind.READINGS, readings()))])

    async def waiting() -> bool:
        return bool(pump.waiting_for)

    await until(waiting)
    stop.set()
    await task
    again = Pump(event_log, store, Metrics(CollectorRegistry()), SystemClock())
    stop = asyncio.Event()
    task = asyncio.create_task(again.run(stop))

    async def there() -> bool:
        return await stored_rows(store) == 1

    await until(there)
    stop.set()
    await task


async def test_a_lost_acknowledgement_is_no_error(event_log: EventLog, store: TelemetryStore) -> None:
    pump = Pump(event_log, store, Metrics(CollectorRegistry()), SystemClock())
    fetched = Fetched()
    for batch in (Given(), Given()):
        fetched.add(batch, *read_batch(batch.records))
    await pump._take(fetched, asyncio.Event())
    assert await stored_rows(store) == 1


async def test_it_is_ready_only_while_its_log_answers(
    nats_server: NatsServer, event_log: EventLog, tmp_path: Path
) -> None:
    settings = IngestSettings(
        nats_url=nats_server.url,
        credentials=nats_server.credentials,
        telemetry_url=f"sqlite:///{tmp_path}/t.db",
        port=free_ports(1)[0],
    )
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, stop))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}") as client:

        async def status() -> int:
            try:
                return (await client.get("/readyz")).status_code
            except httpx.TransportError:
                return 0

        async def ready() -> bool:
            return await status() == 200

        async def unready() -> bool:
            return await status() == 503

        await until(ready)
        nats_server.pause()
        await until(unready)
        nats_server.resume()
        await until(ready)
    await event_log.append(names.SENSOR_READINGS, "pump-1", [Record(frame(Kind.READINGS, readings()))])
    stop.set()
    await task


async def test_the_service_runs_and_survives_the_death_of_the_log(
    nats_server: NatsServer, event_log: EventLog, tmp_path: Path
) -> None:
    settings = IngestSettings(
        nats_url=nats_server.url,
        credentials=nats_server.credentials,
        telemetry_url=f"sqlite:///{tmp_path}/t.db",
    )
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, stop))
    await event_log.append(names.SENSOR_READINGS, "pump-1", [Record(frame(Kind.READINGS, readings()))])
    async with AsyncExitStack() as stack:
        found: list[TelemetryStore] = []

        async def opened() -> bool:
            try:
                found.append(
                    await stack.enter_async_context(open_store(settings.telemetry_url, read_only=True))
                )
            except Unavailable:  # not yet made
                return False
            return True

        await until(opened)
        [reader] = found

        async def there() -> bool:
            return await stored_rows(reader) == 1

        await until(there)
        nats_server.kill()
        await asyncio.to_thread(nats_server.start)

        async def told() -> bool:
            try:
                await event_log.append(names.MACHINE_EVENTS, "pump-1", [Record(b"no event")])
            except Unavailable:
                return False
            return True

        async def letters() -> bool:
            return bool((await reader.positions()).get(names.DEAD_LETTER))

        await until(told)
        await until(letters)
        stop.set()
        await task
