"""The audit's scratch file: what the log and local outboxes hold, by frame, by machine-hour and by reading.

A temporary SQLite file, so that an audit of any length needs the memory of a chunk and the disk of a copy. It
applies the identity rule by itself and shares no code with the store's write side.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.telemetry.port import Source
from shared.checksum import HOUR_US, add

Ints = NDArray[np.int64]
Tally = tuple[int, int]
"""Count of rows, and the sum of their fingerprints modulo 2**64."""

_SCHEMA: Final = """
CREATE TABLE sources (id INTEGER PRIMARY KEY, edge TEXT, epoch BLOB, UNIQUE (edge, epoch));
CREATE TABLE series (id INTEGER PRIMARY KEY, machine TEXT, sensor TEXT, UNIQUE (machine, sensor));
CREATE TABLE units (id INTEGER PRIMARY KEY, unit TEXT UNIQUE);
CREATE TABLE frames (source INTEGER, first INTEGER, last INTEGER, machine TEXT, topic TEXT, partition TEXT,
    offset INTEGER, digest BLOB, low_hour INTEGER, high_hour INTEGER, PRIMARY KEY (source, first)) WITHOUT ROWID;
CREATE TABLE tallies (side INTEGER, source INTEGER, machine TEXT, hour INTEGER, count INTEGER, sum TEXT,
    PRIMARY KEY (side, source, machine, hour)) WITHOUT ROWID;
CREATE TABLE kept (source INTEGER, first INTEGER, last INTEGER, digest BLOB, PRIMARY KEY (source, first)) WITHOUT ROWID;
CREATE TABLE kept_tallies (source INTEGER, first INTEGER, machine TEXT, hour INTEGER, count INTEGER, sum TEXT,
    PRIMARY KEY (source, first, machine, hour)) WITHOUT ROWID;
CREATE TABLE expected (series INTEGER, time_us INTEGER, value REAL, quality INTEGER, unit INTEGER,
    arrival_us INTEGER, epoch BLOB, row INTEGER, PRIMARY KEY (series, time_us)) WITHOUT ROWID;
"""
_EXPECT: Final = """
INSERT INTO expected VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (series, time_us) DO UPDATE SET
    value = excluded.value, quality = excluded.quality, unit = excluded.unit, arrival_us = excluded.arrival_us,
    epoch = excluded.epoch, row = excluded.row
WHERE (excluded.arrival_us, excluded.epoch, excluded.row) > (arrival_us, epoch, row)
"""
LOG: Final = 0
EDGE: Final = 1


@dataclass(frozen=True, slots=True)
class FrameSeen:
    """A frame's rows, where the log holds them, and a digest of their bytes."""

    source: Source
    first: int
    last: int
    machine: str
    topic: str
    partition: str
    offset: int
    digest: bytes
    low_hour: int = 0
    high_hour: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """Readings of one sensor that the store should hold, by time; `unit` indexes `units`."""

    sensor: str
    units: Sequence[str]
    time_us: Ints
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]
    unit: Ints


class Workspace:
    """See the module. Every method is one short piece of work on one connection."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("PRAGMA cache_size = -65536")
        self._db.create_function("add64", 2, _add_text, deterministic=True)
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        self._ids: dict[tuple[str, tuple[object, ...]], int] = {}

    def close(self) -> None:
        """Close the file; its folder is the caller's to remove."""
        self._db.close()

    def overlapping(self, source: Source, first: int, last: int) -> list[FrameSeen]:
        """Frames of the log that share a row with the range."""
        key = self._source(source)
        found = self._db.execute(
            "SELECT first, last, machine, topic, partition, offset, digest, low_hour, high_hour FROM frames"
            " WHERE source = ?1 AND first <= ?3 AND last >= ?2 AND first >= coalesce((SELECT max(first)"
            " FROM frames WHERE source = ?1 AND first <= ?2), 0)",
            (key, first, last),
        )
        return [FrameSeen(source, *row) for row in found]

    def frames_of_hour(self, source: Source, machine: str, hour: int, limit: int) -> list[tuple[int, int]]:
        """Row ranges of the frames that have a reading in a machine's hour."""
        return self._db.execute(
            "SELECT first, last FROM frames WHERE source = ? AND machine = ? AND low_hour <= ? AND high_hour >= ?"
            " ORDER BY first LIMIT ?",
            (self._source(source), machine, hour, hour, limit),
        ).fetchall()

    def last_offset(self, source: Source, ranges: Iterable[tuple[int, int]]) -> dict[tuple[str, str], int]:
        """(topic, partition) to the log offset at which the last of these rows stands there."""
        ends: dict[tuple[str, str], int] = {}
        for first, last in ranges:
            for frame in self.overlapping(source, first, last):
                place = (frame.topic, frame.partition)
                ends[place] = max(ends.get(place, 0), frame.offset)
        return ends

    def add_frame(self, frame: FrameSeen) -> None:
        """Note a frame of the log."""
        self._db.execute(
            "INSERT OR IGNORE INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._source(frame.source),
                frame.first,
                frame.last,
                frame.machine,
                frame.topic,
                frame.partition,
                frame.offset,
                frame.digest,
                frame.low_hour,
                frame.high_hour,
            ),
        )

    def count(self, side: int, source: Source, machine: str, tally: dict[int, Tally]) -> None:
        """Add to a side's machine-hours."""
        key = self._source(source)
        self._db.executemany(
            "INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " count = count + excluded.count, sum = add64(sum, excluded.sum)",
            [(side, key, machine, hour, count, str(total)) for hour, (count, total) in tally.items()],
        )

    def tallies(self, side: int, source: Source) -> dict[tuple[str, int], Tally]:
        """(machine, hour) to its tally on one side."""
        found = self._db.execute(
            "SELECT machine, hour, count, sum FROM tallies WHERE side = ? AND source = ?",
            (side, self._source(source)),
        )
        return {(machine, hour): (count, int(total)) for machine, hour, count, total in found}

    def keep(
        self, source: Source, first: int, last: int, digest: bytes, tally: dict[tuple[str, int], Tally]
    ) -> None:
        """Note a frame that a local outbox still holds."""
        key = self._source(source)
        self._db.execute("INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?)", (key, first, last, digest))
        self._db.executemany(
            "INSERT OR IGNORE INTO kept_tallies VALUES (?, ?, ?, ?, ?, ?)",
            [(key, first, machine, hour, n, str(total)) for (machine, hour), (n, total) in tally.items()],
        )

    def kept_unlogged(self, source: Source) -> dict[tuple[str, int], Tally]:
        """(machine, hour) to the tally of kept frames that the log has not."""
        sums: dict[tuple[str, int], Tally] = {}
        for machine, hour, count, total in self._db.execute(
            "SELECT machine, hour, count, sum FROM kept_tallies k WHERE source = ?1 AND NOT EXISTS"
            " (SELECT 1 FROM frames f WHERE f.source = ?1 AND f.first = k.first)",
            (self._source(source),),
        ):
            sums[(machine, hour)] = add_tallies(sums.get((machine, hour), (0, 0)), (count, int(total)))
        return sums

    def kept_differing(self, source: Source) -> list[tuple[int, int, list[tuple[str, int]]]]:
        """(first, last, machine-hours) of kept frames whose bytes in the log are others."""
        key = self._source(source)
        found = self._db.execute(
            "SELECT k.first, k.last FROM kept k JOIN frames f ON f.source = k.source AND f.first = k.first"
            " WHERE k.source = ? AND k.digest <> f.digest",
            (key,),
        ).fetchall()
        return [
            (
                first,
                last,
                self._db.execute(
                    "SELECT machine, hour FROM kept_tallies WHERE source = ? AND first = ?", (key, first)
                ).fetchall(),
            )
            for first, last in found
        ]

    def expect(
        self,
        source: Source,
        series: Sequence[tuple[str, str]],
        units: Sequence[str],
        columns: tuple[Ints, Ints, NDArray[np.float64], NDArray[np.uint8], Ints],
        rows: Ints,
    ) -> None:
        """Offer readings to the identity rule. `columns`: sensor, time, value, quality, arrival."""
        sensor, time_us, value, quality, arrival_us = columns
        keys = np.array([self._id("series", ("machine", "sensor"), one) for one in series], np.int64)
        marks = np.array([self._id("units", ("unit",), (unit,)) for unit in units], np.int64)
        epochs = [source.epoch] * len(rows)
        table = zip(
            keys[sensor].tolist(),
            time_us.tolist(),
            value.tolist(),
            quality.tolist(),
            marks[sensor].tolist(),
            arrival_us.tolist(),
            epochs,
            rows.tolist(),
            strict=True,
        )
        self._db.executemany(_EXPECT, table)

    def machines(self) -> list[str]:
        """Machines with expected readings."""
        return [name for (name,) in self._db.execute("SELECT DISTINCT machine FROM series ORDER BY machine")]

    def expected(self, machine: str, hour: int | None = None, chunk: int = 100_000) -> Iterator[Expected]:
        """A machine's expected readings, or an hour of them, in chunks of one sensor each."""
        units = [unit for (unit,) in self._db.execute("SELECT unit FROM units ORDER BY id")]
        begin, end = (-(2**62), 2**62) if hour is None else (hour * HOUR_US, (hour + 1) * HOUR_US)
        for key, sensor in self._db.execute(
            "SELECT id, sensor FROM series WHERE machine = ?", (machine,)
        ).fetchall():
            at = begin
            while True:
                rows = self._db.execute(
                    "SELECT time_us, value, quality, unit FROM expected WHERE series = ? AND time_us >= ?"
                    " AND time_us < ? ORDER BY time_us LIMIT ?",
                    (key, at, end, chunk),
                ).fetchall()
                if not rows:
                    break
                time_us, value, quality, unit = zip(*rows, strict=True)
                yield Expected(
                    sensor,
                    units,
                    np.array(time_us, np.int64),
                    np.array(value, np.float64),
                    np.array(quality, np.uint8),
                    np.array(unit, np.int64) - 1,
                )
                at = time_us[-1] + 1

    def _source(self, source: Source) -> int:
        return self._id("sources", ("edge", "epoch"), (source.edge, source.epoch))

    def _id(self, table: str, columns: tuple[str, ...], values: tuple[object, ...]) -> int:
        found = self._ids.get((table, values))
        if found is not None:
            return found
        marks = ", ".join("?" * len(columns))
        cursor = self._db.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608 - own names
            values,
        )
        key = int(cursor.lastrowid or 0)
        self._ids[(table, values)] = key
        return key


def add_tallies(one: Tally, other: Tally) -> Tally:
    """Both together."""
    return one[0] + other[0], add(one[1], other[1])


def subtract(one: Tally, other: Tally) -> Tally:
    """What `one` has and `other` lacks; the count may be negative, the sum is modulo 2**64."""
    return one[0] - other[0], (one[1] - other[1]) % 2**64


def _add_text(one: str, other: str) -> str:
    return str(add(int(one), int(other)))
