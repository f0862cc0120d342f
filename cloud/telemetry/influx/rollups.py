"""Minutes and hours in InfluxDB: read, and made anew from readings where these changed.

A write marks the machine-hours that it touched as dirty, in the transaction that saves its position. The rollups of a dirty
hour are made from its readings when it has been quiet for a while, and until then every reader makes them so for itself:
so they are those of the readings at any moment, after any crash. Making them twice does no harm.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

import numpy as np
import structlog

from cloud.telemetry.facts import HOUR_US, MINUTE_US
from cloud.telemetry.influx.buckets import (
    FIELDS,
    MEASUREMENTS,
    Buckets,
    by_width,
    from_rows,
    joined,
    single,
    to_lines,
)
from cloud.telemetry.influx.client import InfluxClient
from cloud.telemetry.influx.points import LATEST_US, READING, between, text, unpack
from cloud.telemetry.sql import dirty
from shared.clock import Clock
from shared.errors import Unavailable
from shared.sqlalchemy import Database

log = structlog.get_logger()

_CHUNK: Final = 50_000
_MOST_HOURS: Final = 2_000
_TOGETHER: Final = 24
_EVERY_SECONDS: Final = 5.0
_QUIET_SECONDS: Final = 10.0
_QUIET_NOW_SECONDS: Final = 60.0


async def readings(
    client: InfluxClient, machine: str, sensors: Iterable[str], from_us: int, to_us: int
) -> dict[str, Buckets]:
    """Every reading of a range by sensor, each as a bucket of its own."""
    found: dict[str, list[Buckets]] = {name: [] for name in sensors}
    left = dict.fromkeys(found, from_us)
    while left:
        low = min(left.values())
        which = " OR ".join(f"sensor={text(name)}" for name in sorted(left))
        [tables] = await client.ask(
            client.place.readings(machine),
            f"SELECT value,o FROM {READING} WHERE machine={text(machine)} AND ({which})"  # noqa: S608 - escaped
            f" AND {between(low, to_us)} GROUP BY sensor LIMIT {_CHUNK}",
        )
        more = {}
        for table in tables:
            name = table.tags["sensor"]
            part = from_readings(table.rows)
            found[name].append(part.at(part.start_us >= left[name]))
            if table.given == _CHUNK:
                more[name] = table.end_us + 1
        left = more
    return {name: joined(parts) for name, parts in found.items()}


async def kept(
    client: InfluxClient,
    machine: str,
    sensors: Sequence[str],
    span: tuple[int, int, int],
    hours: Sequence[int],
) -> dict[str, Buckets]:
    """The minutes or hours (`span`: width, from, to) that start in a range, by sensor; those of dirty `hours` from readings.

    The hours were looked up before: then one whose rollups are made meanwhile is at worst made once more.
    """
    width_us, from_us, to_us = span
    which = " OR ".join(f"sensor={text(name)}" for name in sensors)
    stretches = _stretches([one for one in hours if from_us - HOUR_US < one < to_us])
    [tables], fresh = await asyncio.gather(
        client.ask(
            client.place.rollups(machine, width_us),
            f"SELECT {FIELDS} FROM {MEASUREMENTS[width_us]} WHERE machine={text(machine)} AND ({which})"  # noqa: S608 - escaped
            f" AND {between(from_us, to_us)} GROUP BY sensor",
        ),
        _all_readings(client, machine, sensors, stretches),
    )
    found: dict[str, list[Buckets]] = {name: [] for name in sensors}
    for table in tables:
        part = from_rows(table.rows)
        clean = ~np.isin(part.start_us // HOUR_US * HOUR_US, np.array(hours, np.int64))
        found[table.tags["sensor"]].append(part.at(clean))
    for stretch in fresh:
        for name, part in stretch.items():
            made = by_width(part, width_us)
            found[name].append(made.at((made.start_us >= from_us) & (made.start_us < to_us)))
    return {name: joined(parts) for name, parts in found.items()}


async def _all_readings(
    client: InfluxClient, machine: str, sensors: Sequence[str], stretches: Sequence[tuple[int, int]]
) -> list[dict[str, Buckets]]:
    """Of several stretches, one after another."""
    return [await readings(client, machine, sensors, first, last) for first, last in stretches]


async def counted(
    client: InfluxClient, books: Database, machine: str, sensors: Sequence[str], from_us: int
) -> int:
    """How many readings a machine has from a time on that begins an hour: by its hours, the dirty ones by the server's count."""
    if not sensors:
        return 0
    hours = await books.read(lambda connection: dirty.hours(connection, machine, from_us, LATEST_US))
    [tables] = await client.ask(
        client.place.rollups(machine, HOUR_US),
        f"SELECT rows FROM {MEASUREMENTS[HOUR_US]} WHERE machine={text(machine)}"  # noqa: S608 - escaped
        f" AND {between(from_us, LATEST_US)}",
    )
    known = set(hours)
    total = sum(int(count) for table in tables for start, count in table.rows if start not in known)
    for first, last in _stretches(hours):
        [tables] = await client.ask(
            client.place.readings(machine),
            f"SELECT count(value) FROM {READING} WHERE machine={text(machine)} AND {between(first, last)}",  # noqa: S608 - escaped
        )
        total += sum(int(table.rows[0][1]) for table in tables)
    return total


class Maker:
    """Makes the rollups of hours that have gone quiet, one after another, beside the writing."""

    def __init__(self, client: InfluxClient, books: Database, clock: Clock) -> None:
        self._client, self._books, self._clock = client, books, clock
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}

    async def run(self) -> None:
        """For ever; what is away is waited for."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            try:
                await self._round()
            except Unavailable as error:
                log.info("rollups wait", why=str(error))

    async def make_all(self, before_us: int | None = None) -> int:
        """Make those of every dirty hour (that begins before a time), quiet or not; returns how many."""
        total = 0
        while found := await self._books.read(lambda c: dirty.every(c, _MOST_HOURS, before_us)):
            await self._make(found)
            total += len(found)
        return total

    async def _round(self) -> None:
        found = await self._books.read(lambda connection: dirty.every(connection, _MOST_HOURS))
        await self._make(self._quiet(found))

    def _quiet(self, found: Sequence[dirty.Hour]) -> list[dirty.Hour]:
        """Those that nobody touched for a while: an hour that is over sooner than one that goes on."""
        now, now_us = self._clock.monotonic(), self._clock.now_us()
        seen = {}
        ready = []
        for machine, hour, touches in found:
            before, since = self._seen.get((machine, hour), (None, now))
            if before != touches:
                since = now
            seen[(machine, hour)] = (touches, since)
            wait = _QUIET_SECONDS if hour + HOUR_US <= now_us else _QUIET_NOW_SECONDS
            if now - since >= wait:
                ready.append((machine, hour, touches))
        self._seen = seen
        return ready

    async def _make(self, hours: Sequence[dirty.Hour]) -> None:
        for machine, group in groupby(hours, key=lambda one: one[0]):
            by_start = {hour: touches for _, hour, touches in group}
            for first, last in _stretches(list(by_start)):
                began = self._clock.monotonic()
                await self._write(machine, first, last)
                done = [(machine, hour, by_start[hour]) for hour in range(first, last, HOUR_US)]
                await self._books.write(lambda connection, done=done: dirty.made(connection, done))  # type: ignore[misc]
                await asyncio.sleep(self._clock.monotonic() - began)  # half of the time is the writing's

    async def _write(self, machine: str, first: int, last: int) -> None:
        sensors = await self._sensors(machine, first, last)
        if not sensors:
            return
        found = await readings(self._client, machine, sensors, first, last)
        for width_us in (MINUTE_US, HOUR_US):
            made = [(name, by_width(part, width_us)) for name, part in found.items() if len(part)]
            body = b"".join(to_lines(machine, name, width_us, part) for name, part in made)
            if body:
                await self._client.write(self._client.place.rollups(machine, width_us), body)

    async def _sensors(self, machine: str, first: int, last: int) -> list[str]:
        [tables] = await self._client.ask(
            self._client.place.readings(machine),
            f"SELECT value FROM {READING} WHERE machine={text(machine)} AND {between(first, last)}"  # noqa: S608 - escaped
            " GROUP BY sensor LIMIT 1",
        )
        return [table.tags["sensor"] for table in tables]


def from_readings(rows: Sequence[Sequence[Any]]) -> Buckets:
    """Readings of an answer (time, value, o), each as a bucket of its own."""
    time_us, value, o = zip(*rows, strict=True) if rows else ((),) * 3
    quality, _, _ = unpack(np.array(o, np.int64))
    return single(np.array(time_us, np.int64), np.array(value, np.float64), quality)


def _stretches(hours: Sequence[int], most: int = _TOGETHER) -> list[tuple[int, int]]:
    """Neighbouring hours together, as [from, to), at most so many."""
    found: list[tuple[int, int]] = []
    for hour in hours:
        if found and found[-1][1] == hour and hour - found[-1][0] < most * HOUR_US:
            found[-1] = (found[-1][0], hour + HOUR_US)
        else:
            found.append((hour, hour + HOUR_US))
    return found
