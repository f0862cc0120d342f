"""Readings of several series as the API gives them: curves, aggregates by time, pages of what was measured.

A long range is answered from the store's own buckets, so that its time does not grow with the readings in it.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from tsdownsample import LTTBDownsampler, MinMaxDownsampler

from cloud.api.formats import Texts
from cloud.telemetry.port import HOUR_US, MINUTE_US, Rollups, TelemetryReader, Trend
from shared.clock import MICROSECONDS
from shared.errors import NotFound, Rejected

Downsample = Literal["lttb", "minmax", "mean"]
Aggregate = Literal["mean", "min", "max", "last", "count"]

EXACT_ROWS: Final = 4000
"""Up to so many readings a curve is chosen among them all; beyond, among the extremes of the store's buckets."""
MAX_ROWS: Final = 500_000
"""Readings that one request may aggregate by other than whole minutes."""
EXPORT_CHUNK: Final = 20_000

Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Name:
    """A sensor of a machine."""

    machine: str
    sensor: str

    def __str__(self) -> str:
        return f"{self.machine}/{self.sensor}"


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A series' part of an answer: `rows` readings are behind its columns, which all have one length."""

    name: Name
    unit: str
    rows: int
    downsampled: bool
    columns: dict[str, Column]


async def curves(
    store: TelemetryReader, names: Sequence[Name], from_us: int, to_us: int, most: int, way: Downsample
) -> list[Part]:
    """Each series in at most `most` points. Raises NotFound (a series that never had a reading)."""
    found: dict[Name, Trend] = {}
    for machine in dict.fromkeys(name.machine for name in names):
        sensors = [name.sensor for name in names if name.machine == machine]
        trends = await store.trends(machine, sensors, from_us, to_us, _points(to_us - from_us, most, way))
        found |= {Name(machine, trend.sensor): trend for trend in trends}
    return [await _curve(store, name, _known(found, name), (from_us, to_us), most, way) for name in names]


def _points(span_us: int, most: int, way: Downsample) -> int:
    """How many points to ask the store for: all readings where those are likely to be few."""
    if way != "mean" and span_us <= EXACT_ROWS * MICROSECONDS:
        return EXACT_ROWS
    # Of a bucket both extremes are shown: half as many buckets, which are wider and so cheaper.
    return most // 2 if way == "minmax" else most


def _known(found: dict[Name, Trend], name: Name) -> Trend:
    if name not in found:
        raise no_such(name)
    return found[name]


async def _curve(
    store: TelemetryReader, name: Name, trend: Trend, span: tuple[int, int], most: int, way: Downsample
) -> Part:
    columns: dict[str, Column] = {"time_us": trend.time_us, "value": trend.value, "quality": trend.quality}
    if way == "mean":
        columns |= {"min": trend.minimum, "max": trend.maximum}
    elif trend.downsampled or trend.rows > most:
        if trend.downsampled and trend.rows <= EXACT_ROWS:
            [whole] = await store.trends(name.machine, [name.sensor], *span, EXACT_ROWS)
            columns = {"time_us": whole.time_us, "value": whole.value, "quality": whole.quality}
        elif trend.downsampled:
            columns = _extremes(trend)
        columns = _chosen(columns, most, way)
        return Part(name, trend.unit, trend.rows, len(columns["value"]) < trend.rows, columns)
    return Part(name, trend.unit, trend.rows, trend.downsampled, columns)


def _extremes(trend: Trend) -> dict[str, Column]:
    """Both extremes of each bucket, at its time."""
    return {
        "time_us": np.repeat(trend.time_us, 2),
        "value": np.stack([trend.minimum, trend.maximum], axis=1).ravel(),
        "quality": np.repeat(trend.quality, 2),
    }


def _chosen(columns: dict[str, Column], most: int, way: Downsample) -> dict[str, Column]:
    """The points that show most."""
    time_us, value = columns["time_us"], columns["value"]
    if len(value) <= most:
        return columns
    if way == "lttb":
        sampler: Any = LTTBDownsampler()  # type: ignore[no-untyped-call]
        kept = sampler.downsample(time_us, value, n_out=most)
    else:
        sampler = MinMaxDownsampler()  # type: ignore[no-untyped-call]
        kept = sampler.downsample(time_us, value, n_out=most // 2 * 2)
    return {name: column[kept] for name, column in columns.items()}


async def aggregated(
    store: TelemetryReader, names: Sequence[Name], from_us: int, to_us: int, every_us: int, how: Aggregate
) -> list[Part]:
    """Each series by stretches of `every_us` since 1970. Raises NotFound, Rejected (too many readings)."""
    found: dict[Name, Rollups] = {}
    for machine in dict.fromkeys(name.machine for name in names):
        sensors = [name.sensor for name in names if name.machine == machine]
        if every_us % MINUTE_US == 0:
            width_us = HOUR_US if every_us % HOUR_US == 0 else MINUTE_US
            buckets = await store.rollups(machine, sensors, width_us, from_us, to_us)
        else:
            buckets = await _from_readings(store, machine, sensors, from_us, to_us, every_us)
        found |= {Name(machine, each.sensor): each for each in buckets}
    parts = []
    for name in names:
        if name not in found:
            await check_names(store, [name])
        parts.append(_stretches(name, found.get(name), every_us, how))
    return parts


async def _from_readings(
    store: TelemetryReader, machine: str, sensors: Sequence[str], from_us: int, to_us: int, every_us: int
) -> list[Rollups]:
    """Each reading as a bucket of its own."""
    chunks, rows = [], 0
    async for chunk in store.columns(machine, sensors, from_us, to_us):
        rows += len(chunk)
        if rows > MAX_ROWS:
            raise Rejected("every: too many readings for this: take whole minutes, or a shorter time")
        chunks.append(chunk)
    made = []
    for index, sensor in enumerate(chunks[0].sensors if chunks else ()):
        mine = [chunk.sensor == index for chunk in chunks]
        time_us, value, quality, unit = (
            np.concatenate([getattr(chunk, field)[own] for chunk, own in zip(chunks, mine, strict=True)])
            for field in ("time_us", "value", "quality", "unit")
        )
        named = chunks[-1].units[int(unit[-1])] if len(unit) else ""
        ones = np.ones(len(value), np.int64)
        made.append(Rollups(sensor, named, every_us, time_us, ones, value, value, value, value, quality))
    return made


def _stretches(name: Name, buckets: Rollups | None, every_us: int, how: Aggregate) -> Part:
    """Buckets put together to stretches."""
    if buckets is None or not len(buckets.rows):
        empty = np.array([], np.float64)
        nothing: dict[str, Column] = {
            "time_us": empty.astype(np.int64),
            "value": empty,
            "quality": empty.astype(np.uint8),
        }
        return Part(name, "" if buckets is None else buckets.unit, 0, True, nothing)
    start_us = buckets.start_us // every_us * every_us
    first = np.flatnonzero(np.diff(start_us, prepend=start_us[0] - 1))
    count = np.add.reduceat(buckets.rows, first)
    match how:
        case "mean":
            # Weights before the sum: the sum of large values might overflow where their mean does not.
            weight = buckets.rows / np.repeat(count, np.diff(first, append=len(start_us)))
            value: Column = np.add.reduceat(buckets.mean * weight, first)
        case "min":
            value = np.minimum.reduceat(buckets.minimum, first)
        case "max":
            value = np.maximum.reduceat(buckets.maximum, first)
        case "last":
            value = buckets.last[np.append(first[1:], len(start_us)) - 1]
        case "count":
            value = count
    columns: dict[str, Column] = {
        "time_us": start_us[first],
        "value": value,
        "quality": np.maximum.reduceat(buckets.quality, first),
    }
    return Part(name, buckets.unit, int(count.sum()), True, columns)


async def pages(
    store: TelemetryReader, names: Sequence[Name], starts_us: Sequence[int], to_us: int, limit: int
) -> tuple[list[Part], list[int]]:
    """Each series' readings from its start on, at most `limit`, and where each goes on (`to_us`: nowhere)."""
    parts, further = [], []
    for name, start_us in zip(names, starts_us, strict=True):
        found = await store.readings(name.machine, name.sensor, start_us, to_us, limit)
        if not len(found):
            await check_names(store, [name])
        columns: dict[str, Column] = {
            "time_us": found.time_us,
            "value": found.value,
            "quality": found.quality,
            "arrival_us": found.arrival_us,
        }
        unit = found.units[int(found.unit[-1])] if len(found) else ""
        parts.append(Part(name, unit, len(found), False, columns))
        further.append(int(found.time_us[-1]) + 1 if len(found) == limit else to_us)
    return parts, further


async def every_reading(
    store: TelemetryReader, names: Sequence[Name], from_us: int, to_us: int
) -> AsyncIterator[dict[str, Any]]:
    """All readings, machine by machine, in order of time, as columns of a table; at least one piece, maybe empty."""
    yield table([])
    for machine in dict.fromkeys(name.machine for name in names):
        sensors = [name.sensor for name in names if name.machine == machine]
        async for chunk in store.columns(machine, sensors, from_us, to_us, chunk=EXPORT_CHUNK):
            yield {
                "machine": Texts((machine,), np.zeros(len(chunk), np.int64)),
                "sensor": Texts(chunk.sensors, chunk.sensor),
                "unit": Texts(chunk.units, chunk.unit),
                "time_us": chunk.time_us,
                "value": chunk.value,
                "quality": chunk.quality,
                "arrival_us": chunk.arrival_us,
            }


async def check_names(store: TelemetryReader, names: Sequence[Name]) -> None:
    """Raises NotFound for a series that never had a reading."""
    for machine in dict.fromkeys(name.machine for name in names):
        known = {series.sensor for series in await store.series(machine)}
        for name in names:
            if name.machine == machine and name.sensor not in known:
                raise no_such(name)


def no_such(name: Name) -> NotFound:
    """The error for a series that never had a reading."""
    return NotFound(f"no readings of a series {str(name)!r}")


def table(parts: Sequence[Part]) -> dict[str, Any]:
    """Parts under each other as one table."""
    names = list(parts[0].columns) if parts else list(_EMPTY)
    columns = {
        name: np.concatenate([part.columns[name] for part in parts]) if parts else _EMPTY[name]
        for name in names
    }
    index = np.repeat(np.arange(len(parts)), [len(part.columns["value"]) for part in parts])
    return {
        "machine": Texts([part.name.machine for part in parts], index),
        "sensor": Texts([part.name.sensor for part in parts], index),
        "unit": Texts([part.unit for part in parts], index),
        **columns,
    }


_EMPTY: Final = {
    "time_us": np.array([], np.int64),
    "value": np.array([], np.float64),
    "quality": np.array([], np.uint8),
    "arrival_us": np.array([], np.int64),
}


def whole_stretches(from_us: int, to_us: int, every_us: int, most: int) -> tuple[int, int]:
    """The range widened to whole stretches. Raises Rejected (more than `most` of them)."""
    first, last = from_us // every_us, -(-to_us // every_us)
    if last - first > most:
        raise Rejected(f"every: this makes {last - first} points a series, and {most} is the most")
    return first * every_us, last * every_us


def every(text: str) -> int:
    """`10s`, `1m`, `6h`, `1d` in µs. Raises Rejected."""
    sizes = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdecimal() and len(number) <= 6 and int(number) and unit in sizes):  # noqa: PLR2004 - digits
        raise Rejected(f"every: {text[:20]!r} is no stretch of time: give 10s, 1m, 6h, 1d or the like")
    return int(number) * sizes[unit] * MICROSECONDS
