"""Scores as InfluxDB keeps them: queries, and answers as columns."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import orjson

from cloud.telemetry.influx.client import Table
from cloud.telemetry.influx.points import SCORE, between, text, unpack
from cloud.telemetry.port import ScoreTrend
from cloud.telemetry.sql.reading import Layouts
from shared.frames import Scores

_LAYOUT: Final = "l"
_F4: Final = 4


def query(machine: str, from_us: int, to_us: int, limit: int, *, newest: bool) -> str:
    """A range's first or last windows of each version."""
    order = "DESC" if newest else "ASC"
    return (
        f"SELECT l,o,d FROM {SCORE} WHERE machine={text(machine)} AND {between(from_us, to_us)}"  # noqa: S608 - escaped
        f" GROUP BY version ORDER BY time {order} LIMIT {limit}"
    )


def trend_query(machine: str, from_us: int, to_us: int) -> str:
    """Every score of a range, and its newest windows whole."""
    where = f"WHERE machine={text(machine)} AND {between(from_us, to_us)} AND l > 0 GROUP BY version"
    return (
        f"SELECT l,score FROM {SCORE} {where};"  # noqa: S608 - escaped
        f"SELECT l,d FROM {SCORE} {where} ORDER BY time DESC LIMIT 1"
    )


def layout_numbers(tables: Iterable[Table]) -> set[int]:
    """The layouts that an answer names."""
    return {abs(row[1]) for table in tables for row in table.rows}


def scores(tables: Sequence[Table], layouts: Layouts, limit: int, *, newest: bool) -> list[Scores]:
    """The first or last `limit` windows of all versions, one item a (version, layout)."""
    rows = [(row, table.tags["version"]) for table in tables for row in table.rows]
    rows.sort(key=lambda item: item[0][0])
    rows = rows[-limit:] if newest else rows[:limit]
    groups: dict[tuple[str, int], list[list[Any]]] = {}
    for row, version in rows:
        groups.setdefault((version, abs(row[1])), []).append(row)
    return [_scores(version, layouts[layout], part) for (version, layout), part in groups.items()]


def _scores(version: str, layout: tuple[str, float, str], rows: list[list[Any]]) -> Scores:
    model, limit, sensors = layout
    names = tuple(orjson.loads(sensors))
    width = len(names)
    data = [base64.b64decode(row[3]) for row in rows]
    floats = [np.frombuffer(one, "<f4", 1 + width) for one in data]
    expected = [np.frombuffer(one, "<f8", width, _F4 * (1 + width)) for one in data]
    state, _, _ = unpack(np.array([row[2] for row in rows], np.int64))
    table = np.array(floats, np.float32).reshape(len(rows), 1 + width)
    return Scores(
        model,
        version,
        limit,
        names,
        np.array([row[0] for row in rows], np.int64),
        table[:, 0],
        state,
        table[:, 1:],
        np.array(expected, np.float64).reshape(len(rows), width),
    )


def trend(curves: Sequence[Table], newest: Sequence[Table], layouts: Layouts, most: int) -> ScoreTrend:
    """At most `most` points; of a bucket its largest score, with that window's time, limit and version."""
    rows = sorted((row[0], row[2], row[1], table.tags["version"]) for table in curves for row in table.rows)
    kept = rows
    if len(rows) > most:
        first, width = rows[0][0], -(-(rows[-1][0] + 1 - rows[0][0]) // most)
        best: dict[int, tuple[int, float, int, str]] = {}
        for row in rows:
            bucket = (row[0] - first) // width
            if bucket not in best or row[1] > best[bucket][1]:
                best[bucket] = row
        kept = list(best.values())
    made_by = [(layouts[layout][0], version) for _, _, layout, version in kept]
    models = tuple(dict.fromkeys(made_by))
    return ScoreTrend(
        len(rows),
        len(rows) > most,
        np.array([row[0] for row in kept], np.int64),
        np.array([row[1] for row in kept], np.float64),
        np.array([layouts[row[2]][1] for row in kept], np.float64),
        np.array([models.index(one) for one in made_by], np.int64),
        models,
        _shares(newest, layouts),
    )


def _shares(newest: Sequence[Table], layouts: Layouts) -> tuple[tuple[str, float], ...]:
    """(sensor, share) of the newest scored window."""
    rows = [row for table in newest for row in table.rows]
    if not rows:
        return ()
    _, layout, data = max(rows, key=lambda row: row[0])
    names = orjson.loads(layouts[layout][2])
    shares = np.frombuffer(base64.b64decode(data), "<f4", len(names), _F4).astype(np.float64)
    return tuple(zip(names, np.nan_to_num(shares).tolist(), strict=True))
