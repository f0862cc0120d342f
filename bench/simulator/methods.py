"""What is judged on simulated machines: every model that training fits, what it delivers, and floors of the same run.

Models go the way to an edge: packed, unpacked, self-tested, then the grid, the operating range, the graph by the runtime and the persistence that the
manifest names, only that whole recordings pass at once. A floor's rows go through the same persistence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.judge import methods as floors
from bench.simulator.faults import Simulated
from cloud.training.candidates import fit_candidates
from cloud.training.datasets.run import Bools, Run
from cloud.training.limits import Budget
from cloud.training.logic import Config
from cloud.training.recording import Recording
from shared.artifact import unpack
from shared.grid import grid_frame
from shared.onnxruntime import Scorer, check_machine
from shared.persistence import CALM_LEVEL, calm_windows, episodes
from shared.windows import Ints

CHUNK: Final = 512
DELIVERED: Final = "**delivered**"
FLOORS: Final = ("always", "random", "PCA", "IForest")
MULTIPLIERS: Final = (1.5, 2.0, 3.0)
"""PCA at so many times its limit too: whether the set is easy for it must not hang on where its limit lies."""


@dataclass(frozen=True, slots=True)
class Onset:
    """An episode began, and the sensor that leads it ("" where the method names none)."""

    time_us: int
    leading: str


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method says of one machine after FIT.

    Attributes:
        method: Its name; for what is delivered, `about` says which model that is.
        onsets: Episodes in order of time.
        scored: Share of the windows that were scored.
        about: What the method says of itself.
    """

    method: str
    onsets: tuple[Onset, ...]
    scored: float
    about: str = ""


def answers(machine: Simulated, seed: int) -> Iterator[Answer]:
    """Every method's, floors first."""
    run = _run(machine)
    for name in FLOORS:
        found = floors.FLOORS[name](run, seed)
        yield _floor(name, found, 1.0)
        if name == "PCA":
            for times in MULTIPLIERS:
                yield _floor(f"PCA, limit x {times:g}", found, times)
    trained = fit_candidates(
        known(machine),
        machine=machine.name,
        machine_type=machine.kind.name,
        now_us=int(machine.times_us[machine.fit_rows]),
        seed=seed,
        operating_sensor=machine.kind.operating_sensor,
    )
    models = [_model(each.method, machine, each.artifact) for each in trained.candidates]
    yield from models
    best = models[trained.best]
    yield Answer(DELIVERED, best.onsets, best.scored, best.method)


def known(machine: Simulated) -> Recording:
    """What a model may see of a machine."""
    rows = slice(machine.fit_rows)
    units = tuple(sensor.unit for sensor in machine.kind.sensors)
    return Recording(machine.times_us[rows], machine.kind.sensor_names, units, machine.values[rows])


def _model(name: str, machine: Simulated, data: bytes) -> Answer:
    onsets, scored = score(machine, data)
    return Answer(name, onsets, scored)


def score(machine: Simulated, data: bytes) -> tuple[tuple[Onset, ...], float]:
    """An artifact's episodes on a machine after FIT, and the share of windows that it scored."""
    scorer = Scorer(unpack(data))
    scorer.self_test()
    manifest = scorer.manifest
    interval_us = int(machine.times_us[1] - machine.times_us[0])
    check_machine(manifest, {each.name: each.unit for each in machine.kind.sensors}, interval_us)
    spec = manifest.grid_spec()
    begin = max(machine.fit_rows - spec.reach - 1, 0)
    cells = grid_frame(spec, machine.times_us[begin:], machine.values[begin:])
    alarms: list[bool | None] = []
    calm: list[bool | None] = []
    leading: list[str] = []
    for windows in cells.windows(chunk=CHUNK):
        ready = np.flatnonzero(windows.scorable)
        alarm: list[bool | None] = [None] * len(windows)
        quiet: list[bool | None] = [None] * len(windows)
        lead = [""] * len(windows)
        if len(ready):
            scores = scorer.score(windows.values[ready])
            first = scores.contributions.argmax(axis=1).tolist()
            below = (scores.score <= scores.limit * manifest.calibration.calm_level).tolist()
            for place, on, low, sensor in zip(
                ready.tolist(), scores.alarm.tolist(), below, first, strict=True
            ):
                alarm[place], quiet[place], lead[place] = on, low, manifest.sensor_names[sensor]
        alarms += alarm
        calm += quiet
        leading += lead
    after = cells.times_us > machine.times_us[machine.fit_rows - 1]
    at = int(np.argmax(after))
    rule = manifest.calibration
    found = episodes(
        cells.times_us[at:].tolist(),
        alarms[at:],
        rule.persistence_m,
        rule.persistence_n,
        clear=rule.calm_windows,
        calm=calm[at:],
    )
    onsets = _led(cells.times_us[at:], found, leading[at:])
    return onsets, float(np.mean([each is not None for each in alarms[at:]]))


def _led(
    times_us: Ints, found: Sequence[tuple[int, int | None]], leading: Sequence[str]
) -> tuple[Onset, ...]:
    place = {at: index for index, at in enumerate(times_us.tolist())}
    return tuple(Onset(at, leading[place[at]]) for at, _ in found)


def _run(machine: Simulated) -> Run:
    rows = machine.fit_rows
    times = machine.times_us[rows:]
    anomaly: Bools = np.zeros(len(times), dtype=np.bool_)
    for label in machine.labels:
        if label.kind == "fault":
            anomaly |= (times >= label.onset_us) & (times < label.end_us)
    return Run(
        machine.name,
        machine.kind.sensor_names,
        machine.times_us[:rows],
        machine.values[:rows],
        times,
        machine.values[rows:],
        anomaly,
    )


def _floor(name: str, found: floors.Scored, times: float) -> Answer:
    ratio = found.ratio / times
    budget = Budget()
    starts = episodes(
        found.run.test_us.tolist(),
        (ratio > 1.0).tolist(),
        budget.m,
        budget.n,
        clear=calm_windows(Config().window, budget.n),
        calm=(ratio <= CALM_LEVEL).tolist(),
    )
    return Answer(name, _led(found.run.test_us, starts, [""] * len(ratio)), 1.0)
