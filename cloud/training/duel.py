"""Replays champion and challenger over the same rows, and lays the same synthetic faults before both.

Episodes under an alarm that was open and that nobody judged count for neither model: nobody knows whether they were
false. What counts as false is outside of confirmed events, open alarms and bad data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import psutil

from cloud.training.compare import KINDS, SEVERITIES, STRETCH, Fault, lay
from cloud.training.contest import CONFIRMED_MIN, Contest, Cost, Course, Found, Run, found_of, hold
from cloud.training.pca import fit_scale
from cloud.training.recording import LeftOut, Recording
from shared.artifact import unpack
from shared.errors import Rejected
from shared.grid import grid_frame
from shared.onnxruntime import Scorer
from shared.persistence import Persistence, episodes
from shared.windows import Cells, Floats, GridSpec, Ints

PANEL: Final = 48
TIMED: Final = 200
CHUNK: Final = 1024


@dataclass(frozen=True)
class Grounds:
    """What is replayed.

    Attributes:
        recording: Rows of the replay; bad data are left out of it already.
        events: Confirmed failures, as [from, to].
        unknown: Open alarms that nobody judged.
        seed: Of the panel and of the bootstrap.
        confirmed_min: Confirmed failures from which nobody needs to be asked.
        trusted: Whether the rows that the champion was calibrated with are among them, for the most part.
    """

    recording: Recording
    events: Sequence[LeftOut]
    unknown: Sequence[LeftOut]
    seed: int
    trusted: bool = True
    confirmed_min: int = CONFIRMED_MIN


@dataclass(frozen=True)
class Track:
    """A model over a recording: right edges of the windows that it scored, whether each alarms or is calm, and the episodes.

    An episode is its onset and when it was over, None where it lasts.
    """

    times_us: Ints
    alarms: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    calm: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    episodes: tuple[tuple[int, int | None], ...]

    @property
    def onsets_us(self) -> Ints:
        """The episodes'."""
        return np.array([onset for onset, _ in self.episodes], np.int64)


def duel(champion: bytes, challenger: bytes, grounds: Grounds, monotonic: Callable[[], float]) -> Contest:
    """The contest of two artifacts. Raises Rejected (one can't be read, or the recording lacks its sensors)."""
    before = psutil.Process().memory_info().rss
    new = Scorer(unpack(challenger))
    old = Scorer(unpack(champion))
    tracks = [run(scorer, grounds.recording) for scorer in (old, new)]
    cost = Cost(
        _p99_ms(new, grounds.recording, monotonic),
        max(psutil.Process().memory_info().rss - before, 0) / 2**20,
    )
    faults = _panel(grounds, max(old.manifest.grid.step_us, new.manifest.grid.step_us), (old, new))
    found = [_on_panel(scorer, grounds.recording, faults) for scorer in (old, new)]
    begins = np.array([one.from_us for one in grounds.events], np.int64)
    ends = np.array([one.to_us for one in grounds.events], np.int64)
    runs = [
        Run(_false(track, grounds), found_of(track.onsets_us.tolist(), begins, ends), panel)
        for track, panel in zip(tracks, found, strict=True)
    ]
    both = np.intersect1d(tracks[0].times_us, tracks[1].times_us)
    course = Course(
        both, new.manifest.grid.step_us, begins, np.array([fault.at_us for fault in faults], np.int64)
    )
    judged = {each.name for each in new.manifest.sensors if each.learnt}
    blind = [each.name for each in old.manifest.sensors if each.learnt and each.name not in judged]
    return hold(
        runs[0],
        runs[1],
        course,
        cost,
        seed=grounds.seed,
        blind=blind,
        trusted=grounds.trusted,
        confirmed_min=grounds.confirmed_min,
    )


def run(scorer: Scorer, recording: Recording) -> Track:
    """A model over all rows of a recording; windows that touch what is left out are not judged."""
    cells = cells_of(scorer, recording)
    spec = cells.spec
    times, alarms, calm = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)], [np.zeros(0, np.bool_)]
    calibration = scorer.manifest.calibration
    for windows in cells.windows(chunk=CHUNK):
        touch = recording.touching(windows.times_us, spec.window * spec.step_us)
        chosen = np.flatnonzero(windows.scorable & ~touch)
        if len(chosen):
            times.append(windows.times_us[chosen])
            scores = scorer.score(windows.values[chosen])
            alarms.append(np.asarray(scores.alarm, np.bool_))
            calm.append(scores.score <= scores.limit * calibration.calm_level)
    all_times, all_alarms, all_calm = np.concatenate(times), np.concatenate(alarms), np.concatenate(calm)
    found = episodes(
        all_times.tolist(),
        all_alarms.tolist(),
        calibration.persistence_m,
        calibration.persistence_n,
        clear=calibration.calm_windows,
        calm=all_calm.tolist(),
    )
    return Track(all_times, all_alarms, all_calm, tuple(found))


def cells_of(scorer: Scorer, recording: Recording) -> Cells:
    """A recording on a model's grid. Raises Rejected for missing sensors."""
    names = scorer.manifest.sensor_names
    missing = [name for name in names if name not in recording.sensors]
    if missing:
        raise Rejected(f"the recording lacks {', '.join(missing)}, which {scorer.manifest.method} needs")
    columns = [recording.sensors.index(name) for name in names]
    return grid_frame(scorer.manifest.grid_spec(), recording.times_us, recording.values[:, columns])


def _false(track: Track, grounds: Grounds) -> Ints:
    spared = np.zeros(len(track.onsets_us), np.bool_)
    for span in (*grounds.events, *grounds.unknown):
        spared |= (track.onsets_us >= span.from_us) & (track.onsets_us <= span.to_us)
    return track.onsets_us[~spared]


# The panel


@dataclass(frozen=True)
class Laid:
    """A synthetic fault: in which sensor, from when to when, and how wide the sensor's noise is."""

    fault: Fault
    sensor: str
    at_us: int
    to_us: int
    noise: float


def _panel(grounds: Grounds, step_us: int, scorers: Sequence[Scorer]) -> list[Laid]:
    """Faults of one sensor each, drawn by the seed, where nothing else was going on."""
    recording = grounds.recording
    names = [name for name in scorers[0].manifest.sensor_names if name in scorers[1].manifest.sensor_names]
    spec = GridSpec(recording.sensors, step_us, 1, 3, 0, 1.0)
    cells = grid_frame(spec, recording.times_us, recording.values)
    reach = max(reach_us(scorer) for scorer in scorers)
    # Where a fault may begin: rows reach back far enough for a settled window, and on to its end, without a jump.
    span = STRETCH * step_us
    lasts = np.searchsorted(cells.times_us, cells.times_us - reach)
    whole = np.arange(len(cells)) - lasts >= 0.9 * reach / step_us
    ends = np.searchsorted(cells.times_us, cells.times_us + span)
    whole &= ends - np.arange(len(cells)) >= 0.9 * STRETCH
    for one in (*grounds.events, *grounds.unknown, *recording.left_out):
        whole &= (cells.times_us + span < one.from_us) | (cells.times_us - reach > one.to_us)
    places = np.flatnonzero(whole)
    scale = fit_scale(cells.cells) if len(cells) > 1 else None
    random = np.random.default_rng([grounds.seed, 13])
    every = [(name, kind, size) for name in names for kind in KINDS for size in SEVERITIES]
    if not len(places) or scale is None:
        return []
    order = random.permutation(len(every))[:PANEL]
    laid = []
    for name, kind, size in (every[index] for index in np.sort(order).tolist()):
        inverse = float(scale.inverse[recording.sensors.index(name)])
        at_us = int(cells.times_us[places[int(random.integers(len(places)))]])
        if inverse > 0:
            fault = Fault(0, kind, size, 0, int(random.integers(2**31)))
            laid.append(Laid(fault, name, at_us, at_us + span, 1 / inverse))
    return laid


def reach_us(scorer: Scorer) -> int:
    """How far before a window's right edge rows matter to whether and how it is scored."""
    spec = scorer.manifest.grid_spec()
    return (2 * spec.window + spec.settle + spec.max_age + 2) * spec.step_us


def _on_panel(scorer: Scorer, recording: Recording, faults: Sequence[Laid]) -> Found:
    """What a model makes of the faults; an alarm that is on before a fault begins finds nothing."""
    found, lead = np.zeros(len(faults), np.bool_), np.zeros(len(faults))
    reach = reach_us(scorer)
    for number, laid in enumerate(faults):
        first, last = np.searchsorted(recording.times_us, [laid.at_us - reach, laid.to_us + 1])
        values = recording.values[first:last].copy()
        times = recording.times_us[first:last]
        column = values[:, recording.sensors.index(laid.sensor)]
        lay(column, laid.fault, int(np.searchsorted(times, laid.at_us, side="right")), laid.noise)
        onset = _onset(scorer, replace(recording, times_us=times, values=values), laid)
        if onset is not None:
            found[number], lead[number] = True, (laid.to_us - onset) / 3.6e9
    return Found(found, lead)


def _onset(scorer: Scorer, part: Recording, laid: Laid) -> int | None:
    track = run(scorer, part)
    calibration = scorer.manifest.calibration
    state = Persistence(calibration.persistence_m, calibration.persistence_n, calibration.calm_windows)
    for time_us, alarm, calm in zip(
        track.times_us.tolist(), track.alarms.tolist(), track.calm.tolist(), strict=True
    ):
        before = state.active
        state.update(time_us, alarm, calm)
        if before is None and state.active is not None:
            return time_us if laid.at_us < time_us <= laid.to_us else None
    return None


def _p99_ms(scorer: Scorer, recording: Recording, monotonic: Callable[[], float]) -> float:
    """Of one window at a time."""
    cells = cells_of(scorer, recording)
    ends = np.linspace(0, len(cells) - 1, min(TIMED, len(cells))).astype(np.int64)
    values: Floats = cells.gather(ends).values
    took = []
    for each in values:
        began = monotonic()
        scorer.score(each[None])
        took.append(1e3 * (monotonic() - began))
    return float(np.quantile(took, 0.99)) if took else 0.0
