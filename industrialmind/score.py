"""`industrialmind score`: fit on one file, score another, through the edge's own grid and scorer.

A row's score is that of the window that had closed when the row came, so that no score ever depends on later rows.
"""

import csv
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cloud.training.logic import WINDOWS_MIN, Config, Recording, choose_step, fit
from industrialmind.table import Table, microseconds, read_table, second
from shared.artifact import unpack
from shared.clock import MICROSECONDS, Clock, SystemClock
from shared.errors import Misconfigured, Rejected
from shared.grid import grid_frame
from shared.manifest import Manifest
from shared.names import slug
from shared.onnxruntime import Scorer, check_machine
from shared.windows import Floats, GridSpec, Ints

KNOWN_SHARE: Final = 0.5  # of the cells of FIT: a sensor that is known less often can't be learnt


Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ScoreReport:
    """What `run_score` did."""

    rows: int
    scored: int
    alarms: int
    limit: float
    provisional: bool
    window: int
    step: str
    sensors: int
    unlearnt: tuple[str, ...]
    version_hash: str
    out: str
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        kind = "provisional limit" if self.provisional else "limit"
        lines = [
            f"{self.rows} rows, {self.scored} scored, {self.alarms} alarms at {kind} {self.limit:.4g} -> {self.out}",
            f"model {self.version_hash[:12]}: {self.sensors} sensors, windows of {self.window} cells of {self.step}",
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class RowScores:
    """A score a row: NaN, no alarm and NaN contributions where the row's window could not be scored."""

    score: Floats  # [n]
    alarm: Bools
    contributions: Floats  # [n, S]
    manifest: Manifest  # of the sensors that are judged
    version_hash: str
    left_out: tuple[str, ...] = ()  # sensors with too few values in FIT


def run_score(fit_path: Path, test_path: Path, out: Path, *, clock: Clock | None = None) -> ScoreReport:
    """Fit on FIT, score TEST, write OUT: time, score, alarm, then a contribution a sensor; a row a row of TEST.

    Raises:
        Misconfigured: A file is not there or can't be written, or OUT is one of the others.
        Rejected: A file's content can't be used; the message says where and what to do.
    """
    known, asked = read_table(fit_path), read_table(test_path)
    if out.exists() and (out.samefile(fit_path) or out.samefile(test_path)):
        raise Misconfigured(f"{out} is what is read from", hint="give --out another name")
    notes = []
    missing = [name for name in known.sensors if name not in asked.sensors]
    if missing:
        raise Rejected(f"{test_path} lacks the columns {', '.join(missing)[:300]} of {fit_path}")
    extra = [name for name in asked.sensors if name not in known.sensors]
    if extra:
        notes.append(
            f"{test_path.name} has columns that {fit_path.name} lacks, not used: {', '.join(extra)[:300]}"
        )
    if known.numeric != asked.numeric:
        raise Rejected(
            f"the times of {fit_path} and {test_path} differ in kind: one has numbers, the other dates"
        )
    columns = [asked.sensors.index(name) for name in known.sensors]
    factor = second(known)
    result = score_rows(
        known.sensors,
        microseconds(known, factor),
        known.values,
        microseconds(asked, factor),
        asked.values[:, columns],
        machine=slug(fit_path.stem),
        now_us=(clock or SystemClock()).now_us(),
    )
    unlearnt = tuple(each.name for each in result.manifest.sensors if not each.learnt)
    if unlearnt:
        notes.append(f"never moves in {fit_path.name}, so it is not judged: {', '.join(unlearnt)[:300]}")
    if result.left_out:
        notes.append(
            f"has too few values in {fit_path.name}, so it is not judged: {', '.join(result.left_out)[:300]}"
        )
    if blind := int(np.isnan(result.score).sum()):
        notes.append(f"{blind} rows are not scored: values are missing there or just before")
    _write(out, asked, known, result)
    step = result.manifest.grid.step_us / factor
    return ScoreReport(
        rows=len(result.score),
        scored=int(np.isfinite(result.score).sum()),
        alarms=int(result.alarm.sum()),
        limit=result.manifest.limit,
        provisional=result.manifest.provisional,
        window=result.manifest.grid.window,
        step=f"{step:g}" if known.numeric else f"{step / MICROSECONDS:g} s",
        sensors=len(known.sensors),
        unlearnt=(*unlearnt, *result.left_out),
        version_hash=result.version_hash,
        out=str(out),
        notes=tuple(notes),
    )


def score_rows(
    sensors: tuple[str, ...],
    fit_us: Ints,
    fit_values: Floats,
    test_us: Ints,
    test_values: Floats,
    *,
    machine: str = "recording",
    now_us: int = 0,
    config: Config | None = None,
    seed: int = 0,
) -> RowScores:
    """Fit on one recording's rows and score another's, row by row.

    A sensor with too few values in FIT is left out, and contributes nothing.

    Args:
        sensors: Names of the S columns.
        fit_us: int64[m], event times of healthy rows.
        fit_values: float64[m, S].
        test_us: int64[n], event times of the rows to score.
        test_values: float64[n, S].
        machine: Id for the manifest.
        now_us: When this is, for the manifest.
        config: What a person may turn.
        seed: Of whatever the models draw; the same seed gives the same scores.
    """
    config = config or Config()
    told = _told(fit_us, fit_values, config)
    if not told.all():
        names = tuple(name for name, kept in zip(sensors, told.tolist(), strict=True) if kept)
        made = score_rows(
            names,
            fit_us,
            fit_values[:, told],
            test_us,
            test_values[:, told],
            machine=machine,
            now_us=now_us,
            config=config,
            seed=seed,
        )
        return _widened(made, sensors, told)
    units = ("",) * len(sensors)
    step = choose_step(Recording(fit_us, sensors, units, fit_values), config.mask_limit)
    # Rows come with a phase of their own; cells end where the first row lies.
    aligned = Recording(fit_us - int(fit_us.min()), sensors, units, fit_values)
    data = fit(
        aligned,
        machine=machine,
        machine_type="recording",
        now_us=now_us,
        seed=seed,
        config=config,
        step_us=step,
    )
    artifact = unpack(data)
    scorer = Scorer(artifact)
    scorer.self_test()
    spec = artifact.manifest.grid_spec()
    distinct = np.unique(test_us)
    if len(distinct) > 1:
        check_machine(artifact.manifest, dict.fromkeys(sensors, ""), int(np.median(np.diff(distinct))))

    begin = int(test_us.min())
    times = test_us - begin
    tail = fit_us > int(fit_us.max()) - (spec.reach + 1) * step
    before = fit_us[tail] - begin
    if not -(spec.max_age + 1) * step <= int(before.max()) < 0:
        before = before - int(before.max()) - step  # as if TEST had followed at once
    cells = grid_frame(spec, np.concatenate([before, times]), np.concatenate([fit_values[tail], test_values]))
    # The last cell that had closed when the row came; where the grid had stopped there is none.
    place = np.maximum(np.searchsorted(cells.times_us, times, side="right") - 1, 0)
    found = cells.times_us[place] == times // step * step

    score = np.full(len(cells), np.nan)
    alarm = np.zeros(len(cells), dtype=np.bool_)
    contributions = np.full((len(cells), len(sensors)), np.nan)
    at = int(np.searchsorted(cells.times_us, 0))
    for windows in cells.windows(at):
        ready = np.flatnonzero(windows.scorable)
        if len(ready):
            scores = scorer.score(windows.values[ready])
            score[at + ready], alarm[at + ready] = scores.score, scores.alarm
            contributions[at + ready] = scores.contributions
        at += len(windows)
    blank = np.where(found, 1.0, np.nan)
    return RowScores(
        score[place] * blank,
        alarm[place] & found,
        contributions[place] * blank[:, None],
        artifact.manifest,
        artifact.version_hash,
    )


def _told(fit_us: Ints, fit_values: Floats, config: Config) -> Bools:
    """bool[S], the sensors whose values can be learnt; all of them where none can, for whoever says so.

    A sensor needs as many values as the windows that training asks for have cells, else its own slow step would leave
    too few windows for all; and it must be known in half of the cells.
    """
    there = np.isfinite(fit_values)
    everyone = np.ones(there.shape[1], dtype=np.bool_)
    if there.all():
        return everyone
    enough = np.flatnonzero(there.sum(axis=0) >= (WINDOWS_MIN + 1) * config.window)
    if not len(enough):
        return everyone
    names = tuple(map(str, enough.tolist()))
    rows = Recording(fit_us, names, ("",) * len(names), fit_values[:, enough])
    step = choose_step(rows, config.mask_limit)
    spec = GridSpec(names, step, config.window, config.max_age, config.lateness, config.mask_limit)
    share = np.isfinite(grid_frame(spec, fit_us, rows.values).cells).mean(axis=0)
    kept = enough[share >= KNOWN_SHARE]
    return np.isin(np.arange(len(everyone)), kept) if len(kept) else everyone


def _widened(made: RowScores, sensors: tuple[str, ...], told: Bools) -> RowScores:
    """With the sensors that were left out, which contribute nothing."""
    shares = np.zeros((len(made.score), len(sensors)))
    shares[np.isnan(made.score)] = np.nan
    shares[:, told] = made.contributions
    left_out = tuple(name for name, kept in zip(sensors, told.tolist(), strict=True) if not kept)
    return replace(made, contributions=shares, left_out=(*left_out, *made.left_out))


def _write(out: Path, asked: Table, known: Table, result: RowScores) -> None:
    order = [known.sensors.index(name) for name in asked.sensors if name in known.sensors]
    header = ["time", "score", "alarm", *(known.sensors[at] for at in order)]
    shares = result.contributions[:, order]
    part = out.with_name(out.name + ".part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            rows = zip(
                asked.labels, result.score.tolist(), result.alarm.tolist(), shares.tolist(), strict=True
            )
            for label, score, alarm, row in rows:
                if np.isnan(score):
                    writer.writerow([label, "", 0, *("" for _ in row)])
                else:
                    writer.writerow([label, f"{score:.9g}", int(alarm), *(f"{share:.7g}" for share in row)])
        os.replace(part, out)  # noqa: PTH105 - a crash leaves the old file or the new one, never half
    except OSError as error:
        raise Misconfigured(
            f"{out} can't be written: {error.strerror}", hint="give a path in a folder that exists"
        ) from error
