"""From a machine's rows, its past and people's words: what it is compared with, trained on and judged on. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from cloud.training.drift import (
    DAY_US,
    NOTHING,
    STUCK_US,
    Span,
    Triage,
    alarmed_share,
    stuck,
    triage,
)
from cloud.training.duel import Grounds
from cloud.training.expected import History, Reference
from cloud.training.history import Judged, Past, holds, judged_out, merged
from cloud.training.operation import Scope
from cloud.training.recording import LeftOut, Recording
from cloud.training.triggers import Policy
from shared.event import to_us
from shared.grid import grid_frame
from shared.manifest import Manifest
from shared.windows import GridSpec

CELL_US: Final = 300_000_000
BASELINE_MIN_US: Final = DAY_US
FRESH: Final = 0.1  # of the champion's rows, and at most a day's: fewer new ones teach nothing
CALIBRATED: Final = 0.6  # where the champion's calibration rows begin
TRUSTED: Final = (
    0.5  # of the champion's calibration rows must still be stored for a promotion with nobody asked
)
AROUND_US: Final = 6 * 3_600_000_000  # of an event, replayed before and after it
REPLAYED_US: Final = (
    7 * DAY_US
)  # at most, of the champion's rows and of the new ones each: a replay has its bound
USUAL: Final = Policy()
_GAP_US: Final = 600_000_000


def review(recording: Recording, root: Manifest, past: Past, now_us: int, policy: Policy = USUAL) -> Triage:
    """Why the machine no longer looks as it did when the oldest version of its champion's line was trained.

    `recording` may be of means by the minute. A first model comes within minutes: its baseline is the first week. Until there is a day of one, nothing is said.
    """
    columns = [recording.sensors.index(name) for name in root.sensor_names if name in recording.sensors]
    if len(columns) < len(root.sensors):
        gone = [name for name in root.sensor_names if name not in recording.sensors]
        return replace(NOTHING, reason=f"the store has no {', '.join(gone)}")
    clean = recording.without((*past.degraded, *past.maintenance))
    spec = GridSpec(root.sensor_names, CELL_US, 1, 0, 0, 1.0)
    cells = grid_frame(spec, clean.times_us, clean.values[:, columns])
    # A coarse cell is a mean of rows; one in which the machine changed its place is neither of both.
    history = History(
        cells.times_us, cells.cells, Scope.of_manifest(root).states(cells.times_us, cells.cells)
    )
    first = root.training.first_us
    until = max(root.training.last_us, first + policy.baseline_us)
    usual = history.part((history.times_us >= first) & (history.times_us <= until))
    since = history.since(until)
    span = int(usual.times_us[-1] - usual.times_us[0]) if len(usual.times_us) else 0
    if span < BASELINE_MIN_US or not len(since.times_us):
        return replace(NOTHING, reason="there is no baseline of a day yet")
    recent_from = max(now_us - policy.recent_us, until)
    point = root.operating or root.states
    reference = Reference(usual, None if point is None else root.sensor_names.index(point.sensor))
    return triage(
        reference,
        since,
        recent_from,
        names=root.sensor_names,
        maintenance=[Span(one.from_us, one.to_us) for one in past.maintenance],
        alarmed=alarmed_share((Span(one.from_us, one.to_us) for one in past.alarms), recent_from, now_us),
    )


@dataclass(frozen=True)
class Prepared:
    """Rows to train on, and the grounds of the contest.

    `fresh` of the training rows came after the champion's; with fewer than `needed` there is nothing new to learn.
    """

    training: Recording
    grounds: Grounds
    fresh: int
    needed: int


def prepare(
    recording: Recording,
    champion: Manifest,
    past: Past,
    judged: Sequence[Judged],
    *,
    seed: int,
    policy: Policy = USUAL,
) -> Prepared:
    """Rows for a challenger, and what it is held against the champion on.

    The newest part (`policy.held`) of what came since the champion is not trained on. The contest is held on it, on the rows that
    the champion was calibrated with, and around confirmed events, without time in which a sensor was broken.
    """
    broken = data_faults(recording, champion)
    said = judged_out(judged, policy.before_failure_us)
    end = int(recording.times_us.max()) if len(recording.times_us) else 0
    known = champion.training
    held_us = end - int(policy.held * max(end - known.last_us, 0))
    held = [LeftOut("held-back", held_us + 1, end)] if held_us < end else []
    kept_back = holds(recording, past.thinned)
    training = recording.without((*past.spans, *kept_back, *said, *broken, *held))
    bad = [*past.degraded, *past.maintenance, *broken, *(one for one in said if one.reason == "sensor-fault")]
    events = [
        LeftOut("fault", to_us(one.begins), to_us(one.ends))
        for one in judged
        if one.kind == "fault" and one.confirmed
    ]
    unknown = [one for one in past.alarms if not any(_covers(word, one) for word in judged)]
    trusted = known.first_us + int(CALIBRATED * (known.last_us - known.first_us))
    times = recording.times_us
    replayed = (times >= max(trusted, known.last_us - REPLAYED_US)) & (times <= known.last_us)
    replayed |= times > max(held_us, end - REPLAYED_US)
    for one in events:
        replayed |= (times >= one.from_us - AROUND_US) & (times <= one.to_us + AROUND_US)
    rows = Recording(times[replayed], recording.sensors, recording.units, recording.values[replayed])
    fresh = int((training.times_us > known.last_us).sum())
    needed = math.ceil(min(FRESH * known.rows, DAY_US / champion.grid.step_us))
    own = int(((times >= trusted) & (times <= known.last_us)).sum())
    is_known = own >= TRUSTED * (1 - CALIBRATED) * known.rows
    return Prepared(
        training, Grounds(rows.without(bad), events, unknown, seed, is_known, policy.confirmed), fresh, needed
    )


def _covers(word: Judged, alarm: LeftOut) -> bool:
    """Whether it is confirmed what an alarm was: else one person's word could call what a champion found false."""
    return word.confirmed and to_us(word.begins) < alarm.to_us and alarm.from_us < to_us(word.ends)


def data_faults(recording: Recording, champion: Manifest) -> list[LeftOut]:
    """When a sensor stood still for an hour, or was out of all range, as none did when the champion was trained."""
    found: list[LeftOut] = []
    for sensor in champion.sensors:
        if sensor.name not in recording.sensors or not sensor.learnt:
            continue
        own = recording.values[:, recording.sensors.index(sensor.name)]
        there = np.isfinite(own)
        times, own = recording.times_us[there], own[there]
        usual = times <= champion.training.last_us
        if not stuck(times[usual], own[usual]):
            found += [LeftOut("data-fault", one.from_us, one.to_us) for one in stuck(times, own, STUCK_US)]
        reach = max(sensor.high - sensor.low, 1e-9 * (1 + abs(sensor.high)))
        wild = ((own < sensor.low - reach) | (own > sensor.high + reach)) & ~usual
        found += [LeftOut("data-fault", at - _GAP_US, at + _GAP_US) for at in times[wild].tolist()]
    return merged(found)
