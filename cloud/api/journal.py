"""What the log brought lately, bounded, and what a reader of it has not been told yet. Pure.

All readers share one journal: a reader is a cursor, so that a slow one costs nothing and finds the newest when it
comes back. What it missed by then is counted, never waited for.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

import numpy as np
import orjson

from shared.errors import Rejected
from shared.frames import Readings, Scores, ScoreState

SERIES_POINTS: Final = 50
"""Points kept, and told at once, of a sensor or of a machine's score."""
MESSAGE_POINTS: Final = 2000
"""Points told at once of all of them."""
MAX_SERIES: Final = 10_000
"""Sensors of all machines; further ones are in the store alone."""
EVENTS: Final = 200
EVENT_BYTES: Final = 16 * 1024
"""A longer event is told without its data."""

Point = tuple[int, list[float]]
"""The machine's running number, and what is told: time in µs, value, quality (or score, limit)."""


@dataclass(slots=True)
class Series:
    """A sensor as it was told. `mark_us`: rows up to this time are history, not news."""

    unit: str = ""
    mark_us: int = -1
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=SERIES_POINTS))

    @property
    def last(self) -> list[float] | None:
        """The newest row as it is told."""
        return self.points[-1][1] if self.points else None


@dataclass(slots=True)
class Machine:
    """A machine's newest rows. `rows` counts all that were news, told or not."""

    rows: int = 0
    arrival_us: int | None = None
    sensors: dict[str, Series] = field(default_factory=dict)
    score: Series = field(default_factory=Series)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader has been told: rows of each machine, and events."""

    rows: Mapping[str, int]
    events: int


@dataclass(slots=True)
class News:
    """What a reader is told. `skipped` rows came since its last news and are not among these."""

    readings: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    scores: dict[str, list[list[float]]] = field(default_factory=dict)
    events: list[orjson.Fragment] = field(default_factory=list)
    skipped: int = 0

    def __bool__(self) -> bool:
        return bool(self.readings or self.scores or self.events)


class Journal:
    """The newest rows of every series and the newest events."""

    def __init__(self) -> None:
        self._machines: dict[str, Machine] = {}
        self._series = 0
        self._events: deque[tuple[int, str, orjson.Fragment]] = deque(maxlen=EVENTS)
        self._told = 0

    def of(self, machine: str) -> Machine:
        """A machine's part; an empty one if nothing came."""
        return self._machines.get(machine) or Machine()

    def take_readings(self, machine: str, body: Readings) -> bool:
        """Keep the rows that are newer than their series has shown; whether there were any."""
        part = self._machine(machine)
        series = [self._sensor(part, name) for name in body.sensor_names]
        marks = np.array([np.iinfo(np.int64).max if s is None else s.mark_us for s in series], np.int64)
        news = np.flatnonzero(body.time_us > marks[body.sensor])
        if not len(news):
            return False
        news = news[np.argsort(body.time_us[news], kind="stable")]
        part.arrival_us = max(part.arrival_us or 0, int(body.arrival_us[news].max()))
        for index in np.unique(body.sensor[news]):
            mine = news[body.sensor[news] == index]
            sensor = series[index]
            if sensor is None:
                continue
            sensor.unit = body.units[index]
            # A device's clock that was ahead and is set right again must not silence it: the mark stays at arrival.
            newest = mine[-1]
            sensor.mark_us = max(sensor.mark_us, min(int(body.time_us[newest]), int(body.arrival_us[newest])))
            rows = zip(
                body.time_us[mine].tolist(),
                body.value[mine].tolist(),
                body.quality[mine].tolist(),
                strict=True,
            )
            _add(part, sensor, [list(row) for row in rows])
        return True

    def take_scores(self, machine: str, body: Scores) -> bool:
        """The same of scored windows; unscored ones and those of a model on trial are no point of a curve."""
        part = self._machine(machine)
        shown = np.isfinite(body.score) & (body.state != ScoreState.SHADOW)
        news = np.flatnonzero((body.time_us > part.score.mark_us) & shown)
        if not len(news):
            return False
        news = news[np.argsort(body.time_us[news], kind="stable")]
        part.score.mark_us = int(body.time_us[news[-1]])
        rows = zip(body.time_us[news].tolist(), body.score[news].tolist(), strict=True)
        _add(part, part.score, [[time_us, score, body.limit] for time_us, score in rows])
        return True

    def take_event(self, key: str, value: bytes) -> None:
        """Keep a CloudEvent about `key`. Raises Rejected (not JSON)."""
        try:
            event: Any = orjson.loads(value)
            if event["type"] == "model.registered":
                event["data"].pop("manifest", None)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise Rejected(f"not an event: {error}") from error
        shown = orjson.dumps(event)
        if len(shown) > EVENT_BYTES:
            shown = orjson.dumps({name: part for name, part in event.items() if name != "data"})
        self._told += 1
        self._events.append((self._told, key, orjson.Fragment(shown)))

    def show(self, machine: str, sensor: str, time_us: int) -> None:
        """What is older than this was shown by other means; of a sensor that the log brought rows of, it knows better."""
        series = self._sensor(self._machine(machine), sensor)
        if series is not None and series.mark_us < 0:
            series.mark_us = time_us

    def cursor(self) -> Cursor:
        """The present end."""
        return Cursor({name: part.rows for name, part in self._machines.items()}, self._told)

    def since(self, cursor: Cursor, machines: Collection[str] = ()) -> News:
        """What came after the cursor, of these machines (none: of all)."""
        news = News()
        chosen: list[tuple[str, str, list[list[float]]]] = []
        for name, part in self._machines.items():
            told = cursor.rows.get(name, 0)
            if part.rows == told or (machines and name not in machines):
                continue
            news.skipped += part.rows - told
            chosen += [(name, sensor, rows) for sensor, rows in _fresh(part.sensors, told)]
            if scores := _after(part.score, told):
                news.scores[name] = scores
                news.skipped -= len(scores)
        for name, sensor, rows in _within(chosen, MESSAGE_POINTS):
            news.readings.setdefault(name, {})[sensor] = rows
            news.skipped -= len(rows)
        news.events = [
            event
            for number, key, event in self._events
            if number > cursor.events and (not machines or key in machines)
        ]
        return news

    def _machine(self, name: str) -> Machine:
        return self._machines.setdefault(name, Machine())

    def _sensor(self, part: Machine, name: str) -> Series | None:
        if name not in part.sensors:
            if self._series >= MAX_SERIES:
                return None
            self._series += 1
            part.sensors[name] = Series()
        return part.sensors[name]


def _add(part: Machine, series: Series, rows: list[list[float]]) -> None:
    first = part.rows + 1
    part.rows += len(rows)
    kept = rows[-SERIES_POINTS:]
    first += len(rows) - len(kept)
    series.points.extend((first + n, row) for n, row in enumerate(kept))


def _after(series: Series, told: int) -> list[list[float]]:
    rows = [row for _, row in takewhile(lambda point: point[0] > told, reversed(series.points))]
    rows.reverse()
    return rows


def _fresh(sensors: Mapping[str, Series], told: int) -> Iterator[tuple[str, list[list[float]]]]:
    for name, series in sensors.items():
        if rows := _after(series, told):
            yield name, rows


def _within(
    chosen: list[tuple[str, str, list[list[float]]]], most: int
) -> list[tuple[str, str, list[list[float]]]]:
    """The same with at most `most` rows: fewer of each series, the newest ones; then fewer series."""
    if sum(len(rows) for _, _, rows in chosen) <= most:
        return chosen
    share = max(1, most // len(chosen))
    return [(machine, sensor, rows[-share:]) for machine, sensor, rows in chosen[:most]]
