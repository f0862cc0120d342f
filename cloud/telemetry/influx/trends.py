"""Curves of a machine's sensors: the books are asked once, then everything that serves the range at once.

Which buckets serve it depends on its first and last reading, which nobody knows beforehand. Nearly always these are close
to the range's ends, or the last one is the newest in the books: the buckets are chosen by that. What comes tells the two
readings; only if by them other buckets have to be chosen it is asked again.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from cloud.telemetry.facts import HOUR_US, MINUTE_US, Series, Trend
from cloud.telemetry.influx.buckets import Buckets, joined
from cloud.telemetry.influx.client import InfluxClient
from cloud.telemetry.influx.curve import RAW, Expired, Segment, fitting, plain, segments, trend
from cloud.telemetry.influx.points import LATEST_US, READING, between, text
from cloud.telemetry.influx.rollups import kept, readings
from cloud.telemetry.sql import dirty
from cloud.telemetry.sql import reading as books


@dataclass(frozen=True, slots=True)
class Look:
    """What the books say before the points are asked: sensors with the time of their newest reading, dirty hours of the range."""

    sensors: Sequence[tuple[Series, int]]
    gone: Expired
    hours: Sequence[int]


def look(connection: Connection, machine: str, span: tuple[int, int], *, expires: bool) -> Look:
    """One look at the books."""
    found = dirty.expired(connection) if expires else {}
    return Look(
        books.newest(connection, machine),
        Expired(found.get("raw", 0), found.get("minute", 0), found.get("hour", 0)),
        dirty.hours(connection, machine, span[0] - HOUR_US + 1, span[1]),
    )


class Curves:
    """Of one machine over one range, of at most so many points."""

    def __init__(
        self, client: InfluxClient, machine: str, span: tuple[int, int], most: int, about: Look
    ) -> None:
        self._client = client
        self._machine = machine
        self._from_us, self._to_us = span
        self._most = most
        self._gone = about.gone
        self._hours = about.hours

    async def of(self, wanted: Iterable[tuple[Series, int]]) -> list[Trend]:
        """The curves of sensors, whose newest readings' times stand beside them."""
        if self._from_us < self._gone.raw_us:
            return [await self._old(one) for one, _ in wanted]
        by_width: dict[int, list[str]] = {}
        for one, newest_us in wanted:
            by_width.setdefault(self._likely(newest_us), []).append(one.sensor)
        found: dict[str, tuple[int, Buckets]] = {}
        for width, names in by_width.items():
            parts = segments(width, (self._from_us, self._to_us), self._from_us, self._to_us, self._gone)
            served = await self._serve(names, parts)
            found |= {name: (width, buckets) for name, buckets in served.items()}
        return [await self._fresh(one, *found[one.sensor]) for one, _ in wanted]

    def _likely(self, newest_us: int) -> int:
        return fitting(self._from_us, min(self._to_us, newest_us + 1), self._most)

    async def _fresh(self, one: Series, width: int, found: Buckets) -> Trend:
        """From what serves the whole range by buckets of a width, where no reading has expired."""
        if not len(found):
            return plain(one.sensor, one.unit, found, downsampled=False)
        first, end = await self._first(one, found), min(self._to_us, int(found.last_us.max()) + 1)
        right = fitting(first, end, self._most)
        if right != width:
            found = await self._again(one, right, first, end)
        return await self._drawn(one, found, first, end)

    async def _first(self, one: Series, found: Buckets) -> int:
        """The time of the first reading; a bucket of several knows only that of its last one."""
        if found.rows[0] == 1:
            return int(found.last_us[0])
        [tables] = await self._client.ask(
            self._client.place.readings(self._machine),
            f"SELECT value FROM {READING} WHERE machine={text(self._machine)} AND sensor={text(one.sensor)}"  # noqa: S608 - escaped
            f" AND {between(int(found.start_us[0]), int(found.last_us[0]) + 1)} LIMIT 1",
        )
        return int(tables[0].rows[0][0]) if tables else int(found.start_us[0])

    async def _old(self, one: Series) -> Trend:
        """Where readings may have expired: their buckets first, then what the ends of both need."""
        begin = max(self._from_us, self._gone.raw_us)
        where = f"FROM {READING} WHERE machine={text(self._machine)} AND sensor={text(one.sensor)}"
        where += f" AND {between(begin, self._to_us)}"
        ends = await self._client.ask(
            self._client.place.readings(self._machine),
            f"SELECT value {where} LIMIT 1;SELECT value {where} ORDER BY time DESC LIMIT 1",
        )
        early = await self._early(one, min(self._to_us, self._gone.raw_us))
        edges = [int(table.rows[0][0]) for tables in ends for table in tables]
        edges += [int(early.start_us[0]), int(early.last_us.max())] if len(early) else []
        if not edges:
            return plain(one.sensor, one.unit, early, downsampled=False)
        first, end = min(edges), min(self._to_us, max(edges) + 1)
        found = await self._again(one, fitting(first, end, self._most), first, end)
        return await self._drawn(one, found, first, end, early=len(early) > 0)

    async def _early(self, one: Series, to_us: int) -> Buckets:
        """Hours and minutes of a range whose readings have expired."""
        spans = [(width, self._from_us, to_us) for width in (HOUR_US, MINUTE_US)]
        return (await self._serve([one.sensor], spans))[one.sensor] if self._from_us < to_us else joined([])

    async def _again(self, one: Series, width: int, first: int, end: int) -> Buckets:
        parts = segments(width, (first, end), self._from_us, self._to_us, self._gone)
        return (await self._serve([one.sensor], parts))[one.sensor]

    async def _drawn(
        self, one: Series, found: Buckets, first: int, end: int, *, early: bool = False
    ) -> Trend:
        """A curve of few readings shows them, if all are there still."""
        if int(found.rows.sum()) <= self._most and not early:
            if len(found) != found.rows.sum():
                found = (await self._serve([one.sensor], [(RAW, first, end)]))[one.sensor]
            return plain(one.sensor, one.unit, found, downsampled=False)
        return trend(one.sensor, one.unit, found, first, max(1, -(-(end - first) // self._most)))

    async def _serve(self, names: Sequence[str], parts: Iterable[Segment]) -> dict[str, Buckets]:
        """What serves the parts of a range, asked for at once."""
        found = await asyncio.gather(*(self._part(names, part) for part in parts))
        return {name: joined([one[name] for one in found]) for name in names}

    async def _part(self, names: Sequence[str], segment: Segment) -> dict[str, Buckets]:
        width_us, from_us, to_us = segment
        if width_us == RAW:
            return await readings(self._client, self._machine, names, from_us, to_us)
        from_us = max(from_us, self._gone.minute_us if width_us == MINUTE_US else self._gone.hour_us)
        return await kept(
            self._client, self._machine, names, (width_us, from_us, max(from_us, to_us)), self._hours
        )


def span_of(from_us: int, to_us: int) -> tuple[int, int]:
    """A range as far as InfluxDB's times go."""
    return max(from_us, -LATEST_US), min(to_us, LATEST_US)
