"""Window PCA, the autoencoder and the better of them (what training delivers) on simulated machines, beside floors.

A fault counts as found if an episode (m of n alarming windows) starts while it lasts. Every episode that starts
elsewhere is false, whatever look-alike was on. Ten minutes after an episode's end still belong to it.

The demonstration's own conditions: `--fit-hours 6 --interval 1 --hours 24 --faults 12 --strong`.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from cloud.training.candidates import fit_candidates
from cloud.training.logic import Config, Recording, fit
from cloud.training.trained import Trained
from firmware_sim.dataset import SEVERITIES, generate
from firmware_sim.machines import MACHINE_TYPES
from firmware_sim.readings import Label
from firmware_sim.readings import Recording as Simulated
from shared.artifact import unpack
from shared.grid import grid_frame
from shared.onnxruntime import Scorer
from shared.persistence import episodes

WEEK_HOURS = 168.0
FIT_HOURS = 24.0
INTERVAL_S = 10.0
STRONG = 2.0  # sigma
TAIL_US = 600_000_000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """A method's answer on the part after FIT: scores over the limit (NaN = unscored), leading sensor a window ("" = none named)."""

    times_us: NDArray[np.int64]
    ratio: Array
    leading: tuple[str, ...]


@dataclass
class Tally:
    """Counts of one method on one machine type."""

    weeks: float = 0.0
    strong: int = 0
    found: int = 0
    weak: int = 0
    weak_found: int = 0
    right: int = 0
    chance: float = 0.0
    false: Counter[str] = field(default_factory=Counter)

    @property
    def detection(self) -> float:
        """Share of the faults of at least two sigma that were found."""
        return self.found / max(self.strong, 1)

    @property
    def false_week(self) -> float:
        """False episodes a machine-week."""
        return self.false.total() / max(self.weeks, 1e-9)

    def add(self, other: "Tally") -> None:
        """Pool with another tally."""
        for name in ("weeks", "strong", "found", "weak", "weak_found", "right", "chance"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.false.update(other.false)


def window_pca(recording: Simulated, kind: str) -> Scored:
    """Through artifact, grid and scorer, as on an edge."""
    data = fit(
        _known(recording),
        machine="m",
        machine_type=kind,
        now_us=0,
        operating_sensor=MACHINE_TYPES[kind].operating_sensor,
    )
    return _scored(recording, data)


def autoencoder(recording: Simulated, kind: str) -> Scored:
    """The same of the convolutional autoencoder."""
    return _scored(recording, _trained(recording, kind).candidates[-1].artifact)


def better(recording: Simulated, kind: str) -> Scored:
    """The same of whichever training would deliver."""
    return _scored(recording, _trained(recording, kind).chosen.artifact)


_LAST: dict[int, Trained] = {}


def _trained(recording: Simulated, kind: str) -> Trained:
    """Both models, fitted once a recording."""
    if id(recording) not in _LAST:
        _LAST.clear()
        _LAST[id(recording)] = fit_candidates(
            _known(recording),
            machine="m",
            machine_type=kind,
            now_us=0,
            operating_sensor=MACHINE_TYPES[kind].operating_sensor,
        )
    return _LAST[id(recording)]


def _known(recording: Simulated) -> Recording:
    rows = recording.fit_rows
    return Recording(recording.times_us[:rows], recording.sensors, recording.units, recording.values[:rows])


def _scored(recording: Simulated, data: bytes) -> Scored:
    scorer = Scorer(unpack(data))
    rows = recording.fit_rows
    spec = scorer.manifest.grid_spec()
    begin = rows - 3 * spec.window
    cells = grid_frame(spec, recording.times_us[begin:], recording.values[begin:])
    ratio = np.full(len(cells), np.nan)
    leading = np.zeros(len(cells), dtype=np.int64)
    at = 0
    for windows in cells.windows(chunk=512):
        scores = scorer.score(windows.values)
        ratio[at : at + len(windows)] = np.where(windows.scorable, scores.score / scores.limit, np.nan)
        leading[at : at + len(windows)] = scores.contributions.argmax(axis=1)
        at += len(windows)
    after = cells.times_us > recording.times_us[rows - 1]
    names = tuple(recording.sensors[index] for index in leading[after].tolist())
    return Scored(cells.times_us[after], ratio[after], names)


def forest(recording: Simulated, kind: str) -> Scored:
    """Isolation forest on rows, limit at the 99.5 % quantile of FIT."""
    del kind
    rows = recording.fit_rows
    filled = np.nan_to_num(recording.values, nan=0.0)
    model = IsolationForest(n_estimators=100, random_state=0).fit(filled[:rows])
    scores = -model.score_samples(filled)
    ratio = np.asarray(scores[rows:] / np.quantile(scores[:rows], 0.995), dtype=np.float64)
    return Scored(recording.times_us[rows:], ratio, ("",) * len(ratio))


def chance(recording: Simulated, kind: str) -> Scored:
    """Uniform scores that alarm on half a per cent of the rows."""
    del kind
    rows = recording.fit_rows
    count = len(recording.times_us) - rows
    ratio: Array = np.random.default_rng(rows).random(count) / 0.995
    return Scored(recording.times_us[rows:], ratio, ("",) * count)


METHODS: dict[str, Callable[[Simulated, str], Scored]] = {
    "window PCA": window_pca,
    "autoencoder": autoencoder,
    "better": better,
    "IForest": forest,
    "random": chance,
}


def judge(recording: Simulated, scored: Scored) -> Tally:
    """Match a method's episodes with what happened."""
    budget = Config().budget
    tally = Tally(weeks=float(scored.times_us[-1] - scored.times_us[0]) / 3.6e9 / WEEK_HOURS)
    alarms = [None if np.isnan(value) else bool(value > 1.0) for value in scored.ratio]
    onsets = [at for at, _ in episodes(scored.times_us.tolist(), alarms, budget.m, budget.n)]
    place = {at: index for index, at in enumerate(scored.times_us.tolist())}
    for label in recording.labels:
        if label.kind != "fault":
            continue
        first = next((at for at in onsets if _during(label, at)), None)
        if label.severity < STRONG:
            tally.weak += 1
            tally.weak_found += first is not None
            continue
        tally.strong += 1
        if first is not None:
            tally.found += 1
            tally.right += scored.leading[place[first]] in label.sensors
            tally.chance += len(label.sensors) / len(recording.sensors)
    for at in onsets:
        during = [label for label in recording.labels if _during(label, at)]
        if not any(label.kind != "look-alike" for label in during):
            tally.false[during[0].name if during else "nothing"] += 1
    return tally


def _during(label: Label, at: int) -> bool:
    return label.onset_us <= at <= label.end_us + TAIL_US


@dataclass(frozen=True)
class Regime:
    """What is simulated: hours of FIT, seconds between rows, hours after FIT, and faults in these (None = usual)."""

    fit_hours: float = FIT_HOURS
    interval_s: float = INTERVAL_S
    hours: float = WEEK_HOURS
    faults: int | None = None
    severities: tuple[float, ...] = SEVERITIES


def run(
    seeds: Sequence[int], kinds: Sequence[str], methods: Sequence[str], regime: Regime | None = None
) -> dict[tuple[str, str], Tally]:
    """One recording a seed and machine type, by default of a week; tallies by (method, type)."""
    regime = regime or Regime()
    tallies: dict[tuple[str, str], Tally] = {}
    for kind in kinds:
        for seed in seeds:
            recording = generate(
                kind,
                seed,
                regime.hours,
                regime.interval_s,
                faults=regime.faults,
                severities=regime.severities,
                fit_hours=regime.fit_hours,
            )
            for method in methods:
                tallies.setdefault((method, kind), Tally()).add(
                    judge(recording, METHODS[method](recording, kind))
                )
    return tallies


def pooled(tallies: dict[tuple[str, str], Tally], method: str) -> Tally:
    """All machine types together."""
    whole = Tally()
    for (name, _), tally in tallies.items():
        if name == method:
            whole.add(tally)
    return whole


def _line(method: str, kind: str, tally: Tally) -> str:
    causes = ", ".join(f"{name} {count}" for name, count in tally.false.most_common()) or "-"
    right = "   -       "
    if tally.right:
        right = f"{tally.right / tally.found:4.2f} ({tally.chance / tally.found:4.2f})"
    return (
        f"{method:11} {kind:18} {tally.weeks:5.1f} {tally.found:3}/{tally.strong:<3} {tally.detection:5.2f} "
        f"{tally.weak_found:3}/{tally.weak:<3} {right} {tally.false_week:7.2f}  {causes}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=2, help="weeks a machine type")
    parser.add_argument("--seed", type=int, default=100, help="seed of the first week")
    parser.add_argument("--fit-hours", type=float, default=FIT_HOURS, help="hours of FIT")
    parser.add_argument("--interval", type=float, default=INTERVAL_S, help="seconds from row to row")
    parser.add_argument("--hours", type=float, default=WEEK_HOURS, help="hours after FIT")
    parser.add_argument(
        "--faults", type=int, default=None, help="faults in these hours, and as many look-alikes"
    )
    parser.add_argument("--strong", action="store_true", help="only faults of 2 and 4 sigma")
    parser.add_argument("--method", action="append", choices=tuple(METHODS), help="default: all")
    given = parser.parse_args()
    methods = tuple(given.method or METHODS)
    regime = Regime(
        given.fit_hours,
        given.interval,
        given.hours,
        given.faults,
        tuple(each for each in SEVERITIES if each >= STRONG) if given.strong else SEVERITIES,
    )
    tallies = run(range(given.seed, given.seed + given.weeks), tuple(MACHINE_TYPES), methods, regime)
    print(
        f"simulated weeks of {given.hours:g} h after {given.fit_hours:g} h of FIT, a row every {given.interval:g} s, "
        f"configuration {Config().sha256()[:12]}"
    )
    print("method      type               weeks  >= 2 sigma     < 2    top-1 (chance) false/week by cause")
    for (method, kind), tally in sorted(tallies.items()):
        print(_line(method, kind, tally))
    for method in methods:
        print(_line(method, "all", pooled(tallies, method)))


if __name__ == "__main__":
    main()
