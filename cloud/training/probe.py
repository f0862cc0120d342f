"""Probe vectors: raw rows, and the scores, decisions and contributions that must come of them anywhere."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from cloud.training.pca import Scale
from shared.artifact import Probe
from shared.errors import Rejected
from shared.grid import grid_frame
from shared.states import StateSpec
from shared.windows import Cells, Floats, Operating

PROBE_WINDOWS: Final = 3
PROBE_SPREADS: Final = 12.0  # how far the last rows push one sensor, in widths of its noise


def make_probe(
    score: Callable[[Floats], tuple[Floats, Floats]],
    scale: Scale,
    cells: Cells,
    last: int,
    limit: float,
    operating: Operating | None,
    states: StateSpec | None = None,
) -> Probe:
    """The cells of the window that ends at `last`, then the same with one sensor pushed off, and what must come of it.

    Raises:
        Rejected: No window of these is full.
    """
    spec = replace(cells.spec, operating=operating, states=states)
    tail = cells.gather(np.array([last])).values[0]
    ready = scale.inverse > 0
    point = states or operating
    if point is not None and ready.sum() > 1:
        ready[spec.sensors.index(point.sensor)] = False  # pushed off, it would end the scoring
    judged = int(np.flatnonzero(ready)[0])
    pushed = tail.copy()
    pushed[:, judged] += PROBE_SPREADS / scale.inverse[judged]
    rows = np.concatenate([tail, pushed])
    times = (1 + np.arange(len(rows))) * spec.step_us
    made = grid_frame(spec, times, rows)
    every = made.gather(np.arange(len(made)))
    full = np.flatnonzero(every.scorable)
    scores, contributions = score(every.values)
    # A window whose score lies on the limit may fall either way on another processor: it proves nothing.
    clear = full[np.abs(scores[full] - limit) > 1e-3 * limit]
    chosen = np.unique(np.concatenate([clear[:PROBE_WINDOWS], clear[-PROBE_WINDOWS:]]))
    if not len(chosen):
        raise Rejected("the last training rows have no full window to prove the model on")
    return Probe(
        times_us=tuple(times.tolist()),
        rows=tuple(tuple(None if np.isnan(v) else v for v in row) for row in rows.tolist()),
        edges_us=tuple(every.times_us[chosen].tolist()),
        scores=tuple(scores[chosen].tolist()),
        alarms=tuple((scores[chosen] > limit).tolist()),
        contributions=tuple(map(tuple, contributions[chosen].tolist())),
    )
