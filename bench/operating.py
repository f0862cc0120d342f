"""How often a machine goes unwatched because it leaves the operating range that its history taught, and what is found.

The demonstration's regime: a row a second, hours of history, the pump that its fault is put into. Each seed's models are
scored by three rules over the same rows: no range at all, the range as it was before it had a margin (the history's least
and largest value and three widths of noise, left by one cell), and the range that training delivers.

    PYTHONPATH=. python bench/operating.py --seeds 20 --write-docs
"""

import argparse
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from bench.judge.page import PAGE
from bench.peers.docs import keep
from cloud.training.logic import Config, Recording
from cloud.training.logic import fit as fit_model
from cloud.training.pca import fit_scale
from firmware_sim.episodes import Episode
from firmware_sim.machine import Machine
from firmware_sim.machines import MACHINE_TYPES
from firmware_sim.machines.pump import PUMP
from industrialmind.story import FAULT
from shared.artifact import unpack
from shared.clock import MICROSECONDS
from shared.grid import grid_frame
from shared.onnxruntime import Scorer
from shared.persistence import episodes
from shared.windows import Floats, GridSpec, Ints, Operating

STEP_US: Final = MICROSECONDS
FIRST_S: Final = 1_704_067_200  # 2024-01-01
DAYS: Final = 365
EVERY_S: Final = 2700
LASTS_S: Final = 900
ROUNDS: Final = 4
WATCHED_S: Final = 24 * 3600
RULES: Final = ("no range", "as it was", "with a margin")
TRAIN_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True)
class Scene:
    """Something that happens `ROUNDS` times. `sensor`: of the set-point's own transmitter."""

    name: str
    severity: float
    ramp_s: float = 20.0
    sensor: str | None = None
    lasts_s: int = LASTS_S

    def episodes(self, begin_us: int) -> list[Episode]:
        """From `begin_us` on."""
        at = [begin_us + (EVERY_S * n + EVERY_S - LASTS_S) * MICROSECONDS for n in range(ROUNDS)]
        return [
            Episode(self.name, self.severity, on, on + self.lasts_s * MICROSECONDS, self.ramp_s, self.sensor)
            for on in at
        ]


OWN: Final = PUMP.operating_sensor
FAULTS: Final = {
    "the demonstration's fault": Scene(FAULT["fault"], FAULT["severity"], FAULT["ramp_s"]),
    "spikes of its sensor, 240 sigma": Scene("spike", 80.0, sensor=OWN),
    "its sensor drifts by 30 sigma": Scene(
        "drift", 60.0, sensor=OWN
    ),  # half way, for it would take half an hour
    "its sensor is stuck": Scene("stuck", 1.0, sensor=OWN),
}
HEALTHY: Final = {
    "standstill of 5 min": Scene("restart", 1.0, lasts_s=300),
    "set-points 16 % lower": Scene("new-product", 8.0),
    "set-points 6 % lower": Scene("new-product", 3.0),
}


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted model of the pump, and the grid by each rule."""

    scorer: Scorer
    grids: Mapping[str, GridSpec]


def machine_of(kind: str, seed: int, changes: Sequence[Episode] = ()) -> Machine:
    """A machine of its own name, so that its phases are its own."""
    return Machine(MACHINE_TYPES[kind], f"{kind}-{seed}", seed=seed, interval_us=STEP_US, episodes=changes)


def begin_of(seed: int) -> int:
    """Any second of a year."""
    return FIRST_S + int(np.random.default_rng([seed, 41]).integers(DAYS * 86_400))


def fit(kind: str, seed: int, hours: float) -> Model:
    """Trained on the hours before `begin_of(seed)`."""
    machine, rows = machine_of(kind, seed), round(hours * 3600)
    first = begin_of(seed) - rows
    names, times = machine.kind.sensor_names, machine.times_us(first, rows)
    history = Recording(
        times, names, tuple(s.unit for s in machine.kind.sensors), machine.values(first, rows)
    )
    data = fit_model(
        history,
        machine="m",
        machine_type=kind,
        now_us=int(times[-1]),
        config=replace(Config(), window=64),
        step_us=STEP_US,
        operating_sensor=machine.kind.operating_sensor,
    )
    scorer = Scorer(unpack(data))
    scorer.self_test()
    delivered = scorer.manifest.grid_spec()
    before = before_margins(history.values, machine.kind.operating_sensor, delivered)
    grids = [replace(delivered, operating=None), replace(delivered, operating=before), delivered]
    return Model(scorer, dict(zip(RULES, grids, strict=True)))


def before_margins(values: Floats, sensor: str, spec: GridSpec) -> Operating:
    """The range as it was taught before it had a margin."""
    point = values[:, spec.sensors.index(sensor)]
    cut = int(len(point) * TRAIN_SHARE)
    noise = 3.0 / float(fit_scale(point[:cut, None]).inverse[0])
    return Operating(sensor, float(point.min()) - noise, float(point.max()) + noise, spec.settle)


def silent(kind: str, seed: int, hours: float) -> dict[str, float]:
    """Share of a healthy day's windows that are not scored, by rule."""
    model, machine = fit(kind, seed, hours), machine_of(kind, seed)
    rows, first = WATCHED_S, begin_of(seed)
    times, values = machine.times_us(first, rows), machine.values(first, rows)
    shares = {}
    for rule, spec in model.grids.items():
        known = grid_frame(spec, times, values).known
        shares[rule] = float(1 - known[spec.window :].mean())
    return shares


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rule made of a scene.

    Attributes:
        found: How many of its rounds an anomaly began in.
        others: Anomalies that began besides.
        blind: How many rounds nothing was scored at the onset of.
        scored: The share of the rounds' windows that was scored.
    """

    found: int
    others: int
    blind: int
    scored: float


def watch(model: Model, kind: str, seed: int, scene: Scene) -> dict[str, Seen]:
    """A scene's rounds, by rule."""
    begin = begin_of(seed)
    happens = scene.episodes(begin * MICROSECONDS)
    machine, rows = machine_of(kind, seed, happens), ROUNDS * EVERY_S
    times, values = machine.times_us(begin, rows), machine.values(begin, rows)
    cells = grid_frame(model.grids[RULES[0]], times, values)
    scores = [model.scorer.score(each.values) for each in cells.windows(chunk=2048)]
    alarm = np.concatenate([each.alarm for each in scores])
    level = np.concatenate([each.score for each in scores]) / scores[0].limit
    found = {}
    for rule, spec in model.grids.items():
        grid = grid_frame(spec, times, values)
        ready = np.concatenate([each.scorable for each in grid.windows()])
        found[rule] = _seen(model, cells.times_us, alarm, level, ready, happens)
    return found


def _seen(
    model: Model, times: Ints, alarm: Floats, level: Floats, ready: Floats, happens: Sequence[Episode]
) -> Seen:
    rule = model.scorer.manifest.calibration
    pairs = list(zip(alarm.tolist(), level.tolist(), ready.tolist(), strict=True))
    began = episodes(
        times.tolist(),
        [on if there else None for on, _, there in pairs],
        rule.persistence_m,
        rule.persistence_n,
        clear=rule.calm_windows,
        calm=[low <= rule.calm_level if there else None for _, low, there in pairs],
    )
    onsets = np.array([at for at, _ in began], np.int64)
    spans = [(each.onset_us, each.end_us or each.onset_us) for each in happens]
    hit = [bool(((onsets >= a) & (onsets < b)).any()) for a, b in spans]
    inside = np.zeros(len(onsets), np.bool_)
    during = np.zeros(len(times), np.bool_)
    for a, b in spans:
        inside |= (onsets >= a) & (onsets < b)
        during |= (times >= a) & (times < b)
    blind = sum(not ready[np.searchsorted(times, a)] for a, _ in spans)
    return Seen(sum(hit), int((~inside).sum()), blind, float(ready[during].mean()))


def silence(hours: Sequence[float], seeds: Sequence[int]) -> str:
    """The table of healthy days."""
    lines = ["| | history | as it was: silent | machines that were | with a margin | machines that were |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
    for kind in MACHINE_TYPES:
        for each in hours:
            shares = [silent(kind, seed, each) for seed in seeds]
            cells = [f"{kind}", f"{each:g} h"]
            for rule in RULES[1:]:
                one = np.array([share[rule] for share in shares])
                cells += [f"{one.mean():.2%} (most {one.max():.1%})", f"{int((one > 0).sum())} of {len(one)}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def scenes(hours: Sequence[float], seeds: Sequence[int]) -> str:
    """The table of what happens to the pump."""
    lines = [f"| history | of {ROUNDS * len(seeds)} | {' | '.join(RULES)} |", "| --- | --- |" + " ---: |" * 3]
    for each in hours:
        told: dict[str, dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
        for seed in seeds:
            model = fit(PUMP.name, seed, each)
            for name, scene in {**FAULTS, **HEALTHY}.items():
                for rule, seen in watch(model, PUMP.name, seed, scene).items():
                    told[name][rule].append(seen)
        for name, by_rule in told.items():
            cells = []
            for rule in RULES:
                found, others, blind = (
                    sum(getattr(one, of) for one in by_rule[rule]) for of in ("found", "others", "blind")
                )
                scored = np.mean([one.scored for one in by_rule[rule]])
                word = "found" if name in FAULTS else "false"
                cells.append(f"{found} {word}, {others} besides; {blind} blind; {scored:.0%} scored")
            lines.append(f"| {each:g} h | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, help="seed of the first machine, to repeat a run; else drawn")
    parser.add_argument("--hours", type=float, nargs="+", default=[3.0, 6.0])
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/benchmarks.md")
    given = parser.parse_args()
    first = secrets.randbelow(2**31) if given.first is None else given.first
    seeds = range(first, first + given.seeds)
    text = f"Seeds {first} to {seeds[-1]}.\n\n{silence(given.hours, seeds)}\n\n{scenes(given.hours, seeds)}"
    print(text, flush=True)
    if given.write_docs:
        keep("OPERATING", text, PAGE)


if __name__ == "__main__":
    main()
