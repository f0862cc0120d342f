"""The event log's promises, one suite for every backend. To add a backend: a class like `Backend` in BACKENDS."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from shared import names
from shared.errors import Conflict, IndustrialMindError, Misconfigured, Rejected, Unavailable
from shared.eventlog import Batch, EventLog, Record, Stored, Subscription, open_event_log
from shared.jetstream import LogOptions, TopicBudget, ensure_topics, open_jetstream
from shared.jetstream.group import GroupOptions
from shared.nats import Timeouts
from tests.servers import NatsServer

TOPIC = names.SENSOR_READINGS
OTHER = names.SCORES
SMALL = names.AUDIT  # a topic with room for little
LEASE_S = 0.8
SMALL_BYTES = 256 << 10


class Backend(Protocol):
    """What the suite needs of a backend's server."""

    url: str
    credentials: str

    async def start(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    async def make_room(self) -> None: ...
    def open(self, *, ack_wait: float = 30.0) -> AbstractAsyncContextManager[EventLog]: ...
    def open_elsewhere(self) -> str:
        """Code that defines `open_log()` for another process."""
        ...


class JetStreamBackend:
    """nats-server as `industrialmind up` runs it."""

    def __init__(self, folder: Path) -> None:
        self._server = NatsServer(folder)
        self.url, self.credentials = self._server.url, self._server.credentials

    async def start(self) -> None:
        self._server.start()
        await self._ensure(SMALL_BYTES)

    async def make_room(self) -> None:
        await self._ensure(4 * SMALL_BYTES)

    async def _ensure(self, small: int) -> None:
        budgets = {
            TOPIC: TopicBudget(64 << 20, 3600.0),
            OTHER: TopicBudget(64 << 20),
            SMALL: TopicBudget(small),
        }
        await ensure_topics(
            self.url,
            credentials=self.credentials,
            budgets=budgets,
            max_file_store=self._server.max_file_store,
        )

    def kill(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.start()

    def open(self, *, ack_wait: float = 30.0) -> AbstractAsyncContextManager[EventLog]:
        options = LogOptions(
            timeouts=Timeouts(connect=5, request=3, produce=5, backoff_first=0.05, backoff_cap=0.3),
            group=GroupOptions(lease=LEASE_S, ack_wait=ack_wait),
        )
        return open_jetstream(self.url, credentials=self.credentials, options=options)

    def open_elsewhere(self) -> str:
        return f"""
from shared.jetstream import LogOptions, open_jetstream
from shared.jetstream.group import GroupOptions
def open_log():
    options = LogOptions(group=GroupOptions(lease={LEASE_S}))
    return open_jetstream({self.url!r}, credentials={self.credentials!r}, options=options)
"""


BACKENDS = {"jetstream": JetStreamBackend}


@pytest.fixture(params=sorted(BACKENDS))
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made = BACKENDS[request.param](tmp_path / "log")
    await made.start()
    yield made
    made.kill()


@pytest.fixture
async def log(backend: Backend) -> AsyncIterator[EventLog]:
    async with backend.open() as opened:
        yield opened


def numbered(first: int, count: int, size: int = 16) -> list[Record]:
    return [Record(str(n).encode().ljust(size, b".")) for n in range(first, first + count)]


def numbers(records: Sequence[Stored]) -> list[int]:
    return [int(record.value.rstrip(b".")) for record in records]


async def whole(log: EventLog, topic: str) -> list[Stored]:
    return [stored async for stored in log.read(topic)]


async def fetch_some(member: Subscription, limit: int = 1000, wait: float = 15.0) -> Batch:
    """The first batch that is not empty, waiting out a server that is away."""
    async with asyncio.timeout(wait):
        while True:
            try:
                batch = await member.fetch(limit, 0.5)
            except Unavailable as error:
                await asyncio.sleep(min(error.retry_after, 0.05))
                continue
            if batch.records:
                return batch


async def fetch_count(member: Subscription, count: int, *, ack: bool = True) -> list[Stored]:
    found: list[Stored] = []
    while len(found) < count:
        batch = await fetch_some(member)
        found += batch.records
        if ack:
            await batch.ack()
    return found


async def insist(log: EventLog, topic: str, records: Sequence[Record]) -> None:
    """Append until it is confirmed."""
    async with asyncio.timeout(15):
        while True:
            try:
                await log.append(topic, "m1", records)
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                return


async def test_a_record_comes_back_as_it_went_in(log: EventLog) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    headers = {"im-edge": "e1", "note": "größer: ja"}
    await log.append(TOPIC, "pump-1", [Record(b"\x00\xff", headers)])
    [stored] = await whole(log, TOPIC)
    assert (stored.topic, stored.key, stored.value) == (TOPIC, "pump-1", b"\x00\xff")
    assert dict(stored.headers) == headers
    assert before.timestamp() * 1e6 < stored.time_us < datetime.now(UTC).timestamp() * 1e6 + 1e6


async def test_appends_of_a_key_keep_their_order_also_when_they_overlap(log: EventLog) -> None:
    async with asyncio.TaskGroup() as group:
        for start in range(0, 400, 4):
            group.create_task(log.append(TOPIC, "m1", numbered(start, 4)))
            group.create_task(log.append(TOPIC, "m2", numbered(start, 4)))
    stored = await whole(log, TOPIC)
    for key in ("m1", "m2"):
        assert numbers([record for record in stored if record.key == key]) == list(range(400))


async def test_more_records_than_one_batch_holds(log: EventLog) -> None:
    end = await log.append(TOPIC, "m1", numbered(0, 2500))
    assert numbers(await whole(log, TOPIC)) == list(range(2500))
    assert end == await log.end(TOPIC)


async def test_a_position_is_that_of_the_last_record(log: EventLog) -> None:
    assert await log.end(TOPIC) == {}
    first = await log.append(TOPIC, "m1", numbered(0, 3))
    assert await log.append(TOPIC, "m1", []) == first
    assert await log.end(TOPIC) == first
    last = (await whole(log, TOPIC))[-1]
    assert first == {last.partition: last.offset}


async def test_what_was_confirmed_survives_the_servers_kill(backend: Backend, log: EventLog) -> None:
    confirmed = 0

    async def produce() -> None:
        nonlocal confirmed
        while confirmed < 600:
            try:
                await log.append(TOPIC, "m1", numbered(confirmed, 5))
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                confirmed += 5

    async with asyncio.TaskGroup() as group:
        producer = group.create_task(produce())
        for _ in range(2):
            reached = confirmed + 50
            while confirmed < reached and not producer.done():
                await asyncio.sleep(0.005)
            await asyncio.to_thread(backend.kill)
            await asyncio.to_thread(backend.restart)
    found = numbers(await whole(log, TOPIC))
    assert set(found) == set(range(600))
    # A retry may repeat what was stored but not confirmed; it never goes back further than that.
    firsts = list(dict.fromkeys(found))
    assert firsts == sorted(firsts)


async def test_read_from_a_position_and_from_a_time(log: EventLog) -> None:
    await log.append(TOPIC, "m1", numbered(0, 5))
    position = await log.append(TOPIC, "m1", numbered(5, 1))
    await asyncio.sleep(0.01)  # the log's clock must move on between the two
    await log.append(TOPIC, "m1", numbered(6, 3))
    assert numbers([stored async for stored in log.read(TOPIC, position)]) == [6, 7, 8]
    sixth = next(record for record in await whole(log, TOPIC) if numbers([record]) == [6])
    since = datetime.fromtimestamp(sixth.time_us / 1e6, UTC)
    assert numbers([stored async for stored in log.read(TOPIC, since)])[-3:] == [6, 7, 8]
    assert 0 not in numbers([stored async for stored in log.read(TOPIC, since)])
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert [stored async for stored in log.read(TOPIC, tomorrow)] == []


async def test_a_read_ends_at_the_end_of_its_start(log: EventLog) -> None:
    await log.append(TOPIC, "m1", numbered(0, 600))
    found: list[Stored] = []
    async for stored in log.read(TOPIC):
        if not found:
            await log.append(TOPIC, "m1", numbered(600, 10))
        found.append(stored)
    assert numbers(found) == list(range(600))


async def test_following_sees_what_comes_later_also_after_a_kill(backend: Backend, log: EventLog) -> None:
    await log.append(TOPIC, "m1", numbered(0, 3))
    follower = log.read(TOPIC, follow=True)
    async with asyncio.timeout(20):
        assert numbers([await anext(follower) for _ in range(3)]) == [0, 1, 2]
        await log.append(TOPIC, "m1", numbered(3, 1))
        assert numbers([await anext(follower)]) == [3]
        backend.kill()
        coming = asyncio.ensure_future(anext(follower))
        await asyncio.to_thread(backend.restart)
        await insist(log, TOPIC, numbered(4, 1))
        assert numbers([await coming]) == [4]
    await follower.aclose()  # type: ignore[attr-defined]


async def test_a_group_gets_everything_once_when_it_acknowledges(log: EventLog) -> None:
    await log.append(TOPIC, "m1", numbered(0, 50))
    async with log.consume([TOPIC], "store") as member:
        assert numbers(await fetch_count(member, 50)) == list(range(50))
        await log.append(TOPIC, "m1", numbered(50, 10))
        assert numbers(await fetch_count(member, 10)) == list(range(50, 60))
    async with log.consume([TOPIC], "store") as member:
        await log.append(TOPIC, "m1", numbered(60, 1))
        assert numbers(await fetch_count(member, 1)) == [60]
    async with log.consume([TOPIC], "another") as member:
        assert len(await fetch_count(member, 61)) == 61


async def test_an_empty_fetch_ends_after_its_wait(log: EventLog) -> None:
    async with log.consume([TOPIC], "store") as member:
        async with asyncio.timeout(3):
            batch = await member.fetch(10, 0.2)
        assert not batch.records
        await batch.ack()


async def test_a_fetch_is_bounded_and_takes_the_topics_in_turn(log: EventLog) -> None:
    await log.append(TOPIC, "m1", numbered(0, 300))
    await log.append(OTHER, "m1", numbered(0, 20))
    async with log.consume([TOPIC, OTHER], "store") as member:
        found: list[Stored] = []
        while len(found) < 320:
            batch = await fetch_some(member, limit=7)
            assert len(batch.records) <= 7
            found += batch.records
            await batch.ack()
    for topic, count in ((TOPIC, 300), (OTHER, 20)):
        assert numbers([record for record in found if record.topic == topic]) == list(range(count))
    # The short topic is not kept waiting until the long one is through.
    assert max(at for at, record in enumerate(found) if record.topic == OTHER) < 200


async def test_unacknowledged_records_come_again_to_the_same_member(backend: Backend) -> None:
    async with backend.open(ack_wait=0.5) as log:
        await log.append(TOPIC, "m1", numbered(0, 3))
        async with log.consume([TOPIC], "store") as member:
            assert len(await fetch_count(member, 3, ack=False)) == 3
            assert numbers(await fetch_count(member, 3)) == [0, 1, 2]
            await log.append(TOPIC, "m1", numbered(3, 1))
            assert numbers(await fetch_count(member, 1)) == [3]


async def test_unacknowledged_records_come_first_to_the_next_member(log: EventLog) -> None:
    await log.append(TOPIC, "m1", numbered(0, 20))
    async with log.consume([TOPIC], "store") as member:
        first = await fetch_some(member, limit=5)
        await first.ack()
        committed = len(first.records)
        assert numbers((await fetch_some(member, limit=5)).records)[0] == committed
    async with log.consume([TOPIC], "store") as member:
        assert numbers(await fetch_count(member, 20 - committed)) == list(range(committed, 20))


async def test_a_group_goes_on_after_the_servers_kill_without_a_loss(backend: Backend, log: EventLog) -> None:
    await log.append(TOPIC, "m1", numbered(0, 30))
    async with log.consume([TOPIC], "store") as member:
        before = await fetch_some(member, limit=10)
        await before.ack()
        held = await fetch_some(member, limit=10)
        backend.kill()
        with pytest.raises(Unavailable):
            await held.ack()
        await asyncio.to_thread(backend.restart)
        after: list[Stored] = []
        while not after or numbers(after)[-1] != 29:
            batch = await fetch_some(member)
            after += batch.records
            await batch.ack()
    firsts = list(dict.fromkeys(numbers(after)))
    assert firsts == sorted(firsts)
    assert set(numbers(before.records)) | set(firsts) == set(range(30))


async def test_one_member_is_active_and_another_takes_over(backend: Backend) -> None:
    async with backend.open() as writer, backend.open() as second, AsyncExitStack() as first:
        await writer.append(TOPIC, "m1", numbered(0, 10))
        log = await first.enter_async_context(backend.open())
        member = await first.enter_async_context(log.consume([TOPIC], "store"))
        assert numbers(await fetch_count(member, 10)) == list(range(10))
        async with second.consume([TOPIC], "store") as standby:
            await writer.append(TOPIC, "m1", numbered(10, 10))
            assert not (await standby.fetch(10, 2 * LEASE_S)).records
            assert numbers(await fetch_count(member, 10, ack=False)) == list(range(10, 20))
            await first.aclose()
            async with asyncio.timeout(5):
                assert numbers(await fetch_count(standby, 10)) == list(range(10, 20))


async def test_a_member_killed_in_its_process_is_replaced_in_seconds(backend: Backend) -> None:
    code = f"""
import asyncio
{backend.open_elsewhere()}
async def main():
    async with open_log() as log, log.consume([{TOPIC!r}], "store") as member:
        while not (batch := await member.fetch(3, 1.0)).records: pass
        print(len(batch.records), flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    async with backend.open() as log:
        await log.append(TOPIC, "m1", numbered(0, 10))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert child.stdout is not None
            assert int(await asyncio.wait_for(child.stdout.readline(), 15)) > 0
            async with log.consume([TOPIC], "store") as standby:
                assert not (await standby.fetch(10, LEASE_S)).records
                child.kill()
                async with asyncio.timeout(5):
                    assert numbers(await fetch_count(standby, 10)) == list(range(10))
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()


async def test_a_fence_lets_in_only_who_saw_the_end(log: EventLog) -> None:
    end = await log.append(SMALL, "a", numbered(0, 1), fence={})
    end = await log.append(SMALL, "b", numbered(1, 3), fence=end)
    assert end == await log.end(SMALL)
    with pytest.raises(Conflict):
        await log.append(SMALL, "a", numbered(9, 1), fence={})
    with pytest.raises(Conflict):
        await log.append(SMALL, "a", [Record(b"9", id="x"), Record(b"9", id="y")], fence={"0": 3})
    again = await log.append(SMALL, "a", [Record(b"4", id="x"), Record(b"5", id="y")], fence=end)
    with pytest.raises(Conflict):  # a retry after a lost confirmation looks like any other writer's
        await log.append(SMALL, "a", [Record(b"4", id="x"), Record(b"5", id="y")], fence=end)
    assert numbers(await whole(log, SMALL)) == [0, 1, 2, 3, 4, 5]
    assert again == await log.end(SMALL)


async def test_of_many_fenced_writers_exactly_one_wins(backend: Backend) -> None:
    async with backend.open() as one, backend.open() as two:
        end = await one.append(SMALL, "a", numbered(0, 1))
        outcomes = await asyncio.gather(
            *(
                log.append(SMALL, "a", numbered(n, 2), fence=end)
                for n, log in enumerate((one, two, one, two))
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, dict) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 3
        assert len(await whole(one, SMALL)) == 3


async def fill(log: EventLog) -> int:
    """Append pairs to the small topic until it is full; returns the records it took."""
    for start in range(0, 200, 2):
        try:
            await log.append(SMALL, "a", numbered(start, 2, size=8000))
        except Unavailable:
            return start
    raise AssertionError("the topic never got full")


async def test_a_full_log_is_unavailable_until_it_has_room(backend: Backend, log: EventLog) -> None:
    stored = await fill(log)
    assert stored > 0
    with pytest.raises(Unavailable):
        await log.append(SMALL, "a", numbered(0, 1, size=8000))
    await log.append(TOPIC, "m1", numbered(0, 1))  # the other topics have room
    assert len(await whole(log, SMALL)) == stored
    await backend.make_room()
    await log.append(SMALL, "a", numbered(stored, 2, size=8000))
    assert numbers(await whole(log, SMALL)) == list(range(stored + 2))


@pytest.mark.parametrize("size", [520 << 10, 3 << 20])
async def test_a_record_too_large_is_rejected_and_the_rest_goes_on(log: EventLog, size: int) -> None:
    outcomes = await asyncio.gather(
        log.append(TOPIC, "m1", numbered(0, 1)),
        log.append(TOPIC, "m1", [Record(b"x" * size)]),
        log.append(TOPIC, "m1", numbered(1, 1)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [dict, Rejected, dict]
    await log.append(TOPIC, "m1", [Record(b"x" * (256 << 10), {"im-edge": "e1"})])
    assert len(await whole(log, TOPIC)) == 3


@pytest.mark.parametrize("key", ["", "a b", "a*", ">", "a..b", ".a", "a\n"])
async def test_a_key_that_is_no_key_is_rejected(log: EventLog, key: str) -> None:
    with pytest.raises(Rejected):
        await log.append(TOPIC, key, numbered(0, 1))


async def test_with_the_server_away_everything_is_unavailable_at_once_and_comes_back(
    backend: Backend, log: EventLog
) -> None:
    async with log.consume([TOPIC], "store") as member:
        await log.append(TOPIC, "m1", numbered(0, 1))
        assert numbers(await fetch_count(member, 1)) == [0]
        backend.kill()
        async with asyncio.timeout(2):
            with pytest.raises(Unavailable):
                await log.append(TOPIC, "m1", numbered(1, 1))
            with pytest.raises(Unavailable):
                await log.end(TOPIC)
            with pytest.raises(Unavailable):
                await member.fetch(10, 5.0)
            with pytest.raises(Unavailable):
                await whole(log, TOPIC)
        await asyncio.to_thread(backend.restart)
        await insist(log, TOPIC, numbered(1, 1))
        assert numbers(await fetch_count(member, 1))[-1:] == [1]


async def test_a_cancelled_append_leaves_the_log_in_order(log: EventLog) -> None:
    appends = [asyncio.ensure_future(log.append(TOPIC, "m1", numbered(10 * n, 10))) for n in range(40)]
    await asyncio.sleep(0)
    for append in appends[::2]:
        append.cancel()
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    await log.append(TOPIC, "m1", numbered(400, 10))
    found = numbers(await whole(log, TOPIC))
    assert found == sorted(set(found))
    for n, outcome in enumerate(outcomes):
        held = [number for number in found if number // 10 == n]
        assert held == list(range(10 * n, 10 * n + 10)) or (not held and not isinstance(outcome, dict))


async def test_a_resend_with_the_same_id_is_dropped(log: EventLog) -> None:
    records = [Record(str(n).encode(), id=f"e1-{n}") for n in range(3)]
    first = await log.append(TOPIC, "m1", records)
    assert await log.append(TOPIC, "m1", records) == first
    assert await log.append(TOPIC, "m1", records[:1]) == {"0": first["0"] - 2}
    mixed = [*records, Record(b"3", id="e1-3")]
    await asyncio.gather(log.append(TOPIC, "m1", mixed), log.append(TOPIC, "m1", mixed[2:]))
    assert numbers(await whole(log, TOPIC)) == [0, 1, 2, 3]


async def test_a_second_consumer_of_a_log_survives_the_first_ones_loss_of_lease(backend: Backend) -> None:
    """A member frozen past its lease must not deliver, and its acks must not count, once another took over."""
    async with backend.open() as one, backend.open() as two:
        await one.append(TOPIC, "m1", numbered(0, 4))
        async with one.consume([TOPIC], "store") as frozen:
            held = await fetch_some(frozen, limit=2)
            frozen._keeper.cancel()  # type: ignore[attr-defined] # as a process that is stopped: nothing renews
            async with two.consume([TOPIC], "store") as standby:
                assert numbers(await fetch_count(standby, 4)) == [0, 1, 2, 3]
                with pytest.raises(Unavailable):
                    await held.ack()
                with pytest.raises(asyncio.CancelledError):
                    await frozen.fetch(1, 0.0)


async def test_wrong_credentials_and_unknown_urls_are_misconfigured(backend: Backend) -> None:
    for credentials in ("admin:wrong", ""):
        with pytest.raises(Misconfigured):
            async with open_event_log(backend.url, credentials=credentials):
                pass
    with pytest.raises(Misconfigured):
        async with open_event_log("ftp://nowhere"):
            pass
    async with open_event_log(backend.url, credentials=backend.credentials) as log:
        assert await log.end(TOPIC) == {}


async def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    options = LogOptions(timeouts=Timeouts(connect=0.3))
    with pytest.raises(IndustrialMindError) as raised:
        async with open_jetstream(server.url, credentials="admin:secret", options=options):
            pass
    assert isinstance(raised.value, Unavailable)
