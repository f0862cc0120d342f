"""How a model does on what people confirmed: each stretch is replayed by itself, found or missed, quiet or alarmed at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from cloud.training.confusion import FALSE, FAULTS, FOUND, HEALTHY, UNSEEN
from cloud.training.duel import reach_us, run
from cloud.training.history import Judged, merged
from cloud.training.recording import LeftOut, Recording
from shared.artifact import unpack
from shared.event import to_us
from shared.onnxruntime import Scorer

STRETCHES_MAX: Final = 200  # of each kind, the newest: a replay has its bound
_HEALTHY_KINDS: Final = frozenset({"normal", "operation"})
_UNTRUE: Final = frozenset({"degraded", "data-fault", "sensor-fault"})


@dataclass(frozen=True)
class Labelled:
    """A machine's rows, and the stretches of them that are confirmed to be a fault, or healthy.

    Stretches of one kind that overlap are one; what is said to be healthy and overlaps a fault is neither.
    `champion`: the artifact that is held against the same, if there is one.
    """

    recording: Recording
    faults: tuple[LeftOut, ...]
    healthy: tuple[LeftOut, ...]
    champion: bytes | None = None


def labelled(
    recording: Recording,
    judged: Sequence[Judged],
    left_out: Sequence[LeftOut] = (),
    champion: bytes | None = None,
) -> Labelled:
    """Of what is confirmed among people's words. What is `left_out` for want of true rows is no ground to judge on."""
    faults = _stretches(judged, frozenset({"fault"}))
    healthy = [
        one
        for one in _stretches(judged, _HEALTHY_KINDS)
        if not any(fault.from_us <= one.to_us and one.from_us <= fault.to_us for fault in faults)
    ]
    untrue = [one for one in left_out if one.reason in _UNTRUE] if faults or healthy else []
    return Labelled(
        recording.without(untrue), tuple(faults[-STRETCHES_MAX:]), tuple(healthy[-STRETCHES_MAX:]), champion
    )


def _stretches(judged: Sequence[Judged], kinds: frozenset[str]) -> list[LeftOut]:
    return merged(
        [
            LeftOut("fault", to_us(one.begins), to_us(one.ends))
            for one in judged
            if one.confirmed and one.kind in kinds
        ]
    )


def figures(artifact: Callable[[], bytes], given: Labelled) -> dict[str, float]:
    """Stretches that an anomaly was on in, and how many there were; those with no window to score are neither.

    `artifact` is not asked for where nothing is confirmed. Raises Rejected: it can't be read, or the recording lacks a sensor of it.
    """
    if not given.faults and not given.healthy:
        return dict.fromkeys((FAULTS, FOUND, HEALTHY, FALSE, UNSEEN), 0.0)
    scorer = Scorer(unpack(artifact()))
    faults = [_alarmed(scorer, given.recording, one) for one in given.faults]
    healthy = [_alarmed(scorer, given.recording, one) for one in given.healthy]
    seen, quiet = [one for one in faults if one is not None], [one for one in healthy if one is not None]
    return {
        FAULTS: float(len(seen)),
        FOUND: float(sum(seen)),
        HEALTHY: float(len(quiet)),
        FALSE: float(sum(quiet)),
        UNSEEN: float(len(faults) + len(healthy) - len(seen) - len(quiet)),
    }


def _alarmed(scorer: Scorer, recording: Recording, stretch: LeftOut) -> bool | None:
    """Whether an anomaly was on in the stretch; None where no window of it could be scored."""
    reach = reach_us(scorer)
    first, last = np.searchsorted(recording.times_us, [stretch.from_us - 2 * reach, stretch.to_us + 1])
    rows = slice(int(first), int(last))
    part = replace(recording, times_us=recording.times_us[rows], values=recording.values[rows])
    if not len(part.times_us):
        return None
    track = run(scorer, part)
    if not (track.times_us >= stretch.from_us).any():
        return None
    return any(
        onset <= stretch.to_us and (over is None or over > stretch.from_us) for onset, over in track.episodes
    )
