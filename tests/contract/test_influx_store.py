"""InfluxDB's store held against the embedded one: the same content and counts, whatever fails between points and books."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.telemetry.access import Access
from cloud.telemetry.influx.store import InfluxStore
from cloud.telemetry.port import END_US, HOUR_US, MINUTE_US, Entry, TelemetryStore, open_store
from deploy.servers.influxdb import InfluxDB
from deploy.servers.postgresql import PostgreSQL
from shared.errors import Misconfigured, Unavailable
from shared.eventlog import Stored
from shared.frames import Aggregates, Header, Kind, Readings, Scores
from shared.names import SENSOR_READINGS
from tests.contract.store_backends import Opening, new_database, on_influxdb, on_sqlite

pytestmark = pytest.mark.real

P = ParamSpec("P")
T = TypeVar("T")

T0 = 1_750_000_000_000_000 // HOUR_US * HOUR_US
SECOND = 1_000_000
SENSORS = ("a", "b")


@pytest.fixture
def opening(influxdb: InfluxDB, tmp_path: Path) -> Opening:
    return on_influxdb(influxdb, f"sqlite:///{tmp_path}/books.db")


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[TelemetryStore]:
    async with on_sqlite(tmp_path)() as store:
        yield store


def history(rng: random.Random, machine: str) -> list[Entry]:
    """Frames of two sources with few times: duplicates, conflicts and late rows, on both sides of minutes and hours."""
    made = []
    for epoch in (b"1" * 16, b"2" * 16):
        first = 1
        for _ in range(rng.randint(2, 6)):
            rows = rng.randint(1, 6)
            kind = rng.choice([Kind.READINGS] * 4 + [Kind.SCORES, Kind.AGGREGATE])
            header = Header("s1", f"edge-{machine}", machine, kind, epoch, first, rows)
            made.append(Entry(Stored("t", machine, b"", {}, "0", 1, T0), header, content(rng, kind, rows)))
            first += rows
    made += rng.sample(made, k=len(made) // 2)
    rng.shuffle(made)
    return [
        Entry(Stored(SENSOR_READINGS, machine, b"", {}, "0", n, T0), one.header, one.content)
        for n, one in enumerate(made, 1)
    ]


def content(rng: random.Random, kind: Kind, rows: int) -> Readings | Scores | Aggregates:
    def times(step: int) -> NDArray[np.int64]:
        spots = [0, 1, 30, 59, 60, 3599, 3600, 3661]
        return np.array([T0 + rng.choice(spots) * step for _ in range(rows)], np.int64)

    def numbers() -> NDArray[np.float64]:
        return np.array([rng.choice([-1.0, 0.5, 2.0, 1.7e308]) for _ in range(rows)])

    sensor = np.array([rng.randint(0, 1) for _ in range(rows)], np.int64)
    unit = rng.choice(["m", "mm"])
    if kind is Kind.SCORES:
        score = np.array([rng.choice([np.nan, 1.0, 4.0]) for _ in range(rows)], np.float32)
        shares = np.full((rows, 2), 0.5, np.float32)
        state = np.array([rng.randint(0, 2) for _ in range(rows)], np.uint8)
        expected = np.full((rows, 2), np.nan)
        return Scores(
            "pca", "aa", rng.choice([3.0, 3.5]), SENSORS, times(SECOND), score, state, shares, expected
        )
    if kind is Kind.AGGREGATE:
        columns = (sensor, times(SECOND), np.full(rows, 7), numbers(), numbers(), numbers())
        return Aggregates(SENSORS, (unit, unit), 10 * SECOND, *columns)
    arrival = np.array([T0 + rng.randint(0, 2) for _ in range(rows)], np.int64)
    quality = np.array([rng.randint(0, 2) for _ in range(rows)], np.uint8)
    return Readings(SENSORS, (unit, unit), sensor, times(SECOND), arrival, numbers(), quality)


class Failing(Generic[P, T]):
    """A method's calls that fail now and then, before they did anything or after they did it."""

    def __init__(self, call: Callable[P, Awaitable[T]], rng: random.Random, after: float) -> None:
        self.failures = 0
        self._call, self._rng, self._after = call, rng, after

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        chance = self._rng.random()
        if chance < 0.15:
            self.failures += 1
            raise Unavailable("away before")
        result = await self._call(*args, **kwargs)
        if chance < 0.15 + self._after:
            self.failures += 1
            raise Unavailable("away after")
        return result


def unreliable(store: TelemetryStore, rng: random.Random) -> Failing[..., None]:
    """Posts may fail before or after they arrived; of the books only what comes before the commit."""
    assert isinstance(store, InfluxStore)
    assert store._writing is not None
    writer = store._writing[0]
    posts = Failing(writer._client.write, rng, 0.15)
    writer._client.write = posts  # type: ignore[method-assign]
    writer._books.write = Failing(writer._books.write, rng, 0.0)  # type: ignore[method-assign]
    return posts


async def everything(store: TelemetryStore, machine: str) -> dict[str, Any]:
    """All that a store tells of a machine."""
    found: dict[str, Any] = {"readings": []}
    async for part in store.columns(machine):
        for n in range(len(part)):
            found["readings"].append(
                (
                    part.sensors[part.sensor[n]],
                    int(part.time_us[n]),
                    float(part.value[n]),
                    int(part.quality[n]),
                    part.units[part.unit[n]],
                    int(part.arrival_us[n]),
                    part.sources[part.source[n]],
                    int(part.row[n]),
                )
            )
    found["readings"].sort()
    found["series"] = [(one.sensor, one.unit) for one in await store.series(machine)]
    found["latest"] = await store.latest(machine)
    for width_us in (MINUTE_US, HOUR_US):
        for one in await store.rollups(machine, None, width_us, 0, END_US):
            columns = (one.start_us, one.rows, one.minimum, one.maximum, one.last, one.quality)
            kept = [one.unit, *(column.tolist() for column in columns)]
            found[f"{one.sensor} by {width_us}"] = (
                kept,
                [f"{round(mean, 9) + 0.0:.9g}" for mean in one.mean.tolist()],
            )
    found["scores"] = sorted(
        (int(time), repr(one.limit), int(state), repr(float(score)), one.contribution[n].tolist())
        for one in await store.scores(machine, 0, END_US, 1000)
        for n, (time, state, score) in enumerate(zip(one.time_us, one.state, one.score, strict=True))
    )
    buckets = [
        (sensor, one) for sensor in SENSORS for one in await store.aggregates(machine, sensor, 0, END_US)
    ]
    found["aggregates"] = sorted(
        (sensor, one.units, int(start), int(rows), float(mean))
        for sensor, one in buckets
        for start, rows, mean in zip(one.start_us, one.rows, one.mean, strict=True)
    )
    edge = f"edge-{machine}"
    found["ranges"] = await store.stored_ranges(edge)
    found["counters"] = {
        source: one for source, one in (await store.counters()).items() if source.edge == edge
    }
    found["conflicts"] = sorted(repr(one) for one in await store.conflicts() if one.machine == machine)
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_content_and_counts_are_the_embedded_stores_whatever_fails_on_the_way(
    opening: Opening, plain: TelemetryStore, seed: int
) -> None:
    rng = random.Random(seed)
    failures = 0
    for number in range(8):
        machine = f"m-{seed}-{number}"
        entries = history(rng, machine)
        cuts = sorted({0, len(entries), *(rng.randint(0, len(entries)) for _ in range(4))})
        for start, end in pairwise(cuts):
            await plain.write(entries[start:end])
        async with opening() as store:
            failing = unreliable(store, rng)
            place = 0
            while place < len(entries):
                end = rng.randint(place + 1, min(len(entries), place + 6))  # cut anew after each failure
                try:
                    await store.write(entries[place:end])
                except Unavailable:
                    continue
                place = end
            failures += failing.failures
        async with opening() as store:
            assert isinstance(store, InfluxStore)
            assert await everything(store, machine) == await everything(plain, machine)
            assert await store.make_rollups() > 0
            assert await everything(store, machine) == await everything(plain, machine), "made, not computed"
            assert await store.make_rollups() == 0
    assert failures > 10


async def test_a_point_that_is_there_in_part_is_not_there_yet(
    opening: Opening, plain: TelemetryStore
) -> None:
    """The server shows fields of points that it is just storing; none of them was confirmed to anybody."""
    entries = history(random.Random(3), "m-0")
    late = T0 + 5 * HOUR_US
    body = Readings(("a",), ("m",), np.zeros(2, np.int64), np.array([late, late + 3]), np.array([late, late + 3]),
                    np.array([7.0, 8.0]), np.zeros(2, np.uint8))  # fmt: skip
    header = Header("s1", "edge-m-0", "m-0", Kind.READINGS, b"3" * 16, 1, 2)
    last = Entry(Stored(SENSOR_READINGS, "m-0", b"", {}, "0", len(entries) + 1, T0), header, body)
    await plain.write(entries)
    async with opening() as store:
        assert isinstance(store, InfluxStore)
        await store.write(entries)
        client = store._client
        for bucket, line in (
            (client.place.readings("m-0"), f"reading,machine=m-0,sensor=a value=1 {late}"),
            (client.place.readings("m-0"), f"reading,machine=m-0,sensor=b value=1,a=1i {late}"),
            (client.place.readings("m-0"), f"reading,machine=m-0,sensor=a a=1i,o=1i {late + 1}"),
            (client.place.readings("m-0"), f"score,machine=m-0,version=aa l=1i {late}"),
            (client.place.readings("m-0"), f'score,machine=m-0,version=aa d="" {late + 1}'),
            (client.place.rollups("m-0", MINUTE_US), f"aggregate,machine=m-0,sensor=a,width_us=10000000 rows=1i {late}"),
            (client.place.rollups("m-0", HOUR_US), f"rollup_1h,machine=m-0,sensor=a mean=1,minimum=1 {late}"),
        ):  # fmt: skip
            await client.write(bucket, line.encode())
        assert await everything(store, "m-0") == await everything(plain, "m-0")
        for each in (store, plain):
            curves = await each.trends("m-0", None, T0, END_US, 10_000)
            assert [one.time_us.max() < late for one in curves] == [True] * len(curves)
            assert len(await anext(each.columns("m-0", chunk=1))), (
                "a page of one point, which may be such a one"
            )
        await store.write([last])
        await plain.write([last])
        assert await everything(store, "m-0") == await everything(plain, "m-0")


async def test_members_that_write_one_store_see_what_the_others_did(
    influxdb: InfluxDB, postgresql: PostgreSQL, plain: TelemetryStore
) -> None:
    """Partitions move between two members at any time: neither trusts what it knew of a machine before."""
    opening = on_influxdb(influxdb, new_database(postgresql))
    rng = random.Random(7)
    machines = ["m-0", "m-1", "m-2"]
    histories = {machine: history(rng, machine) for machine in machines}
    async with opening() as one, opening() as other:
        while any(histories.values()):
            machine = rng.choice([name for name, left in histories.items() if left])
            left = histories[machine]
            part = left[: rng.randint(1, 4)]
            del left[: len(part)]
            await rng.choice([one, other]).write(part)
            await plain.write(part)
        for machine in machines:
            assert await everything(one, machine) == await everything(plain, machine)


async def test_one_edges_rows_of_several_machines_are_written_by_several_members_at_once(
    influxdb: InfluxDB, postgresql: PostgreSQL
) -> None:
    opening = on_influxdb(influxdb, new_database(postgresql))

    def part(machine: str, first: int) -> Entry:
        rows = np.arange(first, first + 10)
        body = Readings(
            ("a",), ("m",), np.zeros(10, np.int64), T0 + rows * SECOND, T0 + rows, rows.astype(float), np.zeros(10, np.uint8)
        )  # fmt: skip
        header = Header("s1", "edge-1", machine, Kind.READINGS, b"1" * 16, first, 10)
        return Entry(Stored(SENSOR_READINGS, machine, b"", {}, machine[-1], first, T0), header, body)

    async def member(machine: str, firsts: range) -> None:
        async with opening() as store:
            for first in firsts:
                await store.write([part(machine, first)])

    await asyncio.gather(member("m-0", range(1, 400, 20)), member("m-1", range(11, 400, 20)))
    async with opening(read_only=True) as store:
        [ranges] = (await store.stored_ranges()).values()
        assert list(ranges.stored) == [(1, 400)]
        assert await store.count("m-0") == await store.count("m-1") == 200
        assert await store.positions() == {SENSOR_READINGS: {"0": 381, "1": 391}}


async def test_what_is_wrong_with_the_settings_is_said_at_the_start(
    influxdb: InfluxDB, opening: Opening
) -> None:
    for url, access, why in (
        (opening.url, Access(influxdb.token), "no telemetry_books_url"),
        (opening.url, Access("wrong", opening.access.books_url), "refuses the token"),
        ("influxdb://127.0.0.1:1/im", opening.access, "names no InfluxDB bucket"),
    ):
        with pytest.raises(Misconfigured, match=why):
            async with open_store(url, access=access):
                pass
    with pytest.raises(Unavailable):
        async with open_store("influxdb://127.0.0.1:1/im/im", access=opening.access):
            pass


async def test_a_server_that_is_stopped_or_killed_under_load_costs_no_row_and_no_wrong_answer(
    tmp_path: Path,
) -> None:
    with InfluxDB(tmp_path / "influxdb") as server:
        opening = on_influxdb(server, f"sqlite:///{tmp_path}/books.db")
        async with opening() as store, opening(read_only=True) as reader:
            load = Load(store, reader)
            async with asyncio.TaskGroup() as group:
                group.create_task(load.write())
                group.create_task(load.read())
                for end in (server.stop, server.kill):
                    await load.goes_on()
                    await asyncio.to_thread(end)
                    await load.is_away()
                    await asyncio.to_thread(server.start)
                await load.goes_on()
                load.over.set()
            assert isinstance(store, InfluxStore)
            await store.make_rollups()
            [ranges] = (await store.stored_ranges()).values()
            assert list(ranges.stored) == [(1, load.confirmed)]
            found = await store.readings("m-0", "a", 0, END_US, load.confirmed + 1)
            assert found.value.tolist() == [float(n) for n in range(1, load.confirmed + 1)]
            [hours] = await store.rollups("m-0", None, HOUR_US, 0, END_US)
            assert hours.rows.sum() == load.confirmed


class Load:
    """One who writes without end, waiting where it must, and one who reads and knows what may be seen."""

    def __init__(self, store: TelemetryStore, reader: TelemetryStore) -> None:
        self.over = asyncio.Event()
        self.confirmed = self.sent = self.waits = self.refusals = self.answers = 0
        self._store, self._reader = store, reader

    async def write(self) -> None:
        while not self.over.is_set():
            first, rows = self.confirmed + 1, np.arange(self.confirmed + 1, self.confirmed + 501)
            sensor, quality = np.zeros(500, np.int64), np.zeros(500, np.uint8)
            body = Readings(
                ("a",), ("m",), sensor, T0 + rows * SECOND, T0 + rows, rows.astype(float), quality
            )
            header = Header("s1", "edge-1", "m-0", Kind.READINGS, b"1" * 16, first, 500)
            self.sent = first + 499
            try:
                await self._store.write(
                    [Entry(Stored(SENSOR_READINGS, "m-0", b"", {}, "0", first, T0), header, body)]
                )
            except Unavailable:
                self.waits += 1
                await asyncio.sleep(0.02)
            else:
                self.confirmed = self.sent

    async def read(self) -> None:
        while not self.over.is_set():
            before = self.confirmed
            try:
                await self._reader.positions()
                found = await self._reader.readings("m-0", "a", 0, END_US, 1_000_000, newest=True)
            except Unavailable:
                self.refusals += 1
                await asyncio.sleep(0.02)
                continue
            assert before <= len(found) <= self.sent
            assert found.value.tolist() == [float(n) for n in range(1, len(found) + 1)]
            self.answers += 1

    async def goes_on(self) -> None:
        """Three more writes and answers."""
        confirmed, answers = self.confirmed, self.answers
        while self.confirmed < confirmed + 1500 or self.answers < answers + 3:
            await asyncio.sleep(0.02)

    async def is_away(self) -> None:
        """Both are refused."""
        waits, refusals = self.waits, self.refusals
        while self.waits < waits + 2 or self.refusals < refusals + 2:
            await asyncio.sleep(0.02)


def sparse(machine: str) -> list[Entry]:
    """Readings of two hours, of another hour half a day later, and one two days later; the other sensor ends early."""
    seconds = np.concatenate([np.arange(0, 7200, 7), np.arange(50_000, 53_000, 11), [200_000]])
    made, first = [], 1
    for number, part in enumerate(np.array_split(seconds, 4), 1):
        body = Readings(
            SENSORS,
            ("m", "m"),
            np.where(part < 3000, part % 2, 0),
            T0 + part * SECOND,
            T0 + part * SECOND,
            np.sin(part),
            np.zeros(len(part), np.uint8),
        )
        header = Header("s1", "edge-1", machine, Kind.READINGS, b"1" * 16, first, len(part))
        made.append(Entry(Stored(SENSOR_READINGS, machine, b"", {}, "0", number, T0), header, body))
        first += len(part)
    return made


async def test_curves_of_any_range_count_each_reading_once(opening: Opening, plain: TelemetryStore) -> None:
    """Also where the first and last reading choose other buckets than the range's ends and the newest one do."""
    rng = random.Random(5)
    spots = [-5, 0, 1, 60, 90, 3600, 7000, 7200, 40_000, 50_000, 50_400, 52_999, 53_000, 90_000, 200_001]
    ranges = [tuple(sorted(T0 + rng.choice(spots) * SECOND for _ in range(2))) for _ in range(25)]
    async with opening() as store:
        for writer in (store, plain):
            await writer.write(sparse("pump-1"))
        assert isinstance(store, InfluxStore)
        for _ in range(2):
            for from_us, to_us in [*ranges, (0, END_US), (T0 + 1, END_US)]:
                most = rng.choice([1, 3, 40, 120, 1000])
                for here, there in zip(
                    await store.trends("pump-1", None, from_us, to_us, most),
                    await plain.trends("pump-1", None, from_us, to_us, most),
                    strict=True,
                ):
                    assert (here.sensor, here.rows, here.downsampled) == (
                        there.sensor,
                        there.rows,
                        there.downsampled,
                    ), (from_us - T0, to_us - T0, most)
                    assert len(here.value) <= max(most, 1)
                    if there.rows:
                        assert here.minimum.min() == there.minimum.min()
                        assert here.maximum.max() == there.maximum.max()
                        assert here.time_us[-1] == there.time_us[-1]
            await store.make_rollups()
