"""What one write does inside its transaction: ranges first, then content by the identity rule."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np
import orjson

from cloud.telemetry.lateness import Key, LateBounds
from cloud.telemetry.port import Content, Entry, EventFact, Ints, WriteResult
from cloud.telemetry.sqlite_late import LateRows
from cloud.telemetry.sqlite_ranges import RowRanges
from cloud.telemetry.sqlite_readings import ReadingRows
from cloud.telemetry.sqlite_rows import Interned, Table
from cloud.telemetry.sqlite_schema import CONFLICTS_KEPT, REJECTED, STORED
from shared.frames import Aggregates, Header, Readings, Scores, chosen_readings

_CACHED_LAYOUTS: Final = 10_000


class Fresh(NamedTuple):
    """The rows of a frame that are not stored yet: their numbers, and the frame's first.

    `whole`: that is all of them, as it nearly always is; then the columns can be taken as they are.
    """

    source: int
    rows: Ints
    first: int
    whole: bool

    @property
    def at(self) -> Ints:
        """Their places in the frame's columns."""
        return self.rows - self.first


_SCORES: Final = Table(
    "scores", ("series", "time_us"), ("layout", "score", "state", "contribution", "expected")
)
_AGGREGATES: Final = Table(
    "aggregates", ("series", "width_us", "start_us"), ("unit", "rows", "minimum", "maximum", "mean")
)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk ends the transaction by itself
            connection.execute("ROLLBACK")
        raise


class Writer:
    """The write side on one connection; its caches hold ids of committed rows only."""

    def __init__(self, connection: sqlite3.Connection, bounds: LateBounds) -> None:
        self._db = connection
        self._ids = Interned(connection)
        self._ranges = RowRanges(connection)
        self._late = LateRows(connection, bounds)
        self._rows = ReadingRows(connection, self._ids)
        self._layouts: dict[tuple[str, tuple[str, ...], tuple[str, ...]], tuple[Ints, Ints]] = {}

    def write(self, entries: Sequence[Entry], now_us: int | None = None) -> WriteResult:
        """Write all entries, their row ranges and their positions in one transaction.

        `now_us`: by which to count how late they are; None leaves that stage out.
        """
        try:
            with transaction(self._db):
                results = self._write(entries, now_us)
        except BaseException:
            self.forget()  # ids and ranges of a transaction that did not commit are not there
            raise
        if self._ids.full or len(self._layouts) > _CACHED_LAYOUTS:
            self.forget()
        return _total(results.values())

    def forget(self) -> None:
        """Drop what was read: the file is no longer what it was."""
        self._ids.forget()
        self._ranges.forget()
        self._late.forget()
        self._rows.forget()
        self._layouts.clear()

    def _write(self, entries: Sequence[Entry], now_us: int | None) -> dict[Key, WriteResult]:
        results: dict[Key, WriteResult] = {}
        for entry in entries:
            key = (entry.header.edge, entry.header.epoch) if entry.header is not None else ("", b"")
            result = results.setdefault(key, WriteResult())
            if entry.header is not None:
                self._edge_entry(entry.record.time_us, entry.header, entry.content, result)
            elif isinstance(entry.content, EventFact):
                self._event(entry.content, result)
        self._rows.save()
        self._ranges.save()
        self._late.save(now_us)
        self._save_positions(entries)
        self._db.executemany(
            "INSERT INTO counters VALUES (?, ?, ?, ?, ?) ON CONFLICT (edge, epoch) DO UPDATE SET"
            " duplicates = duplicates + excluded.duplicates, conflicts = conflicts + excluded.conflicts,"
            " redelivered = redelivered + excluded.redelivered",
            [
                (*key, r.duplicates, r.conflicts, r.redelivered)
                for key, r in results.items()
                if r.duplicates or r.conflicts or r.redelivered
            ],
        )
        self._db.execute(
            "DELETE FROM conflicts WHERE seq <= (SELECT max(seq) FROM conflicts) - ?", (CONFLICTS_KEPT,)
        )
        return results

    def _edge_entry(
        self, logged_us: int, header: Header, content: Content | None, result: WriteResult
    ) -> None:
        source = self._ids.source(header.edge, header.epoch)
        ranges = self._ranges.fresh(source, header.first, header.last, refused=content is None)
        count = sum(last - first + 1 for first, last in ranges)
        result.redelivered += header.count - count
        if not ranges:
            return
        parts = [np.arange(first, last + 1, dtype=np.int64) for first, last in ranges]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        fresh = Fresh(source, rows, header.first, count == header.count)
        match content:
            case Readings():
                self._readings(header, logged_us, content, fresh, result)
            case Scores():
                self._scores(header.machine, content, fresh, result)
            case Aggregates():
                self._aggregates(header.machine, content, fresh, result)
            case EventFact():
                self._event(content, result)
            case None:
                result.rejected += count
        for first, last in ranges:
            self._ranges.add(source, REJECTED if content is None else STORED, first, last)

    def _readings(
        self,
        header: Header,
        logged_us: int,
        body: Readings,
        fresh: Fresh,
        result: WriteResult,
    ) -> None:
        series, units = self._layout(header.machine, body)
        body = body if fresh.whole else chosen_readings(body, fresh.at)
        sensor, time_us, arrival_us = body.sensor, body.time_us, body.arrival_us
        self._late.add((header.edge, header.epoch), time_us, arrival_us, logged_us)
        columns = (series[sensor], time_us, body.value, units[sensor], body.quality)
        self._rows.add(columns, arrival_us, fresh.source, fresh.rows, result)

    def _layout(self, machine: str, body: Readings) -> tuple[Ints, Ints]:
        """Ids of the frame's sensors and units; frames of a machine have few different sets of them."""
        key = (machine, body.sensor_names, body.units)
        found = self._layouts.get(key)
        if found is None:
            series = np.array([self._ids.series(machine, name) for name in body.sensor_names], np.int64)
            units = np.array([self._ids.of("units", ("unit",), (unit,)) for unit in body.units], np.int64)
            found = self._layouts[key] = (series, units)
        return found

    def _scores(
        self,
        machine: str,
        body: Scores,
        fresh: Fresh,
        result: WriteResult,
    ) -> None:
        series = self._ids.of("score_series", ("machine", "version_hash"), (machine, body.version_hash))
        sensors = orjson.dumps(body.sensor_names).decode()
        layout = self._ids.of(
            "score_layouts", ("model", "alarm_limit", "sensors"), (body.model, body.limit, sensors)
        )
        for row, at in zip(fresh.rows.tolist(), fresh.at.tolist(), strict=True):
            values = (
                layout,
                float(body.score[at]),
                int(body.state[at]),
                body.contribution[at].astype("<f4").tobytes(),
                body.expected[at].astype("<f8").tobytes(),
            )
            key = (series, int(body.time_us[at]))
            self._upsert(_SCORES, key, values, (fresh.source, row), result)

    def _aggregates(
        self,
        machine: str,
        body: Aggregates,
        fresh: Fresh,
        result: WriteResult,
    ) -> None:
        for row, at in zip(fresh.rows.tolist(), fresh.at.tolist(), strict=True):
            sensor = int(body.sensor[at])
            key = (
                self._ids.series(machine, body.sensor_names[sensor]),
                body.width_us,
                int(body.start_us[at]),
            )
            values = (
                self._ids.of("units", ("unit",), (body.units[sensor],)),
                int(body.rows[at]),
                float(body.minimum[at]),
                float(body.maximum[at]),
                float(body.mean[at]),
            )
            self._upsert(_AGGREGATES, key, values, (fresh.source, row), result)

    def _upsert(
        self,
        table: Table,
        key: tuple[object, ...],
        values: tuple[object, ...],
        origin: tuple[int, int],
        result: WriteResult,
    ) -> None:
        """Insert, or let the highest (epoch, row) win: scores and aggregates have no arrival time of their own."""
        if self._db.execute(table.insert, (*key, *values, *origin)).rowcount:
            result.rows += 1
            return
        *old_values, old_source, old_row = self._db.execute(table.select, key).fetchone()
        if (self._ids.epoch(origin[0]), origin[1]) > (self._ids.epoch(old_source), old_row):
            self._db.execute(table.update, (*values, *origin, *key))
        # NaN is stored as NULL, and an unscored window told twice is a duplicate.
        same = [None if value != value else value for value in values] == old_values  # noqa: PLR0124 - finds NaN
        result.duplicates += same
        result.conflicts += not same

    def _event(self, fact: EventFact, result: WriteResult) -> None:
        new = self._db.execute(
            "INSERT INTO events (id, type, machine, occurred_us, json) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (fact.id, fact.type, fact.machine, fact.occurred_us, fact.json),
        ).rowcount
        result.rows += new
        result.duplicates += 1 - new

    def _save_positions(self, entries: Sequence[Entry]) -> None:
        ends: dict[tuple[str, str], int] = {}
        for entry in entries:
            place = (entry.record.topic, entry.record.partition)
            ends[place] = max(ends.get(place, 0), entry.record.offset)
        self._db.executemany(
            "INSERT INTO positions VALUES (?, ?, ?) ON CONFLICT (topic, partition) DO UPDATE"
            " SET offset = max(offset, excluded.offset)",
            [(topic, partition, offset) for (topic, partition), offset in ends.items()],
        )


def _total(results: Iterable[WriteResult]) -> WriteResult:
    total = WriteResult()
    for result in results:
        total.rows += result.rows
        total.duplicates += result.duplicates
        total.conflicts += result.conflicts
        total.redelivered += result.redelivered
        total.rejected += result.rejected
    return total
