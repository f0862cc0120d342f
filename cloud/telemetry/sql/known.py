"""What a writer knows of the books: ids, versions, row ranges, newest times. Read when first met, kept while current.

A machine's and a source's row carry a version that every commit raises. A writer looks at the versions before it judges
rows by what it knows, and again, under a lock, when it commits: so another member that has written the same machine or
source in between (a partition that moved) is always noticed, and what was known of it is read anew.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from cloud.telemetry.held import Held
from cloud.telemetry.lateness import Ints, Lateness, Stage
from cloud.telemetry.sql.reading import late_rows
from cloud.telemetry.sql.tables import (
    EXPIRED,
    LATENESS,
    LAYOUTS,
    MACHINES,
    ORIGINS,
    OVERWRITTEN,
    RANGES,
    SERIES,
    SOURCES,
    STORED,
)

Key = tuple[str, bytes]
"""Edge and epoch."""
SeriesKey = tuple[int, str]
"""Kind and name, in a machine."""
LayoutKey = tuple[str, float, str]

NEVER: Final = -(2**63)
_MOST: Final = 200_000
"""Series and sources that are kept at once; then all are forgotten."""
_IN: Final = 5_000


@dataclass(slots=True)
class SourceState:
    """A source's row, its ranges and its delays, as of `version`."""

    id: int
    key: Key
    version: int
    held: Held = field(default_factory=Held)
    late: dict[Stage, Lateness] = field(default_factory=dict)


@dataclass(slots=True)
class SeriesState:
    """A series' number, and the greatest time that it has a point of."""

    id: int
    machine: str
    kind: int
    name: str
    newest_us: int = NEVER


@dataclass(frozen=True, slots=True)
class Before:
    """A point as it was before an unsettled write."""

    origin: int
    row: int
    arrival_us: int
    payload: str


@dataclass(slots=True)
class MachineState:
    """A machine's series as of `version`, and what an unsettled write of it overwrote."""

    version: int
    series: dict[SeriesKey, SeriesState] = field(default_factory=dict)
    before: dict[tuple[int, int], Before] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a batch names."""

    machines: frozenset[str]
    sources: frozenset[Key]
    series: frozenset[tuple[str, int, str]]
    origins: frozenset[tuple[Key, str]]
    layouts: frozenset[LayoutKey]


class Known:
    """Caches over the books; its methods run in the database's threads, one at a time."""

    def __init__(self) -> None:
        self.machines: dict[str, MachineState] = {}
        self.sources: dict[Key, SourceState] = {}
        self.source_of: dict[int, SourceState] = {}
        self.origins: dict[tuple[int, str], int] = {}
        self.origin_of: dict[int, tuple[int, str]] = {}
        self.layouts: dict[LayoutKey, int] = {}
        self.series_of: dict[int, SeriesState] = {}
        self.frames: dict[tuple[str, int, tuple[str, ...], tuple[str, ...]], tuple[Ints, Ints]] = {}
        """Series and origins of the sensors of a frame, by machine, source, sensors and units."""
        self.expired_us = 0

    def forget(self) -> None:
        """Drop everything."""
        self.machines.clear()
        self.sources.clear()
        self.source_of.clear()
        self.origins.clear()
        self.origin_of.clear()
        self.layouts.clear()
        self.series_of.clear()
        self.frames.clear()

    def reached(self, times: Mapping[int, int]) -> None:
        """Series have points up to these times."""
        for series, time_us in times.items():
            state = self.series_of[series]
            state.newest_us = max(state.newest_us, time_us)

    def look(self, connection: Connection, needs: Needs) -> None:
        """Bring what is known of a batch's machines and sources up to the books."""
        if len(self.series_of) + len(self.frames) + len(self.sources) + len(self.origins) > _MOST:
            self.forget()
        expired = sa.select(EXPIRED.c.before_us).where(EXPIRED.c.what == "raw")
        self.expired_us = connection.execute(expired).scalar() or 0
        self._look_machines(connection, needs.machines)
        keys = [list(key) for key in needs.sources]
        self._look_sources(connection, keys, sa.tuple_(SOURCES.c.edge, SOURCES.c.epoch))
        if any(origin not in self.origins for origin in self._origins(needs)):
            wanted = {self.sources[key].id for key, _ in needs.origins if key in self.sources}
            self._take_origins(connection, ORIGINS.c.source, wanted)
        if any(layout not in self.layouts for layout in needs.layouts):
            self.layouts = {(m, limit, s): key for key, m, limit, s in connection.execute(sa.select(LAYOUTS))}

    def look_origins(self, connection: Connection, origins: Collection[int]) -> None:
        """Know what stored points' origins mean, and their sources as they are now."""
        self._take_origins(connection, ORIGINS.c.id, {one for one in origins if one not in self.origin_of})
        sources = {self.origin_of[one][0] for one in origins if one in self.origin_of}
        self._look_sources(connection, list(sources), SOURCES.c.id)

    def lacks(self, needs: Needs) -> bool:
        """Whether the books have no number yet for something."""
        return (
            any(machine not in self.machines for machine in needs.machines)
            or any(key not in self.sources for key in needs.sources)
            or any((kind, name) not in self.machines[machine].series for machine, kind, name in needs.series)
            or any(origin not in self.origins for origin in self._origins(needs))
            or any(layout not in self.layouts for layout in needs.layouts)
        )

    def intern(self, connection: Connection, needs: Needs) -> None:
        """Give numbers to what has none. Another member may do the same at the same time."""
        add(connection, MACHINES, [{"machine": one, "version": 0} for one in sorted(needs.machines)])
        add(connection, SOURCES, [{"edge": e, "epoch": b, "version": 0} for e, b in sorted(needs.sources)])
        add(
            connection,
            SERIES,
            [
                {"machine": m, "kind": kind, "name": name, "unit": ""}
                for m, kind, name in sorted(needs.series)
            ],
        )
        add(
            connection,
            LAYOUTS,
            [{"model": m, "alarm_limit": limit, "sensors": s} for m, limit, s in sorted(needs.layouts)],
        )
        for key in needs.sources:
            self.sources.pop(key, None)
        for machine in needs.machines:
            self.machines.pop(machine, None)
        self.look(connection, needs)
        pairs = sorted((self.sources[key].id, unit) for key, unit in needs.origins)
        add(connection, ORIGINS, [{"source": source, "unit": unit} for source, unit in pairs])
        self._take_origins(connection, ORIGINS.c.source, {source for source, _ in pairs})

    def drop(self, machines: Iterable[str], sources: Iterable[Key]) -> None:
        """Forget what may be out of date."""
        for machine in machines:
            self.machines.pop(machine, None)
        for key in sources:
            self.sources.pop(key, None)

    def _origins(self, needs: Needs) -> Iterable[tuple[int, str]]:
        return ((self.sources[key].id if key in self.sources else -1, unit) for key, unit in needs.origins)

    def _look_machines(self, connection: Connection, machines: Collection[str]) -> None:
        found: dict[str, int] = {}
        for part in chunks(sorted(machines)):
            query = sa.select(MACHINES).where(MACHINES.c.machine.in_(part))
            found |= {machine: version for machine, version in connection.execute(query)}  # noqa: C416 - rows are no pairs
        stale = []
        for machine, version in found.items():
            state = self.machines.get(machine)
            if state is None or state.version != version:
                self.machines[machine] = MachineState(version)
                stale.append(machine)
        for part in chunks(stale):
            for row in connection.execute(sa.select(SERIES).where(SERIES.c.machine.in_(part))):
                newest = NEVER if row.time_us is None else row.time_us
                series = SeriesState(row.id, row.machine, row.kind, row.name, newest)
                self.machines[row.machine].series[(row.kind, row.name)] = self.series_of[row.id] = series
            query = (
                sa.select(OVERWRITTEN, SERIES.c.machine)
                .join(SERIES, SERIES.c.id == OVERWRITTEN.c.series)
                .where(SERIES.c.machine.in_(part))
            )
            for row in connection.execute(query):
                before = Before(row.origin, row.row, row.arrival_us, row.payload)
                self.machines[row.machine].before[(row.series, row.time_us)] = before

    def _look_sources(self, connection: Connection, wanted: Sequence[Any], column: Any) -> None:  # noqa: ANN401 - a column or a tuple of them
        stale = {}
        for part in chunks(wanted):
            for key, edge, epoch, version in connection.execute(sa.select(SOURCES).where(column.in_(part))):
                state = self.sources.get((edge, bytes(epoch)))
                if state is None or state.version != version:
                    stale[key] = self.sources[(edge, bytes(epoch))] = SourceState(
                        key, (edge, bytes(epoch)), version
                    )
                    self.source_of[key] = stale[key]
        read_held(connection, stale)

    def _take_origins(self, connection: Connection, column: sa.Column[Any], wanted: Collection[int]) -> None:
        for part in chunks(sorted(wanted)):
            for key, source, unit in connection.execute(sa.select(ORIGINS).where(column.in_(part))):
                self.origins[(source, unit)] = key
                self.origin_of[key] = (source, unit)


def read_held(connection: Connection, states: Mapping[int, SourceState]) -> None:
    """Fill in ranges and delays of sources by their numbers."""
    for part in chunks(sorted(states)):
        query = sa.select(RANGES).where(RANGES.c.source.in_(part)).order_by(RANGES.c.first)
        for source, outcome, first, last in connection.execute(query):
            held = states[source].held
            (held.stored if outcome == STORED else held.rejected).add(first, last)
        for source, stage, one in late_rows(connection, LATENESS.c.source.in_(part)):
            states[source].late[stage] = one


def chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Parts that a statement can name."""
    return (items[start : start + _IN] for start in range(0, len(items), _IN))


def insert(connection: Connection, table: sa.Table) -> Any:  # noqa: ANN401 - either dialect's own, with the same methods
    """An INSERT that knows ON CONFLICT."""
    make: Callable[[sa.Table], Any] = (
        postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    )
    return make(table)


def add(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows that are not there."""
    if rows:
        connection.execute(insert(connection, table).on_conflict_do_nothing(), rows)
