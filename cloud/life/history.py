"""A machine's history in the store as a life model reads it: a row for each stretch of running since it was last renewed."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from cloud.life.manifest import LifeManifest, RunningRule
from cloud.life.runs import Runs
from cloud.telemetry.port import BEGIN_US, DAY_US, HOUR_US, MINUTE_US, Rollups, TelemetryReader
from shared.errors import NotFound, Rejected
from shared.windows import Bools, Floats, Ints

DUTY_US: Final = 28 * DAY_US  # the newest stretch of calendar time that duty is measured over
HOURS_MAX: Final = 50_000  # of all sensors, where minutes are read
ROWS_MAX: Final = 50_000
_UNBROKEN: Final = 1.0


@dataclass(frozen=True)
class History:
    """What the store tells.

    Attributes:
        runs: One unit, at least one row; its columns are the manifest's sensors, its cycles begin at the renewal.
        ends_us: int64[n], calendar end of each row.
        from_us: Begin of the first row.
        duty: Share of calendar time in which the machine ran lately, above 0 and at most 1.
        silent: Sensors of the model that the machine never had since then.
    """

    runs: Runs
    ends_us: Ints
    from_us: int
    duty: float
    silent: tuple[str, ...]


async def read_history(
    store: TelemetryReader, machine: str, manifest: LifeManifest, renewed_us: int
) -> History:
    """Means over each row's running time. Only whole rows count, and only those in which the machine ran.

    Raises NotFound (nothing since then), Rejected (more than can be looked at), Unavailable.
    """
    row_us = manifest.row_us
    to_us = await newest_us(store, machine, manifest.sensors) // row_us * row_us
    first = -(-renewed_us // row_us) * row_us
    places, values = (
        await read_rows(store, machine, manifest.sensors, row_us, first, to_us, manifest.running)
        if to_us > first
        else _no_rows(manifest.sensors)
    )
    if not len(places):
        raise NotFound(
            f"the store has no whole row ({row_us / MINUTE_US:g} min) of {machine!r} that its life model reads"
        )
    if len(places) > ROWS_MAX:
        raise Rejected(f"more than {ROWS_MAX} rows since the renewal: give since_us")
    cycles = manifest.step * np.arange(1, len(places) + 1, dtype=np.float64)
    runs = Runs((machine,), np.array([0, len(places)]), cycles, values, manifest.sensors)
    silent = np.isnan(values).all(axis=0)
    return History(
        runs,
        (places + 1) * row_us,
        int(places[0]) * row_us,
        duty(places, row_us),
        tuple(manifest.sensors[at] for at in np.flatnonzero(silent).tolist()),
    )


async def newest_us(store: TelemetryReader, machine: str, sensors: Sequence[str]) -> int:
    """Event time of the newest reading of these sensors; BEGIN_US if there is none. Raises Unavailable."""
    return max(
        (each.time_us for each in await store.latest(machine) if each.sensor in sensors), default=BEGIN_US
    )


async def read_rows(
    store: TelemetryReader,
    machine: str,
    sensors: tuple[str, ...],
    row_us: int,
    from_us: int,
    to_us: int,
    running: RunningRule | None,
) -> tuple[Ints, Floats]:
    """Numbers of the rows in [from, to) in which the machine ran, and float64[n, S], each sensor's mean there.

    Raises Rejected (more minutes than can be looked at), Unavailable.
    """
    width = HOUR_US if row_us % HOUR_US == 0 else MINUTE_US
    if width == MINUTE_US:
        hours = await store.rollups(machine, sensors, HOUR_US, from_us, to_us)
        if sum(len(each.start_us) for each in hours) > HOURS_MAX:
            raise Rejected(
                "the history is too long to be read in minutes: give since_us, or train on whole hours"
            )
    asked = sensors if running is None else tuple({*sensors, running.sensor})
    buckets = await store.rollups(machine, asked, width, from_us, to_us)
    if running is not None:
        buckets = while_running(buckets, running)
    buckets = [each for each in buckets if each.sensor in sensors]
    if sum(len(each.start_us) for each in buckets) == 0:
        return _no_rows(sensors)
    return rows_of(buckets, sensors, row_us)


def while_running(buckets: list[Rollups], running: RunningRule) -> list[Rollups]:
    """Those minutes or hours alone in which the machine ran in the mean; one that does not tell is not counted."""
    rule = next((each for each in buckets if each.sensor == running.sensor), None)
    ran = np.zeros(0, dtype=np.int64) if rule is None else rule.start_us[rule.mean > running.off]
    return [_only(each, np.isin(each.start_us, ran)) for each in buckets]


def _only(rollups: Rollups, kept: Bools) -> Rollups:
    columns = {
        each.name: getattr(rollups, each.name)[kept]
        for each in fields(rollups)
        if isinstance(getattr(rollups, each.name), np.ndarray)
    }
    return replace(rollups, **columns)


def _no_rows(sensors: tuple[str, ...]) -> tuple[Ints, Floats]:
    return np.zeros(0, dtype=np.int64), np.zeros((0, len(sensors)))


def rows_of(buckets: list[Rollups], sensors: tuple[str, ...], row_us: int) -> tuple[Ints, Floats]:
    """Numbers of the rows that have any bucket, and float64[n, S], the mean of each sensor's readings in each."""
    places = np.unique(np.concatenate([each.start_us // row_us for each in buckets]))
    values = np.full((len(places), len(sensors)), np.nan)
    for each in buckets:
        at = np.searchsorted(places, each.start_us // row_us)
        known = np.isfinite(each.mean)
        count = np.bincount(at[known], each.rows[known], len(places))
        total = np.bincount(at[known], each.mean[known] * each.rows[known], len(places))
        np.divide(total, count, out=values[:, sensors.index(each.sensor)], where=count > 0)
    return places.astype(np.int64), values


def duty(places: Ints, row_us: int) -> float:
    """Share of the newest stretch's rows in which the machine ran."""
    begin = max(int(places[0]), int(places[-1]) + 1 - max(1, DUTY_US // row_us))
    return min(_UNBROKEN, int((places >= begin).sum()) / (int(places[-1]) + 1 - begin))
