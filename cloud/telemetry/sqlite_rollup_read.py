"""Minutes and hours as readers see them, and the units of sensors whose readings may be gone."""

import sqlite3
from collections.abc import Sequence

import numpy as np
import orjson

from cloud.telemetry.facts import HOUR_US, MINUTE_US, Rollups
from cloud.telemetry.sqlite_expired import has_rollups
from cloud.telemetry.sqlite_rollup import Buckets, computed, stored


def rollups(
    db: sqlite3.Connection,
    machine: str,
    sensors: Sequence[str] | None,
    width_us: int,
    from_us: int,
    to_us: int,
) -> list[Rollups]:
    """Minutes or hours of each sensor; a file that its writer has not brought up yet has them by its readings."""
    if width_us not in {MINUTE_US, HOUR_US}:
        raise ValueError(f"rollups are kept by minute and by hour, not by {width_us} µs")
    read = stored if has_rollups(db) else computed
    return [
        _rollups(sensor, unit, width_us, read(db, key, width_us, from_us, to_us))
        for key, sensor, unit in with_units(db, machine, sensors)
    ]


def _rollups(sensor: str, unit: str, width_us: int, found: Buckets) -> Rollups:
    return Rollups(
        sensor,
        unit,
        width_us,
        found.start_us,
        found.rows,
        found.minimum,
        found.maximum,
        found.mean,
        found.last,
        found.quality.astype(np.uint8),
    )


def with_units(
    db: sqlite3.Connection, machine: str, sensors: Sequence[str] | None
) -> list[tuple[int, str, str]]:
    """(series id, sensor, unit) of the machine, those asked for and present, by name."""
    wanted = None if sensors is None else orjson.dumps(list(sensors)).decode()
    return db.execute(
        f"SELECT s.id, s.sensor, {newest_unit(db)} FROM series s WHERE s.machine = ?1"  # noqa: S608 - own names
        " AND (?2 IS NULL OR s.sensor IN (SELECT value FROM json_each(?2))) ORDER BY s.sensor",
        (machine, wanted),
    ).fetchall()


def newest_unit(db: sqlite3.Connection) -> str:
    """SQL for the unit of the newest reading of the series `s`, of one that has expired too; "" if there was none."""
    in_hours = (
        " (SELECT u.unit FROM rollups r JOIN units u ON u.id = r.unit WHERE r.series = s.id"  # noqa: S608 - own names
        f" AND r.width_us = {HOUR_US} ORDER BY r.start_us DESC LIMIT 1),"
    )
    return (
        "coalesce((SELECT u.unit FROM readings r JOIN units u ON u.id = r.unit"  # noqa: S608 - own names
        f" WHERE r.series = s.id ORDER BY r.time_us DESC LIMIT 1),{in_hours if has_rollups(db) else ''} '')"
    )
