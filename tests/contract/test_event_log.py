"""The event log's promises, one suite for every backend. To add a backend: a class like `Backend` in conftest.py."""

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from shared.errors import Conflict, IndustrialMindError, Misconfigured, Rejected, Unavailable
from shared.eventlog import EventLog, LogWaits, Record, Stored, open_event_log
from tests.contract.log_backends import (
    LEASE_S,
    Backend,
    Names,
    fetch_count,
    fetch_some,
    insist,
    numbered,
    numbers,
    whole,
)


async def test_a_record_comes_back_as_it_went_in(log: EventLog, at: Names) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    headers = {"im-edge": "e1", "note": "größer: ja"}
    await log.append(at.topic, "pump-1", [Record(b"\x00\xff", headers)])
    [stored] = await whole(log, at.topic)
    assert (stored.topic, stored.key, stored.value) == (at.topic, "pump-1", b"\x00\xff")
    assert dict(stored.headers) == headers
    assert before.timestamp() * 1e6 < stored.time_us < datetime.now(UTC).timestamp() * 1e6 + 1e6


async def test_appends_of_a_key_keep_their_order_also_when_they_overlap(log: EventLog, at: Names) -> None:
    async with asyncio.TaskGroup() as group:
        for start in range(0, 400, 4):
            group.create_task(log.append(at.topic, "m1", numbered(start, 4)))
            group.create_task(log.append(at.topic, "m2", numbered(start, 4)))
    stored = await whole(log, at.topic)
    for key in ("m1", "m2"):
        assert numbers([record for record in stored if record.key == key]) == list(range(400))


async def test_more_records_than_one_batch_holds(log: EventLog, at: Names) -> None:
    end = await log.append(at.topic, "m1", numbered(0, 2500))
    assert numbers(await whole(log, at.topic)) == list(range(2500))
    assert end == await log.end(at.topic)


async def test_a_position_is_that_of_the_last_record(log: EventLog, at: Names) -> None:
    assert await log.end(at.topic) == {}
    first = await log.append(at.topic, "m1", numbered(0, 3))
    assert await log.append(at.topic, "m1", []) == first
    assert await log.end(at.topic) == first
    last = (await whole(log, at.topic))[-1]
    assert first == {last.partition: last.offset}


async def test_what_was_confirmed_survives_the_servers_kill(
    backend: Backend, log: EventLog, at: Names
) -> None:
    confirmed = 0

    async def produce() -> None:
        nonlocal confirmed
        while confirmed < 600:
            try:
                await log.append(at.topic, "m1", numbered(confirmed, 5))
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
    found = numbers(await whole(log, at.topic))
    assert set(found) == set(range(600))
    # A retry may repeat what was stored but not confirmed; it never goes back further than that.
    firsts = list(dict.fromkeys(found))
    assert firsts == sorted(firsts)


async def test_read_from_a_position_and_from_a_time(log: EventLog, at: Names) -> None:
    await log.append(at.topic, "m1", numbered(0, 5))
    position = await log.append(at.topic, "m1", numbered(5, 1))
    await asyncio.sleep(0.01)  # the log's clock must move on between the two
    await log.append(at.topic, "m1", numbered(6, 3))
    assert numbers([stored async for stored in log.read(at.topic, position)]) == [6, 7, 8]
    sixth = next(record for record in await whole(log, at.topic) if numbers([record]) == [6])
    since = datetime.fromtimestamp(sixth.time_us / 1e6, UTC)
    assert numbers([stored async for stored in log.read(at.topic, since)])[-3:] == [6, 7, 8]
    assert 0 not in numbers([stored async for stored in log.read(at.topic, since)])
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert [stored async for stored in log.read(at.topic, tomorrow)] == []


async def test_a_read_ends_at_the_end_of_its_start(log: EventLog, at: Names) -> None:
    await log.append(at.topic, "m1", numbered(0, 600))
    found: list[Stored] = []
    async for stored in log.read(at.topic):
        if not found:
            await log.append(at.topic, "m1", numbered(600, 10))
        found.append(stored)
    assert numbers(found) == list(range(600))


async def test_following_sees_what_comes_later_also_after_a_kill(
    backend: Backend, log: EventLog, at: Names
) -> None:
    await log.append(at.topic, "m1", numbered(0, 3))
    follower = log.read(at.topic, follow=True)
    async with asyncio.timeout(90):
        assert numbers([await anext(follower) for _ in range(3)]) == [0, 1, 2]
        await log.append(at.topic, "m1", numbered(3, 1))
        assert numbers([await anext(follower)]) == [3]
        backend.kill()
        coming = asyncio.ensure_future(anext(follower))
        await asyncio.to_thread(backend.restart)
        await insist(log, at.topic, numbered(4, 1))
        assert numbers([await coming]) == [4]
    await follower.aclose()  # type: ignore[attr-defined]


async def test_a_group_gets_everything_once_when_it_acknowledges(log: EventLog, at: Names) -> None:
    await log.append(at.topic, "m1", numbered(0, 50))
    async with log.consume([at.topic], at.group) as member:
        assert numbers(await fetch_count(member, 50)) == list(range(50))
        await log.append(at.topic, "m1", numbered(50, 10))
        assert numbers(await fetch_count(member, 10)) == list(range(50, 60))
    async with log.consume([at.topic], at.group) as member:
        await log.append(at.topic, "m1", numbered(60, 1))
        assert numbers(await fetch_count(member, 1)) == [60]
    async with log.consume([at.topic], "another") as member:
        assert len(await fetch_count(member, 61)) == 61


async def test_an_empty_fetch_ends_after_its_wait(log: EventLog, at: Names) -> None:
    async with log.consume([at.topic], at.group) as member:
        async with asyncio.timeout(3):
            batch = await member.fetch(10, 0.2)
        assert not batch.records
        await batch.ack()


async def test_a_fetch_is_bounded_and_takes_the_topics_in_turn(log: EventLog, at: Names) -> None:
    await log.append(at.topic, "m1", numbered(0, 300))
    await log.append(at.other, "m1", numbered(0, 20))
    async with log.consume([at.topic, at.other], at.group) as member:
        found: list[Stored] = []
        while len(found) < 320:
            batch = await fetch_some(member, limit=7)
            assert len(batch.records) <= 7
            found += batch.records
            await batch.ack()
    for topic, count in ((at.topic, 300), (at.other, 20)):
        assert numbers([record for record in found if record.topic == topic]) == list(range(count))
    # The short topic is not kept waiting until the long one is through.
    assert max(n for n, record in enumerate(found) if record.topic == at.other) < 200


async def test_unacknowledged_records_come_again_to_the_same_member(backend: Backend, at: Names) -> None:
    async with backend.open(ack_wait=0.5) as log:
        await log.append(at.topic, "m1", numbered(0, 3))
        async with log.consume([at.topic], at.group) as member:
            assert len(await fetch_count(member, 3, ack=False)) == 3
            assert numbers(await fetch_count(member, 3)) == [0, 1, 2]
            await log.append(at.topic, "m1", numbered(3, 1))
            assert numbers(await fetch_count(member, 1)) == [3]


async def test_unacknowledged_records_come_first_to_the_next_member(log: EventLog, at: Names) -> None:
    await log.append(at.topic, "m1", numbered(0, 20))
    async with log.consume([at.topic], at.group) as member:
        first = await fetch_some(member, limit=5)
        await first.ack()
        committed = len(first.records)
        assert numbers((await fetch_some(member, limit=5)).records)[0] == committed
    async with log.consume([at.topic], at.group) as member:
        assert numbers(await fetch_count(member, 20 - committed)) == list(range(committed, 20))


async def test_members_one_after_another_on_one_connection_each_begin_where_the_last_one_ended(
    log: EventLog, at: Names
) -> None:
    """Records come now and then: what the last one had asked for is not to bring the next one some before its turn."""
    random = np.random.default_rng(3)

    async def feed() -> None:
        for number in range(300):
            await asyncio.sleep(random.uniform(0, 0.006))
            await log.append(at.topic, "m1", numbered(number, 1))

    feeding = asyncio.create_task(feed())
    taken: list[int] = []
    while len(taken) < 300:
        async with log.consume([at.topic], at.group) as member:
            end = min(len(taken) + 6, 300)
            while len(taken) < end:
                batch = await fetch_some(member)
                taken += numbers(batch.records)
                await batch.ack()
    await feeding
    assert taken == list(range(300))


async def test_a_group_goes_on_after_the_servers_kill_without_a_loss(
    backend: Backend, log: EventLog, at: Names
) -> None:
    await log.append(at.topic, "m1", numbered(0, 30))
    async with log.consume([at.topic], at.group) as member:
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


async def test_of_one_stream_one_member_is_active_and_another_takes_over(backend: Backend, at: Names) -> None:
    async with backend.open() as writer, backend.open() as second, AsyncExitStack() as first:
        await writer.append(at.topic, "m1", numbered(0, 10))
        log = await first.enter_async_context(backend.open())
        member = await first.enter_async_context(log.consume([at.topic], at.group))
        assert numbers(await fetch_count(member, 10)) == list(range(10))
        async with second.consume([at.topic], at.group) as standby:
            await writer.append(at.topic, "m1", numbered(10, 10))
            assert not (await standby.fetch(10, 2 * LEASE_S)).records
            assert numbers(await fetch_count(member, 10, ack=False)) == list(range(10, 20))
            await first.aclose()
            async with asyncio.timeout(5):
                assert numbers(await fetch_count(standby, 10)) == list(range(10, 20))


async def test_a_member_killed_in_its_process_is_replaced_in_seconds(backend: Backend, at: Names) -> None:
    code = f"""
import asyncio
{backend.open_elsewhere()}
async def main():
    async with open_log() as log, log.consume([{at.topic!r}], {at.group!r}) as member:
        while not (batch := await member.fetch(3, 1.0)).records: pass
        print(len(batch.records), flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    async with backend.open() as log:
        await log.append(at.topic, "m1", numbered(0, 10))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert child.stdout is not None
            assert int(await asyncio.wait_for(child.stdout.readline(), 15)) > 0
            async with log.consume([at.topic], at.group) as standby:
                assert not (await standby.fetch(10, LEASE_S)).records
                child.kill()
                async with asyncio.timeout(backend.replaced_s):
                    assert numbers(await fetch_count(standby, 10)) == list(range(10))
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()


async def test_a_fence_lets_in_only_who_saw_the_end(log: EventLog, at: Names) -> None:
    end = await log.append(at.small, "a", numbered(0, 1), fence={})
    end = await log.append(at.small, "b", numbered(1, 3), fence=end)
    assert end == await log.end(at.small)
    with pytest.raises(Conflict):
        await log.append(at.small, "a", numbered(9, 1), fence={})
    with pytest.raises(Conflict):
        await log.append(at.small, "a", [Record(b"9", id="x"), Record(b"9", id="y")], fence={"0": 3})
    again = await log.append(at.small, "a", [Record(b"4", id="x"), Record(b"5", id="y")], fence=end)
    with pytest.raises(Conflict):  # a retry after a lost confirmation looks like any other writer's
        await log.append(at.small, "a", [Record(b"4", id="x"), Record(b"5", id="y")], fence=end)
    assert numbers(await whole(log, at.small)) == [0, 1, 2, 3, 4, 5]
    assert again == await log.end(at.small)


async def test_of_many_fenced_writers_exactly_one_wins(backend: Backend, at: Names) -> None:
    async with backend.open() as one, backend.open() as two:
        end = await one.append(at.small, "a", numbered(0, 1))
        outcomes = await asyncio.gather(
            *(
                log.append(at.small, "a", numbered(n, 2), fence=end)
                for n, log in enumerate((one, two, one, two))
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, dict) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 3
        assert len(await whole(one, at.small)) == 3


async def fill(log: EventLog, at: Names) -> int:
    """Append pairs to the small topic until it is full; returns the records it took."""
    for start in range(0, 200, 2):
        try:
            await log.append(at.small, "a", numbered(start, 2, size=8000))
        except Unavailable:
            return start
    raise AssertionError("the topic never got full")


async def test_a_full_log_is_unavailable_until_it_has_room(
    backend: Backend, log: EventLog, at: Names
) -> None:
    if not backend.fills_up:
        pytest.skip("its topics share the disk")
    stored = await fill(log, at)
    assert stored > 0
    with pytest.raises(Unavailable):
        await log.append(at.small, "a", numbered(0, 1, size=8000))
    await log.append(at.topic, "m1", numbered(0, 1))  # the other topics have room
    assert len(await whole(log, at.small)) == stored
    await backend.make_room()
    await log.append(at.small, "a", numbered(stored, 2, size=8000))
    assert numbers(await whole(log, at.small)) == list(range(stored + 2))


@pytest.mark.parametrize("size", [520 << 10, 3 << 20])
async def test_a_record_too_large_is_rejected_and_the_rest_goes_on(
    log: EventLog, size: int, at: Names
) -> None:
    outcomes = await asyncio.gather(
        log.append(at.topic, "m1", numbered(0, 1)),
        log.append(at.topic, "m1", [Record(b"x" * size)]),
        log.append(at.topic, "m1", numbered(1, 1)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [dict, Rejected, dict]
    await log.append(at.topic, "m1", [Record(b"x" * (256 << 10), {"im-edge": "e1"})])
    assert len(await whole(log, at.topic)) == 3


@pytest.mark.parametrize("key", ["", "a b", "a*", ">", "a..b", ".a", "a\n"])
async def test_a_key_that_is_no_key_is_rejected(log: EventLog, key: str, at: Names) -> None:
    with pytest.raises(Rejected):
        await log.append(at.topic, key, numbered(0, 1))


async def test_with_the_server_away_everything_is_unavailable_at_once_and_comes_back(
    backend: Backend, log: EventLog, at: Names
) -> None:
    async with log.consume([at.topic], at.group) as member:
        await log.append(at.topic, "m1", numbered(0, 1))
        assert numbers(await fetch_count(member, 1)) == [0]
        backend.kill()
        async with asyncio.timeout(backend.at_once_s):
            with pytest.raises(Unavailable):
                await log.append(at.topic, "m1", numbered(1, 1))
            with pytest.raises(Unavailable):
                await log.end(at.topic)
            with pytest.raises(Unavailable):
                await member.fetch(10, 5.0)
            with pytest.raises(Unavailable):
                await whole(log, at.topic)
        await asyncio.to_thread(backend.restart)
        await insist(log, at.topic, numbered(1, 1))
        assert numbers(await fetch_count(member, 1))[-1:] == [1]


async def test_a_cancelled_append_leaves_the_log_in_order(log: EventLog, at: Names) -> None:
    appends = [asyncio.ensure_future(log.append(at.topic, "m1", numbered(10 * n, 10))) for n in range(40)]
    await asyncio.sleep(0)
    for append in appends[::2]:
        append.cancel()
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    await log.append(at.topic, "m1", numbered(400, 10))
    found = numbers(await whole(log, at.topic))
    assert found == sorted(set(found))
    for n, outcome in enumerate(outcomes):
        held = [number for number in found if number // 10 == n]
        assert held == list(range(10 * n, 10 * n + 10)) or (not held and not isinstance(outcome, dict))


async def test_a_resend_with_the_same_id_is_dropped(backend: Backend, log: EventLog, at: Names) -> None:
    if not backend.drops_resends:
        pytest.skip("what a resend repeats is dropped by its identity, later")
    records = [Record(str(n).encode(), id=f"e1-{n}") for n in range(3)]
    first = await log.append(at.topic, "m1", records)
    assert await log.append(at.topic, "m1", records) == first
    assert await log.append(at.topic, "m1", records[:1]) == {"0": first["0"] - 2}
    mixed = [*records, Record(b"3", id="e1-3")]
    await asyncio.gather(log.append(at.topic, "m1", mixed), log.append(at.topic, "m1", mixed[2:]))
    assert numbers(await whole(log, at.topic)) == [0, 1, 2, 3]


async def test_a_second_consumer_of_a_log_survives_the_first_ones_loss_of_lease(
    backend: Backend, at: Names
) -> None:
    """A member frozen past its lease must not deliver, and its acks must not count, once another took over."""
    if not backend.lease:
        pytest.skip("its members need no lease")
    async with backend.open() as one, backend.open() as two:
        await one.append(at.topic, "m1", numbered(0, 4))
        async with one.consume([at.topic], at.group) as frozen:
            held = await fetch_some(frozen, limit=2)
            frozen._keeper.cancel()  # type: ignore[attr-defined] # as a process that is stopped: nothing renews
            async with two.consume([at.topic], at.group) as standby:
                assert numbers(await fetch_count(standby, 4)) == [0, 1, 2, 3]
                with pytest.raises(Unavailable):
                    await held.ack()
                with pytest.raises(asyncio.CancelledError):
                    await frozen.fetch(1, 0.0)


async def test_wrong_credentials_and_unknown_urls_are_misconfigured(backend: Backend, at: Names) -> None:
    waits = LogWaits(connect=3.0)
    for credentials, error in (("admin:wrong", Misconfigured), ("", backend.to_strangers)):
        with pytest.raises(error):
            async with open_event_log(backend.url, credentials=credentials, waits=waits):
                pass
    with pytest.raises(Misconfigured):
        async with open_event_log("ftp://nowhere"):
            pass
    async with open_event_log(backend.url, credentials=backend.credentials) as log:
        assert await log.end(at.topic) == {}


async def test_nobody_there_is_unavailable(backend: Backend) -> None:
    with pytest.raises(IndustrialMindError) as raised:
        async with backend.open_nowhere(0.3):
            pass
    assert isinstance(raised.value, Unavailable)
