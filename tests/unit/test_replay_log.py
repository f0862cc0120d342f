"""Records of the log copied onto a prefix: the same bytes in the same order, at their pace, and nothing live touched."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from industrialmind.replay import Wanted, replay, wanted_of
from industrialmind.replay_topics import drop_replay_topics, ensure_replay_topics, list_replay_topics
from shared import names
from shared.clock import ManualClock, SystemClock
from shared.errors import Misconfigured, Rejected, Unavailable
from shared.eventlog import EventLog, Position, Record, Stored, open_event_log
from shared.jetstream import default_budgets, ensure_topics
from tests.servers import NatsServer
from tests.unit.test_audit_partitions import Partitions

SECOND = 1_000_000
NOW = 1_750_000_000 * SECOND
END = 2**60


@pytest.fixture
async def log(nats_server: NatsServer) -> AsyncIterator[EventLog]:
    budgets = default_budgets(nats_server.max_file_store)
    await ensure_topics(nats_server.url, credentials=nats_server.credentials, budgets=budgets)
    async with open_event_log(nats_server.url, credentials=nats_server.credentials) as opened:
        yield opened


def wanted(prefix: str = "try-1", **changes: object) -> Wanted:
    fields: dict[str, object] = {
        "from_us": 0,
        "to_us": END,
        "speed": 0.0,
        "topics": (names.SENSOR_READINGS, names.MACHINE_EVENTS),
        "machines": (),
        "prefix": prefix,
    }
    return Wanted(**(fields | changes))  # type: ignore[arg-type]


async def make_topics(server: NatsServer, prefix: str = "try-1", max_bytes: int = 32 << 20) -> list[str]:
    topics = [names.prefixed(prefix, topic) for topic in wanted().topics]
    for _ in range(2):  # the second time changes nothing
        await ensure_replay_topics(server.url, server.credentials, topics, max_bytes=max_bytes, max_age_s=60)
    return topics


async def all_of(log: EventLog, topic: str) -> list[Stored]:
    return [record async for record in log.read(topic)]


def place(record: Stored) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


async def test_copies_are_the_same_bytes_in_order_of_their_keys_while_live_records_come(
    log: EventLog, nats_server: NatsServer
) -> None:
    for number in range(70):
        sent = [Record(b"%d" % (10 * number + n), {"im-edge": "e1"}, id=f"x{number}.{n}") for n in range(10)]
        await log.append(names.SENSOR_READINGS, f"m{number % 3}", sent)
    await log.append(names.MACHINE_EVENTS, "m1", [Record(b"event")])
    live = {topic: await all_of(log, topic) for topic in wanted().topics}
    await make_topics(nats_server)
    told: list[tuple[int, int]] = []
    to_us = live[names.MACHINE_EVENTS][-1].time_us + 1
    copying = asyncio.create_task(
        replay(log, wanted(to_us=to_us), SystemClock(), lambda done, total: told.append((done, total)))
    )
    for number in range(50):
        await log.append(names.SENSOR_READINGS, "m0", [Record(b"live %d" % number)])
    assert await copying == 701
    assert told[-1] == (1, 1)
    for topic, records in live.items():
        copies = await all_of(log, names.prefixed("try-1", topic))
        for key in {record.key for record in records}:
            mine = [r for r in records if r.key == key]
            found = [c for c in copies if c.key == key]
            assert [c.value for c in found] == [r.value for r in mine]
            assert [c.headers for c in found] == [
                {**r.headers, names.HEADER_REPLAYED: place(r)} for r in mine
            ]
        now = await all_of(log, topic)
        assert now[: len(records)] == records
        assert all(names.HEADER_REPLAYED not in record.headers for record in now)
    # Once more onto the same prefix is another copy, and only what was asked for.
    assert await replay(log, wanted(to_us=to_us, machines=("m2",)), SystemClock()) == 230


async def test_prefixes_are_listed_dropped_and_bounded(log: EventLog, nats_server: NatsServer) -> None:
    server = nats_server
    await log.append(names.SENSOR_READINGS, "m1", [Record(b"x" * 100_000)])
    topics = await make_topics(server)
    await make_topics(server, "try-2", max_bytes=100_000)
    await replay(log, wanted(), SystemClock())
    with pytest.raises(Unavailable):  # its topics are full: nothing is dropped in silence
        await replay(log, wanted("try-2"), SystemClock())
    assert await list_replay_topics(server.url, server.credentials) == {
        "try-1.machine-events": 0,
        "try-1.sensor-readings": 1,
        "try-2.machine-events": 0,
        "try-2.sensor-readings": 0,
    }
    await drop_replay_topics(server.url, server.credentials, topics)
    await drop_replay_topics(server.url, server.credentials, topics)
    assert set(await list_replay_topics(server.url, server.credentials)) == {
        "try-2.machine-events",
        "try-2.sensor-readings",
    }
    with pytest.raises(Rejected):
        await drop_replay_topics(server.url, server.credentials, [names.SENSOR_READINGS])
    with pytest.raises(Unavailable):
        await make_topics(server, "try-3", max_bytes=1 << 40)
    assert len(await all_of(log, names.SENSOR_READINGS)) == 1
    for call in (
        ensure_replay_topics("redis://x", "", [], max_bytes=1, max_age_s=1),
        list_replay_topics("redis://x", ""),
        drop_replay_topics("redis://x", "", []),
    ):
        with pytest.raises(Misconfigured):
            await call


class Copied(Partitions):
    """Keeps what was appended, and when."""

    def __init__(self, records: list[Stored], clock: ManualClock) -> None:
        super().__init__(records)
        self.clock = clock
        self.copies: list[tuple[float, str, bytes]] = []

    async def append(
        self, topic: str, key: str, records: Sequence[Record], *, fence: Position | None = None
    ) -> Position:
        assert (key, fence) == ("m1", None)
        self.copies += [(self.clock.monotonic(), topic, record.value) for record in records]
        return {"0": 1}


def record(topic: str, at_s: float, value: bytes, offset: int, partition: str = "0") -> Stored:
    return Stored(topic, "m1", value, {}, partition, offset, NOW + round(at_s * SECOND))


RECORDS = [
    record(names.SENSOR_READINGS, 0, b"a", 1),
    record(names.SENSOR_READINGS, 0.01, b"b", 2),
    record(names.SENSOR_READINGS, 60, b"e", 3),
    record(names.SENSOR_READINGS, 10, b"c", 1, "1"),
    record(names.SENSOR_READINGS, 61, b"f", 2, "1"),
    record(names.SENSOR_READINGS, 200, b"late", 3, "1"),
    record(names.MACHINE_EVENTS, 20, b"d", 1),
]


async def settled() -> None:
    """Let everything that can run now run."""
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.mark.parametrize("speed", [1.0, 10.0])
async def test_records_come_at_their_pace_in_order_of_time(speed: float) -> None:
    clock = ManualClock()
    log = Copied(RECORDS, clock)
    task = asyncio.create_task(replay(log, wanted(to_us=NOW + 100 * SECOND, speed=speed), clock))
    for _ in range(140):
        await clock.advance(0.5 / speed)
        await settled()
    assert await task == 6
    # Partition 1 is read after partition 0's first three: its earlier records are not held back by them any longer.
    assert sorted(value for _, _, value in log.copies) == [b"a", b"b", b"c", b"d", b"e", b"f"]
    times = {value: at for at, _, value in log.copies}
    assert times[b"d"] == pytest.approx(20 / speed, abs=0.5 / speed)
    assert times[b"e"] == pytest.approx(60 / speed, abs=0.5 / speed)
    assert times[b"a"] == times[b"b"]
    assert {topic for _, topic, _ in log.copies} == {"try-1.sensor-readings", "try-1.machine-events"}


async def test_stopped_in_the_middle_what_was_copied_stays() -> None:
    clock = ManualClock()
    log = Copied(RECORDS, clock)
    task = asyncio.create_task(replay(log, wanted(speed=1.0), clock))
    for _ in range(50):
        await clock.advance(0.5)
        await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [value for _, _, value in log.copies] == [b"a", b"b", b"d"]


def test_what_is_wanted_is_checked_and_the_prefix_tells_the_time() -> None:
    def given(start: str = "2h ago", end: str = "-1h", **more: object) -> Wanted:
        fields: dict[str, object] = {"speed": 1.0, "topics": (), "machines": (), "prefix": ""}
        return wanted_of(start, end, NOW, **(fields | more))  # type: ignore[arg-type]

    found = given()
    assert (found.from_us, found.to_us) == (NOW - 7200 * SECOND, NOW - 3600 * SECOND)
    assert found.prefix == f"replay-{datetime.fromtimestamp(NOW / SECOND, UTC):%Y%m%d-%H%M%S}"
    assert names.SENSOR_READINGS in found.topics
    assert names.MODELS not in found.topics
    for wrong in ({"topics": ("nothing",)}, {"prefix": "Not.One"}, {"start": "soon"}, {"end": "3h ago"}):
        with pytest.raises(Rejected):
            given(**wrong)


def test_a_prefixed_topic_is_never_a_live_one() -> None:
    assert names.split_prefix(names.prefixed("a", names.SCORES)) == ("a", names.SCORES)
    for topic in (*names.LOG_TOPICS, "a.b", "A.scores", ""):
        with pytest.raises(Rejected):
            names.split_prefix(topic)
