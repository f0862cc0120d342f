"""Points as lines: readings by columns, scores and aggregates, which are few, one by one."""

import base64
from collections.abc import Iterable
from typing import Final

import numpy as np
import orjson

from cloud.telemetry.influx.batch import Rows
from cloud.telemetry.influx.lines import cells, lines, prefix
from cloud.telemetry.influx.points import AGGREGATE, KIND_AGGREGATE, KIND_READING, READING, SCORE, pack
from cloud.telemetry.influx.settle import Payload, Row
from cloud.telemetry.sql.known import Known
from shared.frames import ScoreState

_PREFIXES: Final = 200_000


class Encoder:
    """Makes lines; what a series' lines begin with is made once."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._prefixes: dict[int, bytes] = {}

    def forget(self) -> None:
        """Drop the prefixes."""
        self._prefixes.clear()

    def readings(self, rows: Rows) -> bytes:
        """Lines of readings that stand in order of their series."""
        first = np.append(True, rows.series[1:] != rows.series[:-1])
        starts = np.array([self._prefix(one) + b" value=" for one in rows.series[first].tolist()])
        index = np.cumsum(first) - 1
        return lines(
            [
                starts[index],
                cells(rows.value),
                b",a=",
                cells(rows.arrival_us - rows.time_us),
                b"i,o=",
                cells(pack(rows.quality, rows.origin, rows.row)),
                b"i ",
                cells(rows.time_us),
                b"\n",
            ]
        )

    def rows(self, rows: Iterable[Row]) -> bytes:
        """Lines of any rows."""
        return b"".join(self._line(row) for row in rows)

    def _line(self, row: Row) -> bytes:
        series, time_us = row.identity
        kind = self._known.series_of[series].kind
        fields = {KIND_READING: _reading, KIND_AGGREGATE: _aggregate}.get(kind, _score)(row)
        text = ",".join(f"{name}={value}" for name, value in fields.items())
        return self._prefix(series) + f" {text} {time_us}\n".encode()

    def _prefix(self, series: int) -> bytes:
        made = self._prefixes.get(series)
        if made is None:
            if len(self._prefixes) >= _PREFIXES:
                self._prefixes.clear()
            state = self._known.series_of[series]
            match state.kind:
                case 0:
                    made = prefix(READING, machine=state.machine, sensor=state.name)
                case 1:
                    sensor, _, width = state.name.rpartition("/")
                    made = prefix(AGGREGATE, machine=state.machine, sensor=sensor, width_us=width)
                case _:
                    made = prefix(SCORE, machine=state.machine, version=state.name)
            self._prefixes[series] = made
        return made


def _reading(row: Row) -> dict[str, str]:
    value, quality, _ = row.payload
    return {
        "value": repr(value),
        "a": f"{row.rank[0] - row.identity[1]}i",
        "o": f"{_packed(int(quality), row)}i",  # type: ignore[call-overload]
    }


def _aggregate(row: Row) -> dict[str, str]:
    count, minimum, maximum, mean, _ = row.payload
    return {
        "rows": f"{count}i",
        "minimum": repr(minimum),
        "maximum": repr(maximum),
        "mean": repr(mean),
        "o": f"{_packed(0, row)}i",
    }


def _score(row: Row) -> dict[str, str]:
    """`l`: the layout, negative where there is no score for a curve; then a `score` that an older row left does not count."""
    layout, state, data = row.payload
    score = float(np.frombuffer(data[:4], "<f4")[0])  # type: ignore[index]
    fields = {"d": f'"{base64.b64encode(data).decode()}"', "o": f"{_packed(int(state), row)}i"}  # type: ignore[arg-type, call-overload]
    if np.isnan(score) or state == ScoreState.SHADOW:
        return {**fields, "l": f"{-layout}i"}  # type: ignore[operator]
    return {**fields, "l": f"{layout}i", "score": repr(score)}


def _packed(quality: int, row: Row) -> int:
    one = np.ones(1, np.int64)
    return int(pack(one * quality, one * row.origin, one * row.rank[2])[0])


def payload_text(payload: Payload) -> str:
    """A payload as the books note it."""
    return orjson.dumps(
        [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in payload]
    ).decode()


def payload_of(kind: int, text: str) -> Payload:
    """A payload from its note."""
    values = orjson.loads(text)
    if kind in {KIND_READING, KIND_AGGREGATE}:
        return tuple(values)
    return values[0], values[1], base64.b64decode(values[2])
