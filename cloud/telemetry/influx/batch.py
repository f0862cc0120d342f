"""A batch of entries as columns: which rows are new, by which numbers they go, and which take the short way. No I/O."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from cloud.telemetry.held import Held
from cloud.telemetry.influx.points import KIND_AGGREGATE, KIND_READING, KIND_SCORE
from cloud.telemetry.influx.settle import Identity, Row
from cloud.telemetry.lateness import Delays
from cloud.telemetry.port import Entry, EventFact, WriteResult
from cloud.telemetry.sql.commit import Commit
from cloud.telemetry.sql.known import Key, Known, LayoutKey, Needs
from shared.frames import Aggregates, Header, Readings, Scores, chosen_readings

Ints = NDArray[np.int64]

_NO_EDGE: Final = ("", b"")


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n readings. `series`, `origin`, `source` are numbers of the books; `owner` indexes the results of their sources."""

    series: Ints
    time_us: Ints
    arrival_us: Ints
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]
    origin: Ints
    row: Ints
    source: Ints
    owner: Ints

    def __len__(self) -> int:
        return len(self.value)

    def at(self, chosen: Ints | NDArray[np.bool_] | slice) -> "Rows":
        """Some of them."""
        columns = (getattr(self, name)[chosen] for name in self.__slots__)
        return Rows(*columns)

    def identities(self) -> list[Identity]:
        """Series and time of each."""
        return list(zip(self.series.tolist(), self.time_us.tolist(), strict=True))


class _Part(NamedTuple):
    """One frame's columns, `series` to `row`."""

    columns: tuple[Ints, Ints, Ints, NDArray[np.float64], NDArray[np.uint8], Ints, Ints]
    source: int


def no_rows() -> Rows:
    """None at all."""
    none = np.zeros(0, np.int64)
    return Rows(none, none, none, np.zeros(0), np.zeros(0, np.uint8), none, none, none, none)


def needs(entries: Iterable[Entry]) -> Needs:
    """What the books must have numbers for."""
    machines, sources, series = set(), set(), set()
    origins: set[tuple[Key, str]] = set()
    layouts: set[LayoutKey] = set()
    seen: set[tuple[object, ...]] = set()
    for entry in entries:
        header, body = entry.header, entry.content
        if header is None:
            continue
        key = (header.edge, header.epoch)
        sources.add(key)
        match body:
            case Readings():
                names = (header.machine, key, body.sensor_names, body.units)
                if names not in seen:  # frames of a machine have few different sets of sensors
                    seen.add(names)
                    series |= {(header.machine, KIND_READING, name) for name in body.sensor_names}
                    origins |= {(key, unit) for unit in body.units}
            case Aggregates():
                series |= {
                    (header.machine, KIND_AGGREGATE, f"{n}/{body.width_us}") for n in body.sensor_names
                }
                origins |= {(key, unit) for unit in body.units}
            case Scores():
                series.add((header.machine, KIND_SCORE, body.version_hash))
                origins.add((key, ""))
                layouts.add(layout_key(body))
            case _:
                continue
        machines.add(header.machine)
    return Needs(
        frozenset(machines), frozenset(sources), frozenset(series), frozenset(origins), frozenset(layouts)
    )


def layout_key(body: Scores) -> LayoutKey:
    """What rows of scores share."""
    return body.model, body.limit, orjson.dumps(body.sensor_names).decode()


class Batch:
    """Entries taken one after another; what is new in them, in `rows` (readings) and `others` (scores, aggregates)."""

    def __init__(self, known: Known) -> None:
        self.commit = Commit()
        self.delays = Delays()
        self.others: list[tuple[Row, WriteResult]] = []
        self.results: list[WriteResult] = []
        self.added: dict[int, list[tuple[int, int]]] = {}
        self._known = known
        self._held: dict[int, Held] = {}
        self._parts: list[_Part] = []
        self._series: list[Ints] = []

    def take(self, entries: Sequence[Entry]) -> None:
        """Every entry, in order."""
        for entry in entries:
            header = entry.header
            key = (header.edge, header.epoch) if header is not None else _NO_EDGE
            result = self.commit.result(key)
            if header is not None:
                self._edge_entry(entry, header, key, result)
            elif isinstance(entry.content, EventFact):
                self.commit.events.append((entry.content, result))

    @property
    def rows(self) -> Rows:
        """The readings that are new."""
        if not self._parts:
            return no_rows()
        columns = [
            np.concatenate(column) for column in zip(*(part.columns for part in self._parts), strict=True)
        ]
        counts = [len(part.columns[-1]) for part in self._parts]
        columns += [np.repeat([part.source for part in self._parts], counts)]
        columns += [np.repeat(np.arange(len(self._parts)), counts)]
        return Rows(*columns)

    @property
    def series(self) -> Ints:
        """Their series, each once, in order."""
        return np.unique(np.concatenate([np.zeros(0, np.int64), *self._series]))

    def count_new(self, rows: Rows) -> None:
        """Count rows that are new for their identity."""
        counts = np.bincount(rows.owner, minlength=len(self.results))
        for result, count in zip(self.results, counts, strict=True):
            result.rows += int(count)

    def was_held(self, source: int, row: int) -> bool:
        """Whether the books held a row as content before this batch."""
        state = self._known.source_of.get(source)
        return state is not None and state.held.stored.covers(row, row)

    def _edge_entry(self, entry: Entry, header: Header, key: Key, result: WriteResult) -> None:
        source = self._known.sources[key]
        held = self._held.get(source.id)
        if held is None:
            held = self._held[source.id] = source.held.copy()
        refused = entry.content is None
        ranges = held.fresh(header.first, header.last, refused=refused)
        count = sum(last - first + 1 for first, last in ranges)
        result.redelivered += header.count - count
        if not ranges:
            return
        for first, last in ranges:
            held.add(first, last, refused=refused)
            self.commit.rows.setdefault(key, []).append((first, last, refused))
        parts = [np.arange(first, last + 1, dtype=np.int64) for first, last in ranges]
        row = parts[0] if len(parts) == 1 else np.concatenate(parts)
        at = row - header.first
        match entry.content:
            case Readings():
                self._readings(entry, header, key, at, row, result)
            case Scores():
                self._scores(header, key, entry.content, at, row, result)
            case Aggregates():
                self._aggregates(header, key, entry.content, at, row, result)
            case EventFact():
                self.commit.events.append((entry.content, result))
            case None:
                result.rejected += count

    def _readings(
        self, entry: Entry, header: Header, key: Key, at: Ints, row: Ints, result: WriteResult
    ) -> None:
        body = entry.content
        assert isinstance(body, Readings)  # noqa: S101 - the caller's match
        self.commit.machines.add(header.machine)
        source = self._known.sources[key].id
        series, origin = self._numbers(header.machine, source, body)
        taken = body if len(at) == len(body) else chosen_readings(body, at)
        self.delays.add(key, taken.time_us, taken.arrival_us, entry.record.time_us)
        self.results.append(result)
        self._series.append(series)
        self._parts.append(
            _Part(
                (
                    series[taken.sensor],
                    taken.time_us,
                    taken.arrival_us,
                    taken.value,
                    taken.quality,
                    origin[taken.sensor],
                    row,
                ),
                source,
            )
        )

    def _numbers(self, machine: str, source: int, body: Readings) -> tuple[Ints, Ints]:
        """Series and origin of each of a frame's sensors."""
        key = (machine, source, body.sensor_names, body.units)
        found = self._known.frames.get(key)
        if found is None:
            series = self._known.machines[machine].series
            found = self._known.frames[key] = (
                np.array([series[(KIND_READING, name)].id for name in body.sensor_names], np.int64),
                np.array([self._known.origins[(source, unit)] for unit in body.units], np.int64),
            )
        return found

    def _scores(
        self, header: Header, key: Key, body: Scores, at: Ints, row: Ints, result: WriteResult
    ) -> None:
        self.commit.machines.add(header.machine)
        series = self._known.machines[header.machine].series[(KIND_SCORE, body.version_hash)].id
        source = self._known.sources[key].id
        origin = self._known.origins[(source, "")]
        layout = self._known.layouts[layout_key(body)]
        for number, index in zip(row.tolist(), at.tolist(), strict=True):
            data = b"".join(
                (
                    body.score[index].astype("<f4").tobytes(),
                    body.contribution[index].astype("<f4").tobytes(),
                    body.expected[index].astype("<f8").tobytes(),
                )
            )
            payload = (layout, int(body.state[index]), data)
            identity = (series, int(body.time_us[index]))
            self.others.append((Row(identity, payload, (0, key[1], number), source, origin), result))

    def _aggregates(
        self, header: Header, key: Key, body: Aggregates, at: Ints, row: Ints, result: WriteResult
    ) -> None:
        self.commit.machines.add(header.machine)
        machine, source = self._known.machines[header.machine], self._known.sources[key].id
        for number, index in zip(row.tolist(), at.tolist(), strict=True):
            sensor = int(body.sensor[index])
            unit = body.units[sensor]
            series = machine.series[(KIND_AGGREGATE, f"{body.sensor_names[sensor]}/{body.width_us}")].id
            payload = (
                int(body.rows[index]),
                float(body.minimum[index]),
                float(body.maximum[index]),
                float(body.mean[index]),
                unit,
            )
            identity = (series, int(body.start_us[index]))
            origin = self._known.origins[(source, unit)]
            self.others.append((Row(identity, payload, (0, key[1], number), source, origin), result))


def split(rows: Rows, series: Ints, newest: Ints) -> tuple[Rows, Rows]:
    """Rows that take the short way, by series and time, and those whose identity may be there already, in their order.

    `series`: every series of the rows, in order; `newest`: the greatest stored time of each. The short way is for rows that
    are newer and whose identity none other has.
    """
    if not len(rows):
        return rows, rows
    index = np.searchsorted(series, rows.series)
    order = _order(index, rows.time_us)
    by_series, time_us = index[order], rows.time_us[order]
    again = (by_series[1:] == by_series[:-1]) & (time_us[1:] == time_us[:-1])
    long = time_us <= newest[by_series]
    long[1:] |= again
    long[:-1] |= again
    if not long.any():
        return rows.at(order), no_rows()
    return rows.at(order[~long]), rows.at(np.sort(order[long]))


def unmet(rows: Rows, met: AbstractSet[Identity]) -> tuple[Rows, Rows]:
    """Rows whose identity is not in `met` and only theirs, by series and time, and the others in their order."""
    identities = rows.identities()
    times = Counter(identities)
    alone = np.array([times[one] == 1 and one not in met for one in identities], np.bool_)
    free = rows.at(alone)
    return free.at(_order(free.series, free.time_us)), rows.at(~alone)


def _order(index: Ints, time_us: Ints) -> Ints:
    """By index, then time, then place. A series' rows mostly come in order: then a stable sort by small numbers does."""
    if len(index) and index.max() <= np.iinfo(np.uint16).max:
        order = np.argsort(index.astype(np.uint16), kind="stable")
        sorted_index, sorted_time = index[order], time_us[order]
        if np.all((sorted_time[1:] >= sorted_time[:-1]) | (sorted_index[1:] != sorted_index[:-1])):
            return order
    return np.lexsort((time_us, index))
