"""The transaction that ends a write: what the points came to, kept in the books all at once or not at all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from cloud.telemetry.lateness import Counted, Lateness
from cloud.telemetry.port import Entry, EventFact, WriteResult
from cloud.telemetry.sql.dirty import touch
from cloud.telemetry.sql.known import Before, Key, Known, SourceState, chunks, insert, read_held
from cloud.telemetry.sql.reading import COUNTS
from cloud.telemetry.sql.tables import (
    CONFLICTS,
    CONFLICTS_KEPT,
    COUNTERS,
    EVENTS,
    LATENESS,
    MACHINES,
    OVERWRITTEN,
    POSITIONS,
    RANGES,
    REJECTED,
    SERIES,
    SOURCES,
    STORED,
)
from shared.ranges import RangeSet

_EVENTS_LOCK: Final = 0x1D4A7E
"""Events are numbered in the order in which they become visible: of several members one writes them at a time."""

Ended = tuple[int, int, bool]
"""First row, last row, and whether they were rejected."""


class StaleError(Exception):
    """Another member wrote the same machine or rows since the books were looked at: judge the batch anew."""


@dataclass(frozen=True, slots=True)
class Newest:
    """A series' newest point. For scores and aggregates only its time counts."""

    series: int
    time_us: int
    value: float | None = None
    quality: int | None = None
    unit: str = ""
    arrival_us: int | None = None


@dataclass(slots=True)
class Commit:
    """What a batch came to."""

    results: dict[Key, WriteResult] = field(default_factory=dict)
    machines: set[str] = field(default_factory=set)
    rows: dict[Key, list[Ended]] = field(default_factory=dict)
    events: list[tuple[EventFact, WriteResult]] = field(default_factory=list)
    conflicts: list[dict[str, object]] = field(default_factory=list)
    delays: list[Counted] = field(default_factory=list)
    newest: list[Newest] = field(default_factory=list)
    dirty: set[tuple[str, int]] = field(default_factory=set)
    settled: list[tuple[int, int]] = field(default_factory=list)
    positions: dict[tuple[str, str], int] = field(default_factory=dict)

    def result(self, key: Key) -> WriteResult:
        """The counts of a source."""
        return self.results.setdefault(key, WriteResult())

    def total(self) -> WriteResult:
        """The counts of all."""
        total = WriteResult()
        for one in self.results.values():
            total.rows += one.rows
            total.duplicates += one.duplicates
            total.conflicts += one.conflicts
            total.redelivered += one.redelivered
            total.rejected += one.rejected
        return total


def commit(connection: Connection, known: Known, batch: Commit) -> None:
    """Save a batch. Raises StaleError. `known` is to be forgotten if this raises or the transaction fails."""
    _machines(connection, known, batch.machines)
    _sources(connection, known, batch)
    _events(connection, batch.events)
    _counters(connection, batch.results)
    if batch.conflicts:
        connection.execute(sa.insert(CONFLICTS), batch.conflicts)
        newest = sa.select(sa.func.max(CONFLICTS.c.seq)).scalar_subquery()
        connection.execute(sa.delete(CONFLICTS).where(CONFLICTS.c.seq <= newest - CONFLICTS_KEPT))
    _newest(connection, known, batch.newest)
    touch(connection, batch.dirty)
    for series, time_us in batch.settled:
        connection.execute(
            sa.delete(OVERWRITTEN).where(OVERWRITTEN.c.series == series, OVERWRITTEN.c.time_us == time_us)
        )
    _positions(connection, batch.positions)


def note(connection: Connection, points: Iterable[tuple[tuple[int, int], Before]]) -> None:
    """Keep points, by series and time, as they are before they are overwritten."""
    connection.execute(
        sa.insert(OVERWRITTEN),
        [
            {
                "series": series,
                "time_us": time_us,
                "origin": one.origin,
                "row": one.row,
                "arrival_us": one.arrival_us,
                "payload": one.payload,
            }
            for (series, time_us), one in points
        ],
    )


def ends(entries: Iterable[Entry]) -> dict[tuple[str, str], int]:
    """The last offset of each partition."""
    found: dict[tuple[str, str], int] = {}
    for entry in entries:
        place = (entry.record.topic, entry.record.partition)
        found[place] = max(found.get(place, 0), entry.record.offset)
    return found


def _machines(connection: Connection, known: Known, machines: Iterable[str]) -> None:
    wanted = sorted(machines)
    for part in chunks(wanted):
        of_part = MACHINES.c.machine.in_(part)
        query = sa.select(MACHINES).where(of_part).order_by(MACHINES.c.machine).with_for_update()
        for machine, version in connection.execute(query):
            if known.machines[machine].version != version:
                raise StaleError
        connection.execute(sa.update(MACHINES).where(of_part).values(version=MACHINES.c.version + 1))
    for machine in wanted:
        known.machines[machine].version += 1


def _sources(connection: Connection, known: Known, batch: Commit) -> None:
    """Ranges and delays, in the order of the sources' numbers, which every member locks them in."""
    late = {key for key, *_ in batch.delays}
    states = {known.sources[key].id: known.sources[key] for key in {*batch.rows, *late}}
    for part in chunks(sorted(states)):
        of_part = SOURCES.c.id.in_(part)
        query = sa.select(SOURCES.c.id, SOURCES.c.version).where(of_part).order_by(SOURCES.c.id)
        for key, version in connection.execute(query.with_for_update()):
            if states[key].version != version:
                states[key] = _current(connection, known, states[key], version, batch.rows)
        connection.execute(sa.update(SOURCES).where(of_part).values(version=SOURCES.c.version + 1))
    for state in states.values():
        state.version += 1
        _ranges(connection, state, batch.rows.get(state.key, ()))
    for key, stage, bound_us, found in batch.delays:
        total = known.sources[key].late.setdefault(stage, Lateness(bound_us))
        total.bound_us = bound_us
        total.add(*found)
    _lateness(connection, [known.sources[key] for key in sorted(late)])


def _current(
    connection: Connection, known: Known, old: SourceState, version: int, rows: Mapping[Key, list[Ended]]
) -> SourceState:
    """The source as another member left it, who wrote rows of other machines; if it wrote these, they are judged anew."""
    state = SourceState(old.id, old.key, version)
    read_held(connection, {state.id: state})
    for first, last, refused in rows.get(state.key, ()):
        if len(RangeSet(state.held.fresh(first, last, refused=refused))) != last - first + 1:
            raise StaleError
    known.sources[state.key] = known.source_of[state.id] = state
    return state


def _ranges(connection: Connection, state: SourceState, rows: Iterable[Ended]) -> None:
    before = _table(state)
    for first, last, refused in rows:
        state.held.add(first, last, refused=refused)
    after = _table(state)
    for outcome, first, _ in before - after:
        connection.execute(
            sa.delete(RANGES).where(
                RANGES.c.source == state.id, RANGES.c.outcome == outcome, RANGES.c.first == first
            )
        )
    new = [
        {"source": state.id, "outcome": outcome, "first": first, "last": last}
        for outcome, first, last in after - before
    ]
    if new:
        connection.execute(sa.insert(RANGES), new)


def _table(state: SourceState) -> set[tuple[int, int, int]]:
    return {
        *((STORED, first, last) for first, last in state.held.stored),
        *((REJECTED, first, last) for first, last in state.held.rejected),
    }


def _lateness(connection: Connection, states: Iterable[SourceState]) -> None:
    rows = [
        {
            "source": state.id,
            "stage": stage,
            "bound_us": one.bound_us,
            "rows": one.rows,
            "late": one.late,
            "longest_us": one.longest_us,
            "counts": one.counts.astype(COUNTS).tobytes(),
        }
        for state in states
        for stage, one in state.late.items()
    ]
    _upsert(connection, LATENESS, rows, lambda new: {name: new[name] for name in list(new.keys())[2:]})


def _events(connection: Connection, events: Iterable[tuple[EventFact, WriteResult]]) -> None:
    locked = False
    for fact, result in events:
        if not locked and connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _EVENTS_LOCK})
        locked = True
        row = {
            "id": fact.id,
            "type": fact.type,
            "machine": fact.machine,
            "occurred_us": fact.occurred_us,
            "json": fact.json,
        }
        statement = insert(connection, EVENTS).on_conflict_do_nothing().returning(EVENTS.c.seq)
        new = connection.execute(statement, row).first() is not None
        result.rows += new
        result.duplicates += not new


def _counters(connection: Connection, results: Mapping[Key, WriteResult]) -> None:
    rows = [
        {
            "edge": edge,
            "epoch": epoch,
            "duplicates": r.duplicates,
            "conflicts": r.conflicts,
            "redelivered": r.redelivered,
        }
        for (edge, epoch), r in sorted(results.items())
        if r.duplicates or r.conflicts or r.redelivered
    ]
    _upsert(
        connection,
        COUNTERS,
        rows,
        lambda new: {
            name: COUNTERS.c[name] + new[name] for name in ("duplicates", "conflicts", "redelivered")
        },
    )


def _newest(connection: Connection, known: Known, newest: Iterable[Newest]) -> None:
    rows = [
        {
            "series": one.series,
            "at": one.time_us,
            "number": one.value,
            "mark": one.quality,
            "in_unit": one.unit,
            "came": one.arrival_us,
        }
        for one in newest
    ]
    if rows:
        connection.execute(
            sa.update(SERIES)
            .where(SERIES.c.id == sa.bindparam("series"))
            .values(
                time_us=sa.bindparam("at"),
                value=sa.bindparam("number"),
                quality=sa.bindparam("mark"),
                unit=sa.bindparam("in_unit"),
                arrival_us=sa.bindparam("came"),
            ),
            rows,
        )
    known.reached({one.series: one.time_us for one in newest})


def _positions(connection: Connection, positions: Mapping[tuple[str, str], int]) -> None:
    rows = [
        {"topic": topic, "partition": partition, "offset": offset}
        for (topic, partition), offset in sorted(positions.items())
    ]
    _upsert(
        connection,
        POSITIONS,
        rows,
        lambda new: {
            "offset": sa.case((new.offset > POSITIONS.c.offset, new.offset), else_=POSITIONS.c.offset)
        },
    )


def _upsert(
    connection: Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, object]],
    change: Any,  # noqa: ANN401 - a function of the dialect's excluded row
) -> None:
    if not rows:
        return
    statement = insert(connection, table)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key), set_=change(statement.excluded)
        ),
        list(rows),
    )
