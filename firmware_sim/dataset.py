"""Labelled recordings of simulated machines, in memory and as CSV with ground truth."""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from firmware_sim.episodes import Episode
from firmware_sim.machine import Machine
from firmware_sim.machines import MACHINE_TYPES, machine_type
from firmware_sim.model import Fault, LookAlike, MachineType, SensorFault
from firmware_sim.readings import Label, Recording
from shared.clock import MICROSECONDS
from shared.errors import Misconfigured

SEVERITIES: Final = (0.5, 1.0, 2.0, 4.0)
FIT_HOURS: Final = 6.0
SLOT_HOURS: Final = 6.0  # one episode in so many hours, unless counts are given
_SENSOR_FAULT_HOURS: Final = 24.0  # a written data set has one sensor fault in so many hours
_MIN_SLOT_S: Final = 1_800.0
_START_US: Final = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * MICROSECONDS
_RESTART_SETTLE_S: Final = 600.0


def generate(
    kind: str,
    seed: int,
    hours: float,
    interval_s: float = 1.0,
    *,
    faults: int | None = None,
    lookalikes: int | None = None,
    sensor_faults: int = 0,
    fault_names: Sequence[str] | None = None,
    severities: Sequence[float] = SEVERITIES,
    fit_hours: float = FIT_HOURS,
) -> Recording:
    """A healthy FIT part of `fit_hours`, then `hours` with labelled episodes, each in a slot of its own.

    Args:
        kind: Machine type, such as `centrifugal-pump`.
        seed: Same seed and arguments, same recording.
        hours: Length of the part after FIT.
        interval_s: Seconds from row to row.
        faults: How many faults; by default one episode in six hours, half of them faults.
        lookalikes: How many look-alikes; by default as many as faults and sensor faults.
        sensor_faults: How many sensor faults.
        fault_names: Faults to draw from; by default all that this type can have.
        severities: Severities to draw from, in multiples of each sensor's noise sigma.
        fit_hours: Length of the healthy part at the front.

    Raises:
        Misconfigured: Unknown type, or episodes that don't fit into the hours.
        Rejected: A fault that such a machine can't have.
    """
    shape = machine_type(kind)
    random = np.random.default_rng([seed, sorted(MACHINE_TYPES).index(shape.name), 1])
    if faults is None:
        faults = max(1, int(hours / SLOT_HOURS / 2)) if hours > 0 else 0
    names = [str(name) for name in _draw(random, fault_names or tuple(shape.faults), faults)]
    names += [str(name) for name in _draw(random, tuple(SensorFault), sensor_faults)]
    alike = len(names) if lookalikes is None else lookalikes
    names += [str(name) for name in _draw(random, tuple(LookAlike), alike)]
    interval_us = round(interval_s * MICROSECONDS)
    # Another day of the year and hour of the day for each seed: weather and heating differ.
    first = (_START_US + int(random.integers(0, 300 * 24)) * 3600 * MICROSECONDS) // interval_us
    fit_rows = round(fit_hours * 3600 / interval_s)
    rows = round(hours * 3600 / interval_s)
    machine_id = f"{shape.name}-{seed}"
    test_us = (first + fit_rows) * interval_us
    episodes = _place(random, names, shape, (test_us, hours), severities)
    machine = Machine(shape, machine_id, seed=seed, interval_us=interval_us, episodes=episodes)
    values = machine.values(first, fit_rows + rows).copy()
    times_us = machine.times_us(first, fit_rows + rows)
    for episode in episodes:
        if episode.name == SensorFault.CLOCK_SKEW:
            _skew(machine, episode, times_us, values)
    return Recording(
        times_us=times_us,
        sensors=shape.sensor_names,
        values=values,
        labels=tuple(_label(shape, machine_id, episode) for episode in episodes),
        units=tuple(sensor.unit for sensor in shape.sensors),
        columns=shape.sensor_names,
        fit_rows=fit_rows,
    )


def write(recording: Recording, out: Path, name: str) -> tuple[Path, ...]:
    """Write `{name}-fit.csv`, `{name}-test.csv`, `{name}-labels.csv` and `.json` into `out`; returns them.

    The first column is the time (ISO 8601, UTC); empty cells are readings that were not sent.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = ("fit.csv", "test.csv", "labels.csv", "labels.json")
    fit, test, labels_csv, labels_json = paths = tuple(out / f"{name}-{each}" for each in names)
    _write_rows(fit, recording, slice(0, recording.fit_rows))
    _write_rows(test, recording, slice(recording.fit_rows, None))
    truth = [
        {
            "machine": label.machine,
            "kind": label.kind,
            "name": label.name,
            "severity": label.severity,
            "onset": _iso(label.onset_us),
            "end": _iso(label.end_us),
            "sensors": " ".join(label.sensors),
        }
        for label in recording.labels
    ]
    as_lists = [
        row | {"sensors": list(label.sensors)} for row, label in zip(truth, recording.labels, strict=True)
    ]
    labels_json.write_bytes(orjson.dumps(as_lists, option=orjson.OPT_INDENT_2))
    with labels_csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("machine", "kind", "name", "severity", "onset", "end", "sensors"))
        writer.writerows(row.values() for row in truth)
    return paths


def dataset(
    out: Path,
    *,
    hours: float,
    seed: int,
    machines: Sequence[str] = (),
    interval_s: float = 1.0,
    faults: Sequence[str] = (),
) -> tuple[Path, ...]:
    """Write labelled recordings of the machine types (default: all) into `out`; returns the files.

    `faults` restricts which faults are drawn; a type that can have none of them is healthy but for
    its look-alikes. Raises Misconfigured and Rejected as `generate` does.
    """
    if unknown := [name for name in faults if name not in tuple(Fault)]:
        raise Misconfigured(f"no fault {unknown[0]!r}", hint=f"there are {', '.join(Fault)}")
    written: list[Path] = []
    for kind in machines or tuple(MACHINE_TYPES):
        shape = machine_type(kind)
        able = tuple(shape.faults)
        chosen = tuple(name for name in faults if name in able) if faults else able
        broken = int(hours / _SENSOR_FAULT_HOURS)
        recording = (
            generate(kind, seed, hours, interval_s, fault_names=chosen, sensor_faults=broken)
            if chosen
            else generate(kind, seed, hours, interval_s, faults=0, lookalikes=1)
        )
        written += write(recording, out, shape.name)
    return tuple(written)


def _draw(random: np.random.Generator, names: Sequence[str], count: int) -> list[str]:
    """`count` names, each as often as the others: whole shuffles one after the other."""
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += [names[index] for index in random.permutation(len(names))]
    return drawn[:count]


def _place(
    random: np.random.Generator,
    names: list[str],
    kind: MachineType,
    part: tuple[int, float],
    severities: Sequence[float],
) -> tuple[Episode, ...]:
    """Shuffle the episodes over equal slots of `part` (start in µs, hours), with jittered onset, length and ramp."""
    start_us, hours = part
    if not names:
        return ()
    slot_s = hours * 3600 / len(names)
    if slot_s < _MIN_SLOT_S:
        raise Misconfigured(
            f"{len(names)} episodes don't fit into {hours:g} h", hint="give each at least half an hour"
        )
    ladder = _draw(random, [str(severity) for severity in severities], len(names))
    episodes = []
    for slot, index in enumerate(random.permutation(len(names)).tolist()):
        name = names[index]
        length_s = min(slot_s * float(random.uniform(0.35, 0.5)), 2 * 3600.0)
        if name == LookAlike.RESTART:
            length_s = min(length_s, float(random.uniform(180.0, 420.0)))
        # A quarter of the slot stays healthy after the end, so that its tail touches nothing else.
        onset_s = slot * slot_s + float(random.uniform(0.05, 0.25)) * slot_s
        ramp_s = float(random.uniform(0.05, 0.25)) * length_s
        sensor = None
        if name in tuple(SensorFault):
            responses = [s for s in kind.sensor_names if s != kind.operating_sensor]
            sensor = responses[int(random.integers(len(responses)))]
        onset_us = start_us + round(onset_s) * MICROSECONDS
        end_us = onset_us + round(length_s) * MICROSECONDS
        episodes.append(Episode(name, float(ladder[index]), onset_us, end_us, ramp_s, sensor))
    return tuple(episodes)


def _label(kind: MachineType, machine: str, episode: Episode) -> Label:
    end_us = episode.end_us or episode.onset_us
    if episode.name == LookAlike.RESTART:
        end_us += round(_RESTART_SETTLE_S * MICROSECONDS)
    return Label(
        machine=machine,
        kind=episode.kind,
        name=episode.name,
        severity=episode.severity,
        onset_us=episode.onset_us,
        end_us=end_us,
        sensors=kind.first_sensors(episode.name, episode.sensor),
    )


def _skew(
    machine: Machine, episode: Episode, times_us: NDArray[np.int64], values: NDArray[np.float64]
) -> None:
    """A clock that runs late by d stamps the value of t + d with t: the column leads by d."""
    rows = np.flatnonzero(episode.active(times_us / MICROSECONDS))
    if not len(rows):
        return
    column = machine.kind.sensor_names.index(episode.sensor or machine.kind.default_sensor)
    ahead = round(episode.delay_s() * MICROSECONDS / machine.interval_us)
    first = int(times_us[rows[0]]) // machine.interval_us + ahead
    values[rows, column] = machine.values(first, len(rows))[:, column]


def _write_rows(path: Path, recording: Recording, part: slice) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("time", *recording.sensors))
        for time_us, row in zip(
            recording.times_us[part].tolist(), recording.values[part].tolist(), strict=True
        ):
            writer.writerow((_iso(time_us), *("" if value != value else value for value in row)))  # noqa: PLR0124


def _iso(time_us: int) -> str:
    moment = datetime.fromtimestamp(time_us // MICROSECONDS, tz=UTC)
    return moment.replace(microsecond=time_us % MICROSECONDS).isoformat().replace("+00:00", "Z")
