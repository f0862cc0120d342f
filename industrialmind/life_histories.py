"""Run-to-failure histories out of the telemetry store: machines' running rows, cut at their repairs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.life.history import newest_us, read_rows
from cloud.life.manifest import RunningRule
from cloud.life.runs import Runs, make_runs
from cloud.telemetry.port import BEGIN_US, HOUR_US, TelemetryReader
from industrialmind.repairs import Repairs
from shared.errors import Rejected
from shared.event import to_us
from shared.windows import Floats, Ints

UNITS_MIN: Final = 10
MOST_SENSORS: Final = 256
ROW_US: Final = HOUR_US
"""Hours outlive minutes and readings in the store, and a life is no matter of minutes."""


@dataclass(frozen=True)
class Histories:
    """What the store tells of lives.

    Attributes:
        failed: Units that failed; a cycle is an hour of running.
        running: float64[k], ages in cycles of units that had not failed: they still run, or were repaired for something else.
        unknown: How many units were left out because nobody knows how old they were when they were first seen.
    """

    failed: Runs
    running: Floats
    unknown: int


@dataclass(frozen=True)
class _Unit:
    """From one repair of a machine to the next; `failed`: it ended in a failure of the kind that is learnt."""

    name: str
    values: Floats
    failed: bool


async def read_histories(
    store: TelemetryReader,
    repairs: Repairs,
    machines: Sequence[str],
    *,
    codes: Collection[str],
    from_new: bool,
    running: RunningRule | None,
) -> Histories:
    """Units of these machines, each from a repair to the next. A repair is a work order closed with a failure code.

    Args:
        store: Where readings are.
        repairs: When machines were mended, of what.
        machines: Of one kind: the sensors that all of them have are learnt from.
        codes: Failure codes that are the failure; a repair for another ends a unit that had not failed. Empty: any.
        from_new: The machines were new at their first reading; else nobody knows how old they were until their first repair.
        running: What tells that a machine runs.

    Raises:
        Rejected: There are too few units that failed, or the machines share no sensor.
        Unavailable: Store or log is away.
    """
    sensors = await _shared_sensors(store, machines)
    units: list[_Unit] = []
    unknown = 0
    for machine in machines:
        first, whole = await _cut(store, repairs, machine, sensors, codes, running)
        units += [first, *whole] if from_new and first is not None else whole
        unknown += int(first is not None and not from_new)
    failed = [each for each in units if each.failed]
    if len(failed) < UNITS_MIN:
        raise Rejected(_too_few(len(failed), machines, codes, unknown))
    cycles = np.concatenate([np.arange(1.0, len(each.values) + 1) for each in failed])
    names = [each.name for each in failed for _ in range(len(each.values))]
    runs = make_runs(names, cycles, np.concatenate([each.values for each in failed]), sensors)
    ages = np.array([float(len(each.values)) for each in units if not each.failed])
    return Histories(runs, ages, unknown)


async def _shared_sensors(store: TelemetryReader, machines: Sequence[str]) -> tuple[str, ...]:
    """Raises Rejected."""
    each = [{series.sensor for series in await store.series(machine)} for machine in machines]
    shared = tuple(sorted(set.intersection(*each))) if each else ()
    if not shared:
        silent = [machine for machine, its in zip(machines, each, strict=True) if not its]
        raise Rejected(
            f"the store has no readings of {', '.join(silent)}"
            if silent
            else f"{', '.join(machines)} have no sensor in common: name machines of one kind"
        )
    if len(shared) > MOST_SENSORS:
        raise Rejected(f"{len(shared)} sensors are more than the {MOST_SENSORS} that a life model may have")
    return shared


async def _cut(
    store: TelemetryReader,
    repairs: Repairs,
    machine: str,
    sensors: tuple[str, ...],
    codes: Collection[str],
    running: RunningRule | None,
) -> tuple[_Unit | None, list[_Unit]]:
    """The unit before the first repair, whose begin nobody may know, and those after it; without those that never ran."""
    mended = await repairs.of(machine)
    to = await newest_us(store, machine, sensors) // ROW_US * ROW_US
    places, values = (
        await read_rows(store, machine, sensors, ROW_US, 0, to, running)
        if to > BEGIN_US
        else (np.zeros(0, dtype=np.int64), np.zeros((0, len(sensors))))
    )
    # The hour in which an order was closed is nobody's: it may have ended before, and begun after.
    ends = np.array([to_us(each.closed) // ROW_US for each in mended], dtype=np.int64)
    found: list[_Unit | None] = []
    for number in range(len(mended) + 1):
        inside = _between(places, ends, number)
        failed = number < len(mended) and (not codes or mended[number].failure_code in codes)
        unit = _Unit(f"{machine} {number + 1}", values[inside], failed)
        found.append(unit if len(unit.values) else None)
    return found[0], [each for each in found[1:] if each is not None]


def _between(places: Ints, ends: Ints, number: int) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    after = places > ends[number - 1] if number else np.ones(len(places), dtype=np.bool_)
    before = places < ends[number] if number < len(ends) else np.ones(len(places), dtype=np.bool_)
    return np.asarray(after & before)


def _too_few(failed: int, machines: Sequence[str], codes: Collection[str], unknown: int) -> str:
    kind = f" ({', '.join(sorted(codes))})" if codes else ""
    more = (
        f" {unknown} more were left out, since nobody knows how old they were at first: --from-new says they were new."
        if unknown
        else ""
    )
    return (
        f"{failed} units of {', '.join(machines)} ran to failure{kind} in the store; at least {UNITS_MIN} are needed. A unit "
        f"ends where a work order is closed with a failure code.{more} Take in machines of the same kind, or --train a file."
    )
