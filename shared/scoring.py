"""One machine's scoring, wherever it runs: rows to windows to scores, m-of-n persistence, anomalies as events.

The edge and, for machines with no edge, the cloud score by this one piece, so that the same rows in the same batches
give the same scores and events. It touches nothing: whoever calls it keeps what comes of it, and the state with it.
Later rows never rescore a window.
"""

import math
from collections import deque
from typing import Final

import numpy as np
import structlog

from shared.errors import Rejected
from shared.events import AnomalyEnded, AnomalyStarted, Event, ModelActivated, Sensor, at
from shared.frames import Readings, Scores, ScoreState, concat_readings
from shared.grid import Grid
from shared.loaded import LoadedModel
from shared.machine_events import alarm_id
from shared.onnxruntime import Scores as Scored
from shared.persistence import Clear, Onset
from shared.scoring_state import Maintenance, ScoringState, carried
from shared.windows import Bools, GridSpec, Windows

log = structlog.get_logger()

RULE: Final = "anomaly"
CHUNK: Final = 512  # windows a call of the graph
RECENT_ROWS: Final = 20_000  # kept to fill the grid of a new model, so that it scores at once
SHOWN_SENSORS: Final = 10


class WindowScoring:
    """The scoring state of one machine. Not thread-safe; one caller at a time.

    `edge` is the id under which it scores, and `source` what its events name as theirs.
    """

    def __init__(self, edge: str, machine: str, *, source: str = "", recent_rows: int = RECENT_ROWS) -> None:
        self._edge, self._machine = edge, machine
        self._source = source or f"edge/{edge}"
        self._most_recent = recent_rows
        self._recent: deque[Readings] = deque()
        self._recent_rows = 0
        self._grid: Grid | None = None
        self._kept = ScoringState()
        self.model: LoadedModel | None = None
        self.score: float | None = None
        self.leading: tuple[Sensor, ...] = ()
        self.reason = ""
        self.unscored = 0

    @property
    def maintenance(self) -> Maintenance | None:
        """Who works on the machine, None = nobody."""
        return self._kept.maintenance

    @property
    def recent(self) -> list[Readings]:
        """The newest rows, at most some 20,000."""
        return list(self._recent)

    @property
    def window_us(self) -> int:
        """Right edge of the last window that was looked at, 0 before the first."""
        return self._kept.scored_until_us

    @property
    def anomaly(self) -> Onset | None:
        """The anomaly that is on."""
        return None if self._kept.persistence is None else self._kept.persistence.active

    @property
    def state(self) -> str:
        """`learning` with no model, else `normal` or `anomalous`."""
        if self._kept.persistence is not None and self._kept.persistence.active is not None:
            return "anomalous"
        return "learning" if self.model is None else "normal"

    def saved(self) -> tuple[bytes, bytes]:
        """What `resume` needs: the state, and the grid as it stands (empty before the first model)."""
        return self._kept.encode(), b"" if self._grid is None else self._grid.to_json()

    def resume(self, state: ScoringState, spec: GridSpec, grid: bytes) -> None:
        """Go on from what `saved` gave; with a grid of another definition than `spec` its windows fill anew."""
        self._kept = state
        try:
            self._grid = Grid.from_json(spec, grid)
        except Rejected as error:
            log.info("the windows fill anew", machine=self._machine, reason=error.reason)

    def run_model(self, model: LoadedModel, now_us: int, *, again: bool = False) -> list[Event]:
        """Run `model` from the next window on; `again` after a restart, when it is no news.

        An anomaly that is on stays on: only clean windows under the new model end it.
        """
        spec = model.manifest.grid_spec()
        if self._grid is None or self._grid.spec != spec:
            self._grid = Grid(spec)
            self.model = model
            for readings in self._recent:
                self._feed(self._grid, readings)
                self._grid.close()
        self.model = model
        self._kept.persistence = carried(
            self._kept.persistence,
            model.manifest.calibration.persistence_m,
            model.manifest.calibration.persistence_n,
            model.manifest.calibration.calm_windows,
            restarted=again,
        )
        if again:
            return []
        desired = model.desired
        return [
            ModelActivated(
                source=self._source,
                subject=self._machine,
                occurred_at=at(now_us),
                edge=self._edge,
                model=desired.model,
                model_version=desired.version,
                version_hash=desired.sha256,
            )
        ]

    def score_rows(self, readings: Readings) -> tuple[list[Scores], list[Event]]:
        """Rows in order of arrival; the windows that they close, scored, and what begins or ends with them."""
        self.remember(readings)
        parts: list[Scores] = []
        events: list[Event] = []
        if self.model is not None and self._grid is not None:
            self._feed(self._grid, readings)
            windows = self._grid.close()
            fresh = windows.times_us > self._kept.scored_until_us
            for start in range(0, len(windows), CHUNK):
                part = _slice(windows, start, start + CHUNK, fresh)
                if len(part):
                    parts.append(self._score(self.model, part, events))
        return parts, events

    def _score(self, model: LoadedModel, windows: Windows, events: list[Event]) -> Scores:
        names = model.manifest.sensor_names
        count, width = len(windows), len(names)
        score = np.full(count, np.nan, np.float32)
        state = np.full(count, ScoreState.UNSCORED, np.uint8)
        contribution = np.zeros((count, width), np.float32)
        expected = np.full((count, width), np.nan)
        chosen = np.flatnonzero(windows.scorable)
        limit = model.manifest.limit
        scored: Scored | None = None
        if len(chosen):
            try:
                scored = model.scorer.score(windows.values[chosen])
            except Rejected as error:
                log.error("the model's graph failed", machine=self._machine, error=error.reason)  # noqa: TRY400
                self.reason, chosen = error.reason, chosen[:0]
        if scored is not None:
            limit = scored.limit
            score[chosen], expected[chosen] = scored.score, scored.expected
            contribution[chosen] = scored.contributions
            state[chosen] = np.where(scored.alarm, ScoreState.ALARM, ScoreState.NORMAL)
            if self._kept.maintenance is not None:
                state[chosen] = ScoreState.MAINTENANCE
        places = {int(at_row): place for place, at_row in enumerate(chosen)}
        for row in range(count):
            self._judge(model, windows, row, scored, places.get(row), events)
        self.unscored += count - len(places)
        self._kept.scored_until_us = int(windows.times_us[-1])
        return Scores(
            model.desired.model,
            model.desired.sha256,
            limit,
            names,
            windows.times_us,
            score,
            state,
            contribution,
            expected,
        )

    def _judge(
        self,
        model: LoadedModel,
        windows: Windows,
        row: int,
        scored: Scored | None,
        place: int | None,
        events: list[Event],
    ) -> None:
        persistence = self._kept.persistence
        if persistence is None:
            return
        if scored is None or place is None:
            self.score = None
            self.leading = () if persistence.active is None else self.leading
            if windows.masked[row] > model.manifest.grid.mask_limit:
                self.reason = f"{windows.masked[row]:.0%} of the window has no reading"
            elif not windows.scorable[row]:
                self.reason = "the operating point is not one that the model learnt, or has not settled"
            return
        alarm = bool(scored.alarm[place])
        value = float(scored.score[place])
        before = persistence.active
        # While somebody works on the machine its windows are no evidence either way.
        judged = None if self._kept.maintenance is not None else alarm
        calm = value <= scored.limit * model.manifest.calibration.calm_level
        change = persistence.update(int(windows.times_us[row]), judged, calm)
        self.score, self.reason = value, ""
        if alarm or persistence.active is not None:
            self.leading = leading(model, scored, place)
        else:
            self.leading = ()
        if judged is not None:
            self._kept.peak = max(self._kept.peak, value)
        match change:
            case Onset(time_us, first_us):
                events.append(self._started(model, time_us, first_us, value, scored.limit))
            case Clear(time_us) if before is not None:
                events.append(self._ended(time_us, before.first_us, scored.limit))
        if persistence.active is None:
            self._kept.peak = 0.0 if not alarm else self._kept.peak

    def _started(
        self, model: LoadedModel, time_us: int, first_us: int, value: float, limit: float
    ) -> AnomalyStarted:
        return AnomalyStarted(
            source=self._source,
            subject=self._machine,
            occurred_at=at(time_us),
            correlation_id=alarm_id(RULE, self._machine, at(first_us)),
            rule=RULE,
            edge=self._edge,
            onset=at(first_us),
            score=value,
            limit=limit,
            model=model.desired.model,
            version_hash=model.desired.sha256,
            sensors=self.leading,
        )

    def _ended(self, time_us: int, first_us: int, limit: float) -> AnomalyEnded:
        return AnomalyEnded(
            source=self._source,
            subject=self._machine,
            occurred_at=at(time_us),
            correlation_id=alarm_id(RULE, self._machine, at(first_us)),
            rule=RULE,
            edge=self._edge,
            onset=at(first_us),
            peak_score=self._kept.peak,
            limit=limit,
        )

    def _feed(self, grid: Grid, readings: Readings) -> None:
        """Rows into the grid; those of no column, or in another unit than the model's, are not the model's."""
        if self.model is None:
            return
        columns = {each.name: (at, each.unit) for at, each in enumerate(self.model.manifest.sensors)}
        lookup = np.full(len(readings.sensor_names), -1, np.int64)
        for index, name in enumerate(readings.sensor_names):
            column, unit = columns.get(name, (-1, ""))
            if column >= 0 and unit and unit != readings.units[index]:
                self.reason = f"{name} comes in {readings.units[index]}, the model needs {unit}"
                continue
            lookup[index] = column
        grid.add(lookup[readings.sensor], readings.time_us, readings.value, readings.quality)

    def remember(self, readings: Readings) -> None:
        """Keep the rows for the grid of a model that comes later."""
        self._recent.append(readings)
        self._recent_rows += len(readings)
        while self._recent_rows > self._most_recent and len(self._recent) > 1:
            self._recent_rows -= len(self._recent.popleft())
        if len(self._recent) > CHUNK:  # many small batches: one set of columns takes less room
            merged = concat_readings(list(self._recent))
            self._recent = deque([merged])


def leading(model: LoadedModel, scored: Scored, place: int) -> tuple[Sensor, ...]:
    """The sensors with the largest share in a window's score, beside what was seen what was expected."""
    shares = scored.contributions[place]
    order = np.argsort(-shares, kind="stable")[:SHOWN_SENSORS]
    return tuple(
        Sensor(
            sensor=model.manifest.sensors[index].name,
            share=min(max(float(shares[index]), 0.0), 1.0),
            seen=_finite(float(scored.seen[place, index])),
            expected=_finite(float(scored.expected[place, index])),
            unit=model.manifest.sensors[index].unit,
        )
        for index in order.tolist()
        if shares[index] > 0
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _slice(windows: Windows, start: int, stop: int, fresh: Bools) -> Windows:
    chosen = start + np.flatnonzero(fresh[start:stop])
    return Windows(
        windows.times_us[chosen], windows.values[chosen], windows.masked[chosen], windows.scorable[chosen]
    )
