"""What is true of the event log on Kafka alone: partitions, sharing them, transactions, topics."""

import asyncio
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from industrialmind.cli import app
from shared.errors import Conflict, Misconfigured, NotFound, Unavailable
from shared.eventlog import Batch, EventLog, Record, Stored, Subscription
from shared.kafka import KafkaLog, KafkaOptions, ensure_topics, open_kafka, reader, topic_states
from shared.names import LOG_TOPICS, MODELS, SENSOR_READINGS
from tests.contract.log_backends import (
    KafkaBackend,
    KafkaServer,
    Names,
    fetch_count,
    fetch_some,
    numbered,
    numbers,
    whole,
)

pytestmark = pytest.mark.real
KEYS = [f"m{n}" for n in range(12)]


@pytest.fixture
async def backend(kafka_server: KafkaServer) -> KafkaBackend:
    """Topics as in the suite, but `topic` has three partitions."""
    made = KafkaBackend(kafka_server)
    await made.start()
    await made.ensure({made.names.topic: 3})
    return made


async def spread(log: EventLog, topic: str, first: int, count: int) -> None:
    """The same numbers under each key."""
    for key in KEYS:
        await log.append(topic, key, numbered(first, count))


def by_key(records: Sequence[Stored]) -> dict[str, list[int]]:
    return {key: numbers([record for record in records if record.key == key]) for key in KEYS}


async def test_each_key_has_one_partition_and_keeps_its_order(log: EventLog, at: Names) -> None:
    await spread(log, at.topic, 0, 50)
    found = await whole(log, at.topic)
    assert by_key(found) == {key: list(range(50)) for key in KEYS}
    homes = {(record.key, record.partition) for record in found}
    assert len(homes) == len(KEYS)
    assert {partition for _, partition in homes} == {"0", "1", "2"}
    end = await log.end(at.topic)
    assert end == {p: max(r.offset for r in found if r.partition == p) for p in ("0", "1", "2")}
    # The partition that Java's clients choose, by murmur2 of the key.
    assert {key: partition for key, partition in homes if key in ("m0", "m1", "m4")} == {
        key: str(murmur2(key.encode()) % 3) for key in ("m0", "m1", "m4")
    }


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key, made positive; from its description of the default partitioner."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    whole_words = len(data) // 4 * 4
    for at in range(0, whole_words, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = (h * m ^ (k ^ k >> 24) * m) & mask
    if rest := data[whole_words:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


async def test_reading_goes_on_from_a_position_in_every_partition(log: EventLog, at: Names) -> None:
    await spread(log, at.topic, 0, 10)
    end = await log.end(at.topic)
    assert [stored async for stored in log.read(at.topic, end)] == []
    await spread(log, at.topic, 10, 5)
    later = [stored async for stored in log.read(at.topic, end)]
    assert by_key(later) == {key: list(range(10, 15)) for key in KEYS}


async def take_all(member: Subscription, into: list[Stored], done: asyncio.Event) -> None:
    """Acknowledge whatever comes; what could not be acknowledged is not counted, it comes again."""
    while not done.is_set():
        batch = await member.fetch(20, 0.2)
        try:
            await batch.ack()
        except Unavailable:
            continue
        into.extend(batch.records)


async def test_two_members_share_the_partitions_and_lose_nothing_as_they_come_and_go(
    backend: KafkaBackend, log: EventLog, at: Names
) -> None:
    first: list[Stored] = []
    second: list[Stored] = []
    done, gone = asyncio.Event(), asyncio.Event()
    count = 0
    async with backend.open() as other, AsyncExitStack() as leaving, asyncio.TaskGroup() as group:
        one = await leaving.enter_async_context(log.consume([at.topic], at.group))
        group.create_task(take_all(one, first, done))

        async def produce_until(enough: list[Stored]) -> None:
            nonlocal count
            while len(enough) < 100:
                await spread(log, at.topic, count, 5)
                count += 5
                await asyncio.sleep(0.05)

        async with asyncio.timeout(60):
            await produce_until(first)
            async with other.consume([at.topic], at.group) as two:
                taking = group.create_task(take_all(two, second, gone))
                await produce_until(second)  # both work
                alone = len(first)
                while len(first) < alone + 50:
                    await spread(log, at.topic, count, 5)
                    count += 5
                    await asyncio.sleep(0.05)
                gone.set()
                await taking
            while len({(r.partition, r.offset) for r in first + second}) < count * len(KEYS):
                await asyncio.sleep(0.05)
        done.set()
    assert {r.partition for r in second} < {"0", "1", "2"}
    # Each record was committed by one member: nothing twice, nothing missing, each key in order.
    assert len(first) + len(second) == count * len(KEYS)
    for key, mine in by_key(first).items():
        theirs = by_key(second)[key]
        assert mine == sorted(mine)
        assert theirs == sorted(theirs)
        assert sorted(mine + theirs) == list(range(count))


async def test_what_was_given_out_before_a_partition_moved_cannot_be_acknowledged(
    backend: KafkaBackend, log: EventLog, at: Names
) -> None:
    await spread(log, at.topic, 0, 5)
    async with log.consume([at.topic], at.group) as one:
        held: list[Batch] = []
        while sum(len(batch.records) for batch in held) < 5 * len(KEYS):
            held.append(await fetch_some(one))
        async with backend.open() as other, other.consume([at.topic], at.group) as two:
            theirs = await fetch_some(two)
            # The first member learns of it while its user is busy: nobody fetches.
            moved = {record.partition for record in theirs.records}
            for batch in held:
                if moved & {record.partition for record in batch.records}:
                    with pytest.raises(Unavailable, match="come again"):
                        await batch.ack()
                else:
                    await batch.ack()
            await theirs.ack()
            seen = list(theirs.records)
            while sum(len(n) for n in by_key(seen).values()) < sum(
                len([r for r in batch.records if r.partition in moved]) for batch in held
            ):
                seen += await fetch_count(two, 1)
    assert all(found in ([], list(range(5))) for found in by_key(seen).values())


async def test_acks_out_of_turn_commit_nothing_that_is_still_out(log: EventLog, at: Names) -> None:
    await log.append(at.small, "a", numbered(0, 20))
    async with log.consume([at.small], at.group) as member:
        first, second, third = [await fetch_some(member, limit=5) for _ in range(3)]
        await third.ack()
        await first.ack()
        assert numbers(second.records) == list(range(5, 10))
    async with log.consume([at.small], at.group) as member:
        assert numbers(await fetch_count(member, 15)) == list(range(5, 20))


async def test_a_slow_user_stays_in_its_group(backend: KafkaBackend, at: Names) -> None:
    options = backend.options(poll_interval=6.0)
    async with open_kafka(backend.url, credentials=backend.credentials, options=options) as log:
        await spread(log, at.topic, 0, 400)
        async with log.consume([at.topic], at.group) as member:
            batch = await fetch_some(member, limit=10)
            await asyncio.sleep(8.0)  # longer than a member may go without a poll
            await batch.ack()
            found = [*batch.records, *await fetch_count(member, 400 * len(KEYS) - len(batch.records))]
    assert by_key(found) == {key: list(range(400)) for key in KEYS}


async def test_a_cancelled_fetch_loses_nothing(backend: KafkaBackend, at: Names) -> None:
    async with backend.open(ack_wait=1.0) as log, log.consume([at.small], at.group) as member:
        for n in range(20):
            fetching = asyncio.ensure_future(member.fetch(1, 5.0))
            await log.append(at.small, "a", numbered(n, 1))
            await asyncio.sleep(0.002 * n)
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
        found: list[int] = []
        async with asyncio.timeout(20):
            while set(found) != set(range(20)):
                batch = await fetch_some(member)
                found += numbers(batch.records)
                await batch.ack()


async def test_fences_over_several_partitions_see_the_whole_topic(
    backend: KafkaBackend, log: EventLog, at: Names
) -> None:
    end = await log.append(at.topic, "m0", numbered(0, 2), fence={})
    end = await log.append(at.topic, "m2", numbered(2, 1), fence=end)
    assert len(end) == 2
    assert end == await log.end(at.topic)
    async with backend.open() as other:
        with pytest.raises(Conflict):
            await other.append(at.topic, "m4", numbered(9, 1), fence={"1": 1})
        end = await other.append(at.topic, "m4", numbered(3, 1), fence=end)
    with pytest.raises(Conflict):
        await log.append(at.topic, "m0", numbered(9, 1), fence={})
    end = await log.append(at.topic, "m0", numbered(4, 1), fence=end)  # it takes the topic back
    assert sorted(numbers(await whole(log, at.topic))) == [0, 1, 2, 3, 4]
    assert end == await log.end(at.topic)


async def test_writers_that_take_turns_lose_no_decision(backend: KafkaBackend, at: Names) -> None:
    """Each adds one to the last number it read, as an owner decides on what it folded, until there are 16."""
    confirmed: list[int] = []

    async def add(log: EventLog) -> None:
        while len(found := await whole(log, at.small)) < 16:
            fence = {record.partition: record.offset for record in found}
            following = numbers(found)[-1] + 1 if found else 0
            try:
                await log.append(at.small, "a", numbered(following, 1), fence=fence)
            except Conflict:
                await asyncio.sleep(0.01 * following)
            except (
                Unavailable
            ):  # a broker may fail a commit that meets a take-over: read again what became of it
                await asyncio.sleep(0.01)
            else:
                confirmed.append(following)

    async with backend.open() as one, backend.open() as two:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(add(one))
            group.create_task(add(two))
        assert numbers(await whole(one, at.small)) == list(range(16))
    assert len(confirmed) == len(set(confirmed)) > 8


async def test_a_record_without_a_fence_is_a_conflict_for_one_with(log: EventLog, at: Names) -> None:
    end = await log.append(at.small, "a", numbered(0, 1), fence={})
    moved = await log.append(at.small, "a", numbered(1, 1))
    with pytest.raises(Conflict):
        await log.append(at.small, "a", numbered(9, 1), fence=end)
    assert await log.append(at.small, "a", numbered(2, 1), fence=moved) == await log.end(at.small)
    assert numbers(await whole(log, at.small)) == [0, 1, 2]


async def test_a_record_that_comes_between_compare_and_write_is_a_conflict(
    log: EventLog, at: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(log, KafkaLog)
    end = await log.append(at.small, "a", numbered(0, 1), fence={})
    compare = log._ends.last

    async def compared_too_early(topic: str, raw: dict[int, int]) -> dict[int, int]:
        last = await compare(topic, raw)
        await log.append(topic, "a", numbered(1, 1))
        return last

    monkeypatch.setattr(log._ends, "last", compared_too_early)
    with pytest.raises(Conflict, match="without a fence"):
        await log.append(at.small, "a", numbered(9, 1), fence=end)
    monkeypatch.undo()
    assert numbers(await whole(log, at.small)) == [0, 1]
    # What was given up leaves a hole in the offsets, and none in the positions that are told.
    end = await log.end(at.small)
    assert end == await log.append(at.small, "a", [])
    assert end == {"0": (await whole(log, at.small))[-1].offset}
    await log.append(at.small, "a", numbered(2, 1), fence=end)


async def test_a_transaction_that_its_writer_left_open_is_ended_by_the_next(
    backend: KafkaBackend, log: EventLog, at: Names
) -> None:
    user, _, password = backend.credentials.partition(":")
    dead = Producer(
        {
            "bootstrap.servers": backend.url.removeprefix("kafka://"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": password,
            "transactional.id": f"industrialmind-{at.small}",
        }
    )
    await asyncio.to_thread(dead.init_transactions, 20)
    dead.begin_transaction()
    dead.produce(at.small, b"9", b"a")
    assert await asyncio.to_thread(dead.flush, 20) == 0
    assert await log.end(at.small) == {}
    assert await whole(log, at.small) == []
    end = await log.append(at.small, "a", numbered(0, 1), fence={})
    assert numbers(await whole(log, at.small)) == [0]
    assert end == await log.end(at.small)


async def test_a_topic_that_nobody_made_is_named_with_the_way_out(log: EventLog) -> None:
    for call in (log.append("nowhere", "a", numbered(0, 1)), log.end("nowhere"), whole(log, "nowhere")):
        with pytest.raises(NotFound, match="industrialmind log ensure"):
            await call
    with pytest.raises(NotFound):
        await log.append("nowhere", "a", numbered(0, 1), fence={})
    async with log.consume(["nowhere"], "nobody") as member:
        with pytest.raises(Unavailable, match="industrialmind log ensure"):
            await member.fetch(1, 60.0)


async def test_topics_are_made_once_widened_and_kept_for_their_time(backend: KafkaBackend) -> None:
    reach: dict[str, Any] = {"credentials": backend.credentials, "options": backend.options()}
    await ensure_topics(backend.url, partitions=3, **reach)
    await ensure_topics(backend.url, named={SENSOR_READINGS: 4, "replay-1.scores": 2}, **reach)
    found = {state.name: state for state in await topic_states(backend.url, **reach)}
    assert set(LOG_TOPICS) | {"replay-1.scores"} <= set(found)
    assert (found[SENSOR_READINGS].partitions, found[SENSOR_READINGS].retention_days) == (4, 30.0)
    assert (found[MODELS].partitions, found[MODELS].retention_days) == (1, None)
    assert found["replay-1.scores"].partitions == 2
    assert found[MODELS].replication == 1
    await ensure_topics(backend.url, partitions=1, **reach)  # nothing gets narrower
    found = {state.name: state for state in await topic_states(backend.url, **reach)}
    assert found[SENSOR_READINGS].partitions == 4
    with pytest.raises(Misconfigured):
        await ensure_topics(backend.url, named={"too-safe": 1}, topics=(), replication=3, **reach)


async def test_after_widening_readers_and_groups_see_the_new_partitions(
    backend: KafkaBackend, log: EventLog, at: Names
) -> None:
    await log.append(at.small, "m1", numbered(0, 3))
    await backend.ensure({at.small: 3})
    async with backend.open() as started_anew:  # others learn of the partitions within a minute
        for key in KEYS:
            await started_anew.append(at.small, key, numbered(10, 1))
    found = await whole(log, at.small)
    assert len(found) == 3 + len(KEYS)
    assert {record.partition for record in found} == {"0", "1", "2"}
    async with log.consume([at.small], at.group) as member:
        assert len(await fetch_count(member, len(found))) == len(found)


async def test_a_follower_reads_partitions_that_come_later_from_their_start(
    backend: KafkaBackend, log: EventLog, at: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_LOOK_S", 0.2)
    await log.append(at.small, "m1", numbered(0, 1))
    follower = log.read(at.small, {"0": 1}, follow=True)
    coming = asyncio.ensure_future(anext(follower))
    await backend.ensure({at.small: 3})
    async with backend.open() as started_anew, asyncio.timeout(30):
        for key in KEYS:
            await started_anew.append(at.small, key, numbered(10, 1))
        found = [await coming, *[await anext(follower) for _ in KEYS[1:]]]
    assert by_key(found) == {key: [10] for key in KEYS}
    await follower.aclose()  # type: ignore[attr-defined]


async def test_more_than_may_be_in_flight_waits_its_turn(backend: KafkaBackend, at: Names) -> None:
    options = KafkaOptions(in_flight_records=100, in_flight_bytes=100_000)
    async with open_kafka(backend.url, credentials=backend.credentials, options=options) as log:
        await asyncio.gather(*(log.append(at.small, "a", numbered(n, 60)) for n in range(0, 1200, 60)))
        await log.append(at.small, "a", [Record(b"x" * 90_000)] * 3)
        found = await whole(log, at.small)
    assert numbers(found[:1200]) == list(range(1200))
    assert len(found) == 1203


async def test_an_append_is_given_up_after_its_time(backend: KafkaBackend, at: Names) -> None:
    options = KafkaOptions(produce=0.0)
    async with open_kafka(backend.url, credentials=backend.credentials, options=options) as log:
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(log.append(at.small, "a", numbered(n, 1)) for n in range(5)), return_exceptions=True
        )
        assert any(isinstance(outcome, Unavailable) for outcome in outcomes)
        assert time.monotonic() - began < 10


def test_the_command_makes_and_shows_topics(kafka_server: KafkaServer) -> None:
    if not kafka_server.running:
        kafka_server.start()
    reach = ["--url", kafka_server.secured, "--credentials", kafka_server.credentials]
    own = f"command-{secrets.token_hex(4)}"
    made = CliRunner().invoke(
        app, ["log", "ensure", *reach, "--partitions", "2", "--partitions", f"{own}=5", "--json"]
    )
    assert made.exit_code == 0, made.output
    told = {topic["name"]: topic for topic in orjson.loads(made.stdout)}
    assert (told[own]["partitions"], told[own]["end"]["4"], told[own]["retention_days"]) == (5, 0, None)
    assert told[SENSOR_READINGS]["partitions"] >= 2
    shown = CliRunner().invoke(app, ["log", "topics", *reach])
    assert re.search(rf"{own} +5 +1 +0  for ever\n", shown.stdout)
    assert re.search(r"scores +\d+ +1 +0  30 days\n", shown.stdout)
