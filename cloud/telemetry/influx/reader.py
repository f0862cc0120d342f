"""Reading from InfluxDB and the books beside it.

Curves and counts are asked of the server; rows are parsed in bulk into columns. A reader sees points as soon as they
are there, a moment before the books hold their rows; a snapshot shows only rows that the books held when it was opened.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np

from cloud.telemetry.facts import HOUR_US, MINUTE_US
from cloud.telemetry.influx import scores as scored
from cloud.telemetry.influx.buckets import MEASUREMENTS, Buckets
from cloud.telemetry.influx.client import InfluxClient, Table
from cloud.telemetry.influx.curve import Expired
from cloud.telemetry.influx.points import (
    AGGREGATE,
    KIND_AGGREGATE,
    KIND_READING,
    LATEST_US,
    READING,
    between,
    text,
    unpack,
)
from cloud.telemetry.influx.rollups import counted, kept
from cloud.telemetry.influx.trends import Curves, look, span_of
from cloud.telemetry.lateness import ByStage
from cloud.telemetry.port import (
    BEGIN_US,
    END_US,
    Columns,
    ConflictFact,
    Counters,
    Latest,
    Rollups,
    ScoreTrend,
    Series,
    Source,
    StoredEvent,
    StoredRanges,
    Trend,
)
from cloud.telemetry.sql import dirty
from cloud.telemetry.sql import reading as books
from shared.frames import Aggregates, Scores
from shared.names import REPLAYED
from shared.sqlalchemy import Database

Origins = dict[int, tuple[Source, str]]


class InfluxReader:
    """See the port."""

    def __init__(self, client: InfluxClient, database: Database) -> None:
        self._client = client
        self._books = database
        self._origins: Origins = {}
        self._layouts: books.Layouts = {}

    async def series(self, machine: str | None = None) -> list[Series]:
        """See the port."""
        kinds = (KIND_READING, KIND_AGGREGATE)
        return await self._books.read(lambda connection: books.series(connection, machine, kinds))

    async def count(self, machine: str) -> int:
        """See the port."""
        gone = await self._expired(machine)
        sensors = [one.sensor for one in await self._sensors(machine)]
        return await counted(self._client, self._books, machine, sensors, gone.raw_us)

    async def latest(self, machine: str) -> list[Latest]:
        """See the port."""
        gone = await self._expired(machine)
        found = await self._books.read(lambda connection: books.latest(connection, machine))
        return [one for one in found if one.time_us >= gone.raw_us]

    async def readings(
        self, machine: str, sensor: str, from_us: int, to_us: int, limit: int, *, newest: bool = False
    ) -> Columns:
        """See the port."""
        order = "DESC" if newest else "ASC"
        from_us = max(from_us, (await self._expired(machine)).raw_us)
        [tables] = await self._ask(
            machine,
            f"SELECT value,a,o FROM {READING} WHERE machine={text(machine)} AND sensor={text(sensor)}"  # noqa: S608 - escaped
            f" AND {between(from_us, to_us)} ORDER BY time {order} LIMIT {limit}",
        )
        rows = tables[0].rows if tables else []
        if newest:
            rows.reverse()
        return await self._columns((sensor,), [rows])

    async def columns(
        self,
        machine: str,
        sensors: Sequence[str] | None = None,
        from_us: int = BEGIN_US,
        to_us: int = END_US,
        *,
        chunk: int = 100_000,
    ) -> AsyncIterator[Columns]:
        """See the port."""
        present = [one.sensor for one in await self._sensors(machine)]
        names = tuple(name for name in present if sensors is None or name in sensors)
        at: int | None = max(from_us, (await self._expired(machine)).raw_us) if names else None
        while at is not None:
            part, at = await self._chunk(machine, names, at, to_us, chunk)
            if len(part):
                yield part

    async def _chunk(
        self, machine: str, sensors: tuple[str, ...], from_us: int, to_us: int, limit: int
    ) -> tuple[Columns, int | None]:
        """The next rows of all sensors up to a time that all of them reached, and where to go on (None: the end)."""
        share = max(1, limit // len(sensors))
        which = " OR ".join(f"sensor={text(name)}" for name in sensors)
        [tables] = await self._ask(
            machine,
            f"SELECT value,a,o FROM {READING} WHERE machine={text(machine)} AND ({which})"  # noqa: S608 - escaped
            f" AND {between(from_us, to_us)} GROUP BY sensor LIMIT {share}",
        )
        by_sensor = {table.tags["sensor"]: table.rows for table in tables}
        full = [table.end_us for table in tables if table.given == share]
        horizon = min(full) if full else None
        parts = [by_sensor.get(name, []) for name in sensors]
        columns = await self._columns(sensors, parts, until_us=horizon)
        return columns, None if horizon is None else horizon + 1

    async def aggregates(self, machine: str, sensor: str, from_us: int, to_us: int) -> list[Aggregates]:
        """See the port."""
        from_us = max(from_us, (await self._expired(machine)).minute_us)
        [tables] = await self._client.ask(
            self._client.place.rollups(machine, MINUTE_US),
            f"SELECT rows,minimum,maximum,mean,o FROM {AGGREGATE} WHERE machine={text(machine)}"  # noqa: S608 - escaped
            f" AND sensor={text(sensor)} AND {between(from_us, to_us)} GROUP BY width_us",
        )
        made: list[Aggregates] = []
        for table in sorted(tables, key=lambda one: int(one.tags["width_us"])):
            start_us, count, low, high, mean, o = _by_column(table.rows)
            _, origin, _ = unpack(np.array(o, np.int64))
            units = np.array([unit for _, unit in await self._named(origin)])
            for unit in dict.fromkeys(units.tolist()):
                chosen = units == unit
                made.append(
                    Aggregates(
                        (sensor,),
                        (unit,),
                        int(table.tags["width_us"]),
                        np.zeros(int(chosen.sum()), np.int64),
                        np.array(start_us, np.int64)[chosen],
                        np.array(count, np.int64)[chosen],
                        np.array(low, np.float64)[chosen],
                        np.array(high, np.float64)[chosen],
                        np.array(mean, np.float64)[chosen],
                    )
                )
        return made

    async def scores(
        self, machine: str, from_us: int, to_us: int, limit: int, *, newest: bool = False
    ) -> list[Scores]:
        """See the port."""
        from_us = max(from_us, (await self._expired(machine)).raw_us)
        [tables] = await self._ask(machine, scored.query(machine, from_us, to_us, limit, newest=newest))
        return scored.scores(tables, await self._known_layouts(tables), limit, newest=newest)

    async def trends(
        self, machine: str, sensors: Sequence[str] | None, from_us: int, to_us: int, most: int
    ) -> list[Trend]:
        """See the port."""
        span = span_of(from_us, to_us)
        expires = not machine.startswith(REPLAYED)
        about = await self._books.read(lambda connection: look(connection, machine, span, expires=expires))
        wanted = [one for one in about.sensors if sensors is None or one[0].sensor in sensors]
        return await Curves(self._client, machine, span, most, about).of(wanted)

    async def rollups(
        self, machine: str, sensors: Sequence[str] | None, width_us: int, from_us: int, to_us: int
    ) -> list[Rollups]:
        """See the port."""
        if width_us not in MEASUREMENTS:
            raise ValueError("rollups are kept by minute and by hour")
        wanted = [one for one in await self._sensors(machine) if sensors is None or one.sensor in sensors]
        if not wanted:
            return []
        gone = await self._expired(machine)
        from_us = max(from_us, gone.minute_us if width_us == MINUTE_US else gone.hour_us)
        to_us = max(from_us, min(to_us, LATEST_US))
        hours = await self._books.read(
            lambda connection: dirty.hours(connection, machine, from_us - HOUR_US + 1, to_us)
        )
        names = [one.sensor for one in wanted]
        found = await kept(self._client, machine, names, (width_us, from_us, to_us), hours)
        return [_rollups(one, width_us, found[one.sensor]) for one in wanted]

    async def score_trend(self, machine: str, from_us: int, to_us: int, most: int) -> ScoreTrend:
        """See the port."""
        from_us = max(from_us, (await self._expired(machine)).raw_us)
        [curves, newest] = await self._ask(machine, scored.trend_query(machine, from_us, to_us))
        return scored.trend(curves, newest, await self._known_layouts([*curves, *newest]), most)

    async def events(
        self,
        machine: str | None = None,
        types: Sequence[str] = (),
        since_us: int = BEGIN_US,
        limit: int = 1000,
        *,
        after_seq: int | None = None,
        before: tuple[int, int] | None = None,
    ) -> list[StoredEvent]:
        """See the port."""
        return await self._books.read(
            lambda connection: books.events(
                connection, machine, types, since_us, limit, after_seq=after_seq, before=before
            )
        )

    async def stored_ranges(self, edge: str | None = None) -> Mapping[Source, StoredRanges]:
        """See the port."""
        return await self._books.read(lambda connection: books.stored_ranges(connection, edge))

    async def counters(self) -> Mapping[Source, Counters]:
        """See the port."""
        return await self._books.read(books.counters)

    async def lateness(self) -> Mapping[Source, ByStage]:
        """See the port."""
        return await self._books.read(books.lateness)

    async def conflicts(self, limit: int = 1000) -> list[ConflictFact]:
        """See the port."""
        return await self._books.read(lambda connection: books.conflicts(connection, limit))

    async def expired_us(self, machine: str) -> int:
        """See the port."""
        return (await self._expired(machine)).raw_us

    async def positions(self) -> Mapping[str, Mapping[str, int]]:
        """See the port. Raises Unavailable while either of the two servers is away, for whoever asks whether the store is there."""
        await self._client.ping()
        return await self._books.read(books.positions)

    async def _ask(self, machine: str, query: str) -> list[list[Table]]:
        return await self._client.ask(self._client.place.readings(machine), query)

    async def _expired(self, machine: str) -> Expired:
        """What has expired of a machine."""
        if machine.startswith(REPLAYED):
            return Expired()
        found = await self._books.read(dirty.expired)
        return Expired(found.get("raw", 0), found.get("minute", 0), found.get("hour", 0))

    async def _sensors(self, machine: str) -> list[Series]:
        return await self._books.read(lambda connection: books.series(connection, machine, (KIND_READING,)))

    async def _named(self, origin: Any) -> list[tuple[Source, str]]:  # noqa: ANN401 - int64[n]
        """Source and unit of each origin."""
        numbers = origin.tolist()
        if any(one not in self._origins for one in numbers):
            self._origins = await self._books.read(books.origins)
        return [self._origins[one] for one in numbers]

    async def _known_layouts(self, tables: Sequence[Table]) -> books.Layouts:
        if any(number not in self._layouts for number in scored.layout_numbers(tables)):
            self._layouts = await self._books.read(books.layouts)
        return self._layouts

    async def _columns(
        self, sensors: tuple[str, ...], parts: Sequence[list[list[Any]]], until_us: int | None = None
    ) -> Columns:
        """Rows (time, value, a, o) of each sensor as columns in order of time, up to a time."""
        rows = [row for part in parts for row in part]
        time_us, value, delta, o = _by_column(rows, 4)
        time = np.array(time_us, np.int64)
        sensor = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        packed = np.array(o, np.int64)
        kept = np.argsort(time, kind="stable")
        if until_us is not None:
            kept = kept[: np.searchsorted(time[kept], until_us, side="right")]
        quality, origin, row = unpack(packed[kept])
        numbers, index = np.unique(origin, return_inverse=True)
        named = await self._named(numbers)
        units = tuple(dict.fromkeys(unit for _, unit in named))
        sources = tuple(dict.fromkeys(source for source, _ in named))
        return Columns(
            sensors,
            units,
            sources,
            sensor[kept],
            time[kept],
            np.array(value, np.float64)[kept],
            quality,
            np.array([units.index(unit) for _, unit in named], np.int64)[index],
            time[kept] + np.array(delta, np.int64)[kept],
            np.array([sources.index(source) for source, _ in named], np.int64)[index],
            row,
        )


def _by_column(rows: Sequence[Sequence[Any]], columns: int = 6) -> Sequence[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * columns


def _rollups(one: Series, width_us: int, buckets: Buckets) -> Rollups:
    return Rollups(
        one.sensor,
        one.unit,
        width_us,
        buckets.start_us,
        buckets.rows,
        buckets.minimum,
        buckets.maximum,
        buckets.mean,
        buckets.last,
        buckets.quality,
    )
