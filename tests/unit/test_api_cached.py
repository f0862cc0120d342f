"""Answers that are kept: given again only while nothing of them changed, and made once for all who ask together."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from cloud.api.cached import Answers, Kept, Made, key_of
from cloud.api.touched import HOURS, MACHINES, Reads, Touched, covers
from cloud.cache.memory import MemoryCache
from cloud.cache.port import Cache, CacheMetrics
from cloud.telemetry.port import HOUR_US
from shared.clock import ManualClock
from shared.errors import Unavailable

TOPIC = "sensor-readings"


def hours(first: int, last: int, machine: str | None = "m1") -> Reads:
    return Reads(TOPIC, machine, first * HOUR_US, last * HOUR_US)


class Store:
    """A log and a store of whole numbers: the truth about each machine's hour, and where the store stands."""

    def __init__(self, cache: Cache | None = None, touched: Touched | None = None) -> None:
        self.log: list[tuple[str, int]] = []
        self.stored = 0
        self.looks = self.made = 0
        self.touched = touched or Touched()
        self.registry = CollectorRegistry()
        metrics = CacheMetrics(self.registry)
        self.clock = ManualClock()
        self.cache = cache or MemoryCache(self.clock, metrics, 1_000_000)
        self.answers = Answers(self.cache, self.touched, self.positions, metrics, seconds=60)
        self.gate: asyncio.Event | None = None

    async def positions(self) -> dict[str, dict[str, int]]:
        self.looks += 1
        return {TOPIC: {"0": self.stored}} if self.stored else {}

    def append(self, machine: str, hour: int, *, seen: bool = True, stored: bool = True) -> None:
        self.log.append((machine, hour))
        if seen:
            self.see(len(self.log))
        if stored:
            self.stored = len(self.log)

    def see(self, offset: int) -> None:
        machine, hour = self.log[offset - 1]
        self.touched.touch(TOPIC, "0", offset, machine, (hour * HOUR_US, hour * HOUR_US + 5))

    def truth(self, what: Reads) -> bytes:
        rows = [
            (machine, hour)
            for machine, hour in self.log[: self.stored]
            if what.machine in (None, machine) and what.from_us <= hour * HOUR_US < what.to_us
        ]
        return str(len(rows)).encode()

    async def ask(self, what: Reads) -> Kept:
        async def make() -> Made:
            self.made += 1
            body = self.truth(what)
            if self.gate is not None:
                await self.gate.wait()
            return Made("text/plain", body, {"X-More": "1"})

        found = await self.answers.get(key_of("count", what), [what], make)
        for _ in range(3):
            await asyncio.sleep(0)  # until it is kept
        return found

    def asked(self, outcome: str) -> float:
        return self.registry.get_sample_value("im_cache_requests_total", {"outcome": outcome}) or 0


async def test_an_answer_is_made_once_while_nothing_of_it_changes() -> None:
    store = Store()
    store.touched.begin(TOPIC, {})
    store.append("m1", 3)
    first = await store.ask(hours(0, 10))
    assert (first.made.body, first.made.more) == (b"1", {"X-More": "1"})
    looks = store.looks
    store.append("m2", 3)
    store.append("m1", 20)
    assert await store.ask(hours(0, 10)) == first
    assert (store.made, store.looks) == (1, looks)
    store.append("m1", 9)
    second = await store.ask(hours(0, 10))
    assert (second.made.body, store.made) == (b"2", 2)
    assert second.tag != first.tag
    assert (store.asked("miss"), store.asked("hit"), store.asked("stale")) == (1, 1, 1)


async def test_while_the_log_is_ahead_of_the_store_the_store_s_place_decides() -> None:
    store = Store()
    store.touched.begin(TOPIC, {})
    store.append("m1", 3)
    await store.ask(hours(0, 10))
    store.append("m1", 4, stored=False)
    assert (await store.ask(hours(0, 10))).made.body == b"1"
    assert store.made == 1
    store.stored = 2
    assert (await store.ask(hours(0, 10))).made.body == b"2"


async def test_while_the_log_is_not_followed_the_store_s_place_decides() -> None:
    store = Store()
    for _ in range(3):
        store.append("m1", 3, seen=False)
        assert (await store.ask(hours(0, 10))).made.body == str(len(store.log)).encode()
        await store.ask(hours(0, 10))
    assert store.made == 3
    store.touched.begin(TOPIC, {"0": 3})
    store.append("m1", 3)
    assert (await store.ask(hours(0, 10))).made.body == b"4"
    store.touched.lost(TOPIC)
    store.append("m1", 3, seen=False)
    store.touched.begin(TOPIC, {"0": 5})
    assert (await store.ask(hours(0, 10))).made.body == b"5"


async def test_an_answer_is_forgotten_after_a_while() -> None:
    store = Store()
    store.append("m1", 3)
    await store.ask(hours(0, 10))
    await store.clock.advance(61)
    await store.ask(hours(0, 10))
    assert store.made == 2


async def test_one_answer_is_made_for_all_who_ask_together() -> None:
    store = Store()
    store.touched.begin(TOPIC, {})
    store.append("m1", 3)
    store.gate = asyncio.Event()
    asking = [asyncio.create_task(store.ask(hours(0, 10))) for _ in range(50)]
    await asyncio.sleep(0.01)
    assert store.made == 1
    asking[0].cancel()  # the one who began it: the others still get theirs
    # A row comes while it is made: who asks from now on must see it, and again one answer is enough.
    store.append("m1", 3)
    later = [asyncio.create_task(store.ask(hours(0, 10))) for _ in range(50)]
    await asyncio.sleep(0.01)
    store.gate.set()
    assert {kept.made.body for kept in await asyncio.gather(*asking[1:])} == {b"1"}
    assert {kept.made.body for kept in await asyncio.gather(*later)} == {b"2"}
    assert store.made == 2
    await asyncio.gather(*asking, return_exceptions=True)


async def test_a_failure_is_every_asker_s_and_nobody_s_after() -> None:
    store = Store()
    store.gate = asyncio.Event()

    async def fail() -> Made:
        assert store.gate is not None
        await store.gate.wait()
        raise Unavailable("the store is away")

    asking = [asyncio.create_task(store.answers.get("k", [hours(0, 1)], fail)) for _ in range(3)]
    await asyncio.sleep(0.01)
    store.gate.set()
    assert [type(each) for each in await asyncio.gather(*asking, return_exceptions=True)] == [Unavailable] * 3

    async def well() -> Made:
        return Made("text/plain", b"well", {})

    assert (await store.answers.get("k", [hours(0, 1)], well)).made.body == b"well"


@pytest.mark.parametrize("garbage", [b"", b"\n", b"[1,2]\nx", b"{}\nx", b"nonsense", b'["a",1,2,3]\n'])
async def test_what_is_no_entry_is_made_anew(garbage: bytes) -> None:
    class Odd:
        async def get(self, _: str) -> bytes | None:
            return garbage

        async def put(self, key: str, value: bytes, seconds: float) -> None:
            pass

    store = Store(Odd())
    store.append("m1", 3)
    assert (await store.ask(hours(0, 10))).made.body == b"1"


async def test_two_processes_share_one_cache() -> None:
    one = Store()
    other = Store(one.cache)
    for store in (one, other):
        store.touched.begin(TOPIC, {})
        store.append("m1", 3)
    await one.ask(hours(0, 10))
    assert (await other.ask(hours(0, 10))).made.body == b"1"
    assert other.made == 0
    other.append("m1", 4)  # the first has not heard of it
    assert (await other.ask(hours(0, 10))).made.body == b"2"


def test_what_is_not_known_one_by_one_is_known_together() -> None:
    touched = Touched()
    assert touched.needs(hours(0, 1)) is None
    touched.begin(TOPIC, {"0": 7})
    assert touched.needs(hours(0, 1)) == {"0": 7}
    for hour in range(HOURS + 10):
        touched.touch(TOPIC, "0", 10 + hour, "m1", (hour * HOUR_US, hour * HOUR_US))
    assert touched.needs(hours(500, 501)) == {"0": 19}
    assert touched.needs(hours(30, 31)) == {"0": 40}
    touched.touch(TOPIC, "0", 90, "m1", (0, 100 * HOUR_US))
    assert touched.needs(hours(500, 501)) == {"0": 90}
    touched.touch(TOPIC, "1", 4, "m2", None)
    assert touched.needs(hours(0, 1, "m2")) == {"0": 7, "1": 4}
    assert touched.needs(hours(0, 1, None)) == {"0": 90, "1": 4}
    for n in range(MACHINES):
        touched.touch(TOPIC, "0", 100 + n, f"x{n}", None)
    touched.touch(TOPIC, "0", 20_000, "beyond", None)
    assert touched.needs(hours(0, 1, "nobody")) == {"0": 20_000}
    assert covers({"0": 7, "1": 5}, {"0": 7, "1": 4})
    assert not covers({"0": 7}, {"1": 1})


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["append", "unseen", "unstored", "store", "see", "begin", "lost", "ask", "ask", "other"]
        ),
        st.sampled_from(["m1", "m2"]),
        st.integers(0, 120),
    ),
    max_size=60,
)


@given(STEPS)
async def test_no_answer_lacks_what_the_store_held(steps: list[tuple[str, str, int]]) -> None:
    """Whatever is seen, stored and lost in whatever order, as long as what is stored was seen or is not vouched for.

    A stream that lags behind the store makes an answer as old as that stream: then it must count to what was seen.
    """
    store = Store()
    seen = 0

    def see() -> int:
        for offset in range(seen + 1, len(store.log) + 1):
            store.see(offset)
        return len(store.log)

    for step, machine, hour in steps:
        if step in {"append", "unstored", "unseen"}:
            store.append(machine, hour, seen=False, stored=False)
        if step in {"append", "unstored", "see"}:
            seen = see()
        if step in {"append", "store"}:
            store.stored = seen  # the store never passes the stream here
        if step == "begin":
            store.touched.begin(TOPIC, {"0": len(store.log)} if store.log else {})
            seen = len(store.log)
        if step == "lost":
            store.touched.lost(TOPIC)
        if step in {"ask", "other"}:
            what = hours(hour, hour + 7, machine if step == "ask" else None)
            assert (await store.ask(what)).made.body == store.truth(what)
