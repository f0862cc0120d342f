"""The edge's own count of the readings it cut, a machine-hour, for the audit (ADR 7)."""

import sqlite3
from typing import Final

from shared import checksum
from shared.frames import Readings

REPORTED_HOURS: Final = 31 * 24  # the log keeps readings 30 days: older hours can't be audited
REPORTED_ENTRIES: Final = 4000  # a value of the control plane holds 256 KiB


def drop_unreadable(db: sqlite3.Connection) -> int:
    """Inside a transaction: take out the hours that rotted into what nobody can have written; how many they were.

    SQLite's own check sees no bit that flips in a value. The audit then finds that such an hour was not told.
    """
    return db.execute(
        "DELETE FROM tally WHERE typeof(hour) != 'integer' OR typeof(count) != 'integer' OR typeof(sum) != 'text'"
        " OR sum = '' OR sum GLOB '*[^0-9]*'"
    ).rowcount


def count_readings(db: sqlite3.Connection, machine: str, readings: Readings, sign: int = 1) -> None:
    """Inside the cut's transaction: add the readings of a frame to the table `tally`. With `sign` -1: take them out."""
    hashes = checksum.readings_hashes(machine, readings)
    for hour, (count, total) in checksum.tally(readings.time_us, hashes).items():
        key = (machine, hour)
        old = db.execute("SELECT count, sum FROM tally WHERE machine = ? AND hour = ?", key).fetchone()
        before, summed = (0, 0) if old is None else (old[0], int(old[1]))
        after = before + sign * count
        if after:
            now = checksum.add(summed, sign * total)
            db.execute("INSERT OR REPLACE INTO tally VALUES (?, ?, ?, ?)", (*key, after, str(now)))
        else:
            db.execute("DELETE FROM tally WHERE machine = ? AND hour = ?", key)


def told_tally(db: sqlite3.Connection) -> tuple[dict[str, dict[str, list[int]]], int]:
    """{machine: {hour since 1970: [count, sum of fingerprints]}} of each machine's newest hours, and of how many."""
    machines = db.execute("SELECT count(DISTINCT machine) FROM tally").fetchone()[0]
    most = min(REPORTED_HOURS, REPORTED_ENTRIES // max(1, machines))
    tally: dict[str, dict[str, list[int]]] = {}
    for machine, hour, count, total in db.execute(
        "SELECT machine, hour, count, sum FROM tally ORDER BY machine, hour DESC"
    ):
        hours = tally.setdefault(machine, {})
        if len(hours) < most:
            hours[str(hour)] = [count, int(total)]
    return tally, most
