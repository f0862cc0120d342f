"""Every machine as its edge reports it, brought up to the newest readings that the log has.

Of one that no edge looks after the log and the store are asked instead.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import structlog

from cloud.api.journal import Journal
from cloud.api.logic import LastValue, MachineStatus, Newest, machine_status
from cloud.api.others import Others
from cloud.telemetry.port import Latest
from shared.clock import Clock
from shared.errors import NotFound
from shared.events import at
from shared.nats import ControlPlane

log = structlog.get_logger()

Reports = dict[str, dict[str, Any]]
STATE: Final = "state"


class Reported:
    """Each edge's last `state` report, kept up to date from the control plane by one watcher an edge."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._reports: Reports = {}
        self.assignments: dict[str, tuple[str, str]] = {}
        self.loaded = False
        """Whether all assignments that there were are known."""
        self.changed: Callable[[str], None] = lambda _: None
        """Called with the edge after each change; set by who wants to know."""

    def of(self, edge: str) -> Mapping[str, Any]:
        """The edge's report; empty if there was none yet."""
        return self._reports.get(edge, {})

    async def follow(self) -> None:
        """Watch assignments and the reports of every edge in them, for ever."""
        async with asyncio.TaskGroup() as group:
            watched: set[str] = set()
            async for change in self._control.watch_assignments():
                if change is None:
                    self.loaded = True
                    continue
                machine, assigned = change
                if assigned is None:
                    _, edge = self.assignments.pop(machine, ("", ""))
                    self.changed(edge)
                    continue
                self.assignments[machine] = assigned
                edge = assigned[1]
                if edge not in watched:
                    watched.add(edge)
                    group.create_task(self._follow_edge(edge), name=f"reports of {edge}")
                self.changed(edge)

    async def _follow_edge(self, edge: str) -> None:
        async for change in self._control.watch_reported(edge):
            if change is None:
                continue
            key, value = change
            if key == STATE:
                self._reports[edge] = _report(edge, value)
                self.changed(edge)


class Fleet:
    """The machines' statuses: the edges' reports, and beside them what the log brought since.

    `others` are those known by other means; that they have no edge is sure only once the assignments are loaded.
    """

    def __init__(self, reported: Reported, journal: Journal, clock: Clock, *, stale_after: float) -> None:
        self._reported = reported
        self._journal = journal
        self._clock = clock
        self._stale_after = stale_after
        self.others = Others()

    def statuses(self) -> list[MachineStatus]:
        """All of them, by machine."""
        return [
            self._status(machine) for machine in sorted((*self._reported.assignments, *self.unassigned()))
        ]

    def unassigned(self) -> list[str]:
        """Those with no edge, in no order."""
        if not self._reported.loaded:
            return []
        return [machine for machine in self.others.sites if machine not in self._reported.assignments]

    def has_edge(self, machine: str) -> bool:
        """Whether an edge speaks for it."""
        return machine in self._reported.assignments

    def status(self, machine: str) -> MachineStatus:
        """One machine's. Raises NotFound."""
        found = self.find(machine)
        if found is None:
            raise NotFound(
                f"no machine {machine[:40]!r} is assigned to an edge, has sent, or is an asset in use"
            )
        return found

    def find(self, machine: str) -> MachineStatus | None:
        """The same; None where nothing is known of it."""
        known = self.has_edge(machine) or (self._reported.loaded and machine in self.others.sites)
        return self._status(machine) if known else None

    def newest(self, machine: str, known: Mapping[str, Latest]) -> dict[str, dict[str, Any]]:
        """Each sensor's newest row that the log brought, where the store does not have it yet."""
        return {
            name: {"time_us": int(row[0]), "value": row[1], "quality": int(row[2])}
            for name, series in self._journal.of(machine).sensors.items()
            if (row := series.last) is not None and (name not in known or row[0] > known[name].time_us)
        }

    def units(self, machine: str) -> dict[str, str]:
        """The unit of each sensor that the log brought rows of."""
        sensors = self._journal.of(machine).sensors
        return {name: series.unit for name, series in sensors.items() if series.points}

    def _status(self, machine: str) -> MachineStatus:
        site, edge = self._reported.assignments.get(machine, (self.others.sites.get(machine, ""), ""))
        return machine_status(
            machine,
            site,
            edge,
            self._reported.of(edge) if edge else self.others.report(machine),
            now_us=self._clock.now_us(),
            stale_after=self._stale_after,
            newest=self._newest(machine),
        )

    def _newest(self, machine: str) -> Newest:
        part = self._journal.of(machine)
        last = {name: series.last for name, series in part.sensors.items()}
        return Newest(
            part.arrival_us,
            {
                name: LastValue(sensor=name, value=row[1], unit=part.sensors[name].unit, at=at(int(row[0])))
                for name, row in last.items()
                if row is not None
            },
        )

    def seed(self, edge: str) -> None:
        """Tell the journal what the edge has shown of sensors that the log brought nothing of yet.

        After a restart the first rows of a backfill would be taken for news otherwise.
        """
        try:
            parts = self._reported.of(edge).get("machines", {})
            shown = [(m, s, int(last["ts"])) for m, part in parts.items() for s, last in part["last"].items()]
        except (KeyError, TypeError, AttributeError, ValueError):
            return  # not such a report: the status says unknown
        for machine, sensor, time_us in shown:
            self._journal.show(machine, sensor, time_us)

    def stored(self, machine: str, latest: Sequence[Latest]) -> None:
        """The same with what the store has of a machine with no edge."""
        for each in latest:
            self._journal.show(machine, each.sensor, each.time_us)


def _report(edge: str, value: bytes | None) -> dict[str, Any]:
    """An edge's report; empty if it was deleted or can't be read."""
    if value is None:
        return {}
    try:
        report = orjson.loads(value)
    except orjson.JSONDecodeError:
        report = None
    if isinstance(report, dict):
        return report
    log.warning("an edge's report can't be read", edge=edge, head=value[:80].decode(errors="replace"))
    return {}
