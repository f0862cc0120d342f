"""A machine's operating state and what it ran up, followed reading by reading: state, changes and counts as events."""

from typing import Any, Final

import numpy as np

from shared.errors import Rejected
from shared.event import Event, at
from shared.frames import Quality, Readings
from shared.machine_events import MachineCounted, StateChanged
from shared.states import UNKNOWN, OperatingState, Phase, StateMachine, StateSpec, Totals

TELL_EVERY_US: Final = 3_600_000_000
_HOUR_US: Final = 3_600_000_000


class OperatingWatch:
    """Follows one machine by rows of its operating sensor. Rows older than the newest one seen change nothing.

    The counts are told as increments each time the machine comes to rest and once an hour while it runs, in the
    transaction that saves them: whoever adds them up misses nothing and counts nothing twice.
    """

    def __init__(self, edge: str, machine: str) -> None:
        self._edge, self._machine = edge, machine
        self._follows: StateMachine | None = None
        self._told = Totals()
        self._told_us: int | None = None
        self._steady_at = -1

    @property
    def spec(self) -> StateSpec | None:
        """How the state is told, None = nobody taught it."""
        return None if self._follows is None else self._follows.spec

    @property
    def totals(self) -> Totals:
        """What the machine ran up since it was first watched."""
        return Totals() if self._follows is None else self._follows.totals

    @property
    def since_us(self) -> int:
        """When the operating sensor's value came to where it is."""
        return 0 if self._follows is None else self._follows.since_us

    def state(self, now_us: int) -> OperatingState:
        """What the machine is doing now."""
        return UNKNOWN if self._follows is None else self._follows.at(now_us)

    def learn(self, spec: StateSpec | None) -> None:
        """Tell the state by `spec` from now on; the counts go on."""
        if spec is None or spec == self.spec:
            return
        self._follows = StateMachine(spec, totals=self.totals)
        self._steady_at = -1

    def take(self, readings: Readings) -> list[Event]:
        """Rows in order of arrival; what changed with them."""
        follows = self._follows
        if follows is None or follows.spec.sensor not in readings.sensor_names:
            return []
        index = readings.sensor_names.index(follows.spec.sensor)
        mine = np.flatnonzero((readings.sensor == index) & (readings.quality != Quality.BAD))
        events: list[Event] = []
        unit = readings.units[index]
        for row in mine[np.argsort(readings.time_us[mine], kind="stable")].tolist():
            time_us, value = int(readings.time_us[row]), float(readings.value[row])
            if follows.time_us is not None and time_us <= follows.time_us:
                continue
            before = follows.state
            after = follows.take(time_us, value)
            if self._told_us is None:
                self._told_us = time_us
            if after != before:
                events.append(self._changed(time_us, before, after, value, unit))
            rests = after.phase is Phase.OFF and before.phase is not Phase.OFF
            if (rests or time_us - self._told_us >= TELL_EVERY_US) and self.totals != self._told:
                events.append(self._counted(time_us, self._told_us))
        return events

    def _changed(
        self, time_us: int, before: OperatingState, after: OperatingState, value: float, unit: str
    ) -> Event:
        changeover = after.phase is Phase.STEADY and self._steady_at not in {-1, after.level}
        if after.phase is Phase.STEADY:
            self._steady_at = after.level
        return StateChanged(
            source=f"edge/{self._edge}",
            subject=self._machine,
            occurred_at=at(time_us),
            edge=self._edge,
            before=str(before),
            after=str(after),
            changeover=changeover,
            sensor="" if self.spec is None else self.spec.sensor,
            value=value,
            unit=unit,
        )

    def _counted(self, time_us: int, since_us: int) -> Event:
        totals, more = self.totals, self.totals.since(self._told)
        self._told, self._told_us = totals, time_us
        return MachineCounted(
            source=f"edge/{self._edge}",
            subject=self._machine,
            occurred_at=at(time_us),
            edge=self._edge,
            since=at(since_us),
            run_hours=more.run_us / _HOUR_US,
            starts=more.starts,
            cycles=more.cycles,
            total_run_hours=totals.run_us / _HOUR_US,
            total_starts=totals.starts,
            total_cycles=totals.cycles,
        )

    def to_json(self) -> dict[str, Any] | None:
        """What a restart needs."""
        if self._follows is None:
            return None
        told = [self._told.run_us, self._told.starts, self._told.cycles, self._told_us]
        return {"follows": self._follows.to_json(), "told": told, "steady_at": self._steady_at}

    def resume(self, kept: dict[str, Any] | None) -> None:
        """Go on from `to_json`. Raises Rejected for what is none."""
        if kept is None:
            return
        try:
            follows = StateMachine.from_json(kept["follows"])
            run_us, starts, cycles, told_us = kept["told"]
            self._told, self._told_us = Totals(int(run_us), int(starts), int(cycles)), told_us
            self._steady_at = int(kept["steady_at"])
        except (KeyError, TypeError, ValueError) as error:
            raise Rejected(f"not an operating state: {error}") from error
        self._follows = follows
