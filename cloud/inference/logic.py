"""From what was posted or stored to windows of the model's grid, and from scores to columns. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from cloud.inference.schemas import Gridded, Rows
from shared.errors import Rejected
from shared.frames import Quality, Readings
from shared.grid import Grid, grid_frame
from shared.loaded import LoadedModel
from shared.manifest import Manifest
from shared.onnxruntime import Scores, check_machine
from shared.windows import Floats, Ints, Windows, windows_of

_FEW: Final = 3  # intervals that a rate needs


@dataclass(frozen=True, eq=False)
class Asked:
    """Windows to score. `refused`: why none of them can be, as (reason, words)."""

    windows: Windows
    refused: tuple[str, str] | None = None
    ignored: tuple[str, ...] = field(default=())

    @property
    def chosen(self) -> Ints:
        """Which windows the graph gets."""
        return np.flatnonzero(self.windows.scorable) if self.refused is None else np.zeros(0, np.int64)


def reach_us(manifest: Manifest, most: int) -> int:
    """How far before the newest row the rows begin that the newest `most` windows depend on."""
    spec = manifest.grid_spec()
    settle = 0 if spec.operating is None and spec.states is None else spec.window + spec.settle
    return (spec.window + spec.max_age + spec.lateness + settle + most + 1) * spec.step_us


def of_rows(manifest: Manifest, rows: Rows, most: int) -> Asked:
    """The newest `most` windows of posted rows, the cell of the newest row among them."""
    spec = manifest.grid_spec()
    times = np.array(rows.time_us, dtype=np.int64)
    near = np.flatnonzero(times > times.max() - reach_us(manifest, most))
    silent: list[Any] = [None] * len(times)
    table = np.array([rows.values.get(name, silent) for name in spec.sensors], dtype=np.float64).T
    intervals = {
        name: usual_interval(times[np.isfinite(table[:, column])]) for column, name in enumerate(spec.sensors)
    }
    units = {name: rows.units.get(name, "") for name in rows.values}
    cells = grid_frame(spec, times[near], table[near])
    ends = np.arange(max(0, len(cells) - most), len(cells))
    return Asked(cells.gather(ends), refusal(manifest, units, intervals), _ignored(manifest, rows.values))


def of_windows(manifest: Manifest, posted: Gridded) -> Asked:
    """Windows as posted, their columns in the model's order. Raises Rejected if they have other than W rows.

    Whether the operating point had settled before a window can't be seen; within it, it is looked at.
    """
    spec = manifest.grid_spec()
    if len(posted.values[0]) != spec.window:
        raise Rejected(f"the model's windows have {spec.window} rows, these {len(posted.values[0])}")
    given = np.array(posted.values, dtype=np.float64)
    table = np.full((len(given), spec.window, len(spec.sensors)), np.nan)
    for column, name in enumerate(spec.sensors):
        if name in posted.sensors:
            table[:, :, column] = given[:, :, posted.sensors.index(name)]
    windows = windows_of(spec, np.array(posted.time_us, dtype=np.int64), table, spec.learnt(table))
    units = {name: posted.units.get(name, "") for name in posted.sensors}
    return Asked(windows, refusal(manifest, units, {}), _ignored(manifest, posted.sensors))


def of_stored(manifest: Manifest, readings: Readings, units: Mapping[str, str], most: int) -> Asked:
    """The newest `most` windows that stored rows close, as a grid that follows them would."""
    spec = manifest.grid_spec()
    model_units = {sensor.name: sensor.unit for sensor in manifest.sensors}
    lookup = np.array(
        [
            spec.sensors.index(name) if name in spec.sensors and unit == (model_units[name] or unit) else -1
            for name, unit in zip(readings.sensor_names, readings.units, strict=True)
        ],
        dtype=np.int64,
    )
    column = lookup[readings.sensor] if len(lookup) else np.zeros(0, np.int64)
    good = readings.quality < Quality.BAD
    intervals = {
        name: usual_interval(readings.time_us[(column == at) & good]) for at, name in enumerate(spec.sensors)
    }
    grid = Grid(spec)
    grid.add(column, readings.time_us, readings.value, readings.quality)
    return Asked(newest(grid.close(), most), refusal(manifest, units, intervals), _ignored(manifest, units))


def newest(windows: Windows, most: int) -> Windows:
    """The last `most` of them."""
    first = max(0, len(windows) - most)
    return Windows(
        windows.times_us[first:], windows.values[first:], windows.masked[first:], windows.scorable[first:]
    )


def usual_interval(times_us: Ints) -> int | None:
    """The usual time between a sensor's rows, None where there are too few to say."""
    steps = np.diff(np.unique(times_us))
    return round(statistics.median(steps.tolist())) if len(steps) >= _FEW else None


def refusal(
    manifest: Manifest, units: Mapping[str, str], intervals: Mapping[str, int | None]
) -> tuple[str, str] | None:
    """Why the machine can't feed the model, None if it can: first a missing sensor, then a unit, then the rate."""
    needed = [sensor.name for sensor in manifest.sensors if sensor.required]
    slowest = max((each for name in needed if (each := intervals.get(name)) is not None), default=None)
    checks: tuple[tuple[str, Mapping[str, str], int | None], ...] = (
        ("sensor", dict.fromkeys(units, ""), None),
        ("unit", units, None),
        ("rate", units, slowest),
    )
    for reason, given, interval in checks:
        try:
            check_machine(manifest, given, interval)
        except Rejected as error:
            return reason, error.reason
    return None


def columns(model: LoadedModel, machine: str, asked: Asked, scores: Scores | None) -> dict[str, Any]:
    """The answer, ready for JSON: shares, seen and expected levels of each sensor beside the scores."""
    manifest, windows = model.manifest, asked.windows
    chosen = asked.chosen if scores is not None else np.zeros(0, np.int64)
    places = {int(row): place for place, row in enumerate(chosen)}
    verdicts = [_verdict(manifest, asked, scores, row, places.get(row)) for row in range(len(windows))]
    parts = (None, None, None) if scores is None else (scores.contributions, scores.seen, scores.expected)
    score = None if scores is None else scores.score[:, None]
    return {
        "machine": machine,
        "model": {
            "name": model.desired.model,
            "version": model.desired.version,
            "version_hash": model.desired.sha256,
            "provisional": manifest.provisional,
            "window": manifest.grid.window,
            "step_us": manifest.grid.step_us,
        },
        "limit": manifest.limit if scores is None else scores.limit,
        "time_us": windows.times_us.tolist(),
        "score": _spread(score, 0, chosen, len(windows)),
        "state": [state for state, _, _ in verdicts],
        "reason": [reason for _, reason, _ in verdicts],
        "detail": [words for _, _, words in verdicts],
        "sensors": {
            sensor.name: {
                "unit": sensor.unit,
                **{
                    key: _spread(part, at, chosen, len(windows))
                    for key, part in zip(("contribution", "seen", "expected"), parts, strict=True)
                },
            }
            for at, sensor in enumerate(manifest.sensors)
        },
        "ignored": list(asked.ignored),
    }


def _verdict(
    manifest: Manifest, asked: Asked, scores: Scores | None, row: int, place: int | None
) -> tuple[str, str, str]:
    """State, reason and words of one window."""
    masked, limit = float(asked.windows.masked[row]), manifest.grid.mask_limit
    if asked.refused is not None:
        return "unscored", *asked.refused
    if masked > limit:
        return "unscored", "mask", f"{masked:.0%} of the window has no reading; at most {limit:.0%} may"
    if not asked.windows.scorable[row]:
        words = "the operating point is not one that the model learnt, or has not settled"
        return "unscored", "operating-point", words
    if scores is None or place is None or not np.isfinite(scores.score[place]):
        return "unscored", "model", "the model gave no finite score"
    return ("alarm" if scores.alarm[place] else "normal"), "", ""


def _spread(
    part: "np.ndarray[tuple[int, int], np.dtype[Any]] | None", column: int, chosen: Ints, count: int
) -> list[float | None]:
    """A column of the scored windows among all: null where there is no score, or it is not finite."""
    spread: list[float | None] = [None] * count
    if part is not None:
        values: Floats = part[:, column]
        finite = np.isfinite(values)
        for row, value, whole in zip(chosen.tolist(), values.tolist(), finite.tolist(), strict=True):
            spread[row] = value if whole else None
    return spread


def _ignored(manifest: Manifest, names: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(set(names) - set(manifest.sensor_names)))
