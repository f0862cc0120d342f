"""Questions that the books answer."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from cloud.telemetry.lateness import Lateness, Stage
from cloud.telemetry.port import (
    ConflictFact,
    Counters,
    EventFact,
    Latest,
    Series,
    Source,
    StoredEvent,
    StoredRanges,
)
from cloud.telemetry.sql.tables import (
    CONFLICTS,
    COUNTERS,
    EVENTS,
    LATENESS,
    LAYOUTS,
    ORIGINS,
    POSITIONS,
    RANGES,
    SERIES,
    SOURCES,
    STORED,
)

COUNTS: str = "<i8"
"""A histogram's numbers in its column."""
Layouts = dict[int, tuple[str, float, str]]


def series(connection: Connection, machine: str | None, kinds: Sequence[int]) -> list[Series]:
    """Sensors with the unit of their newest reading."""
    query = sa.select(SERIES.c.machine, SERIES.c.name, SERIES.c.unit, SERIES.c.kind).where(
        SERIES.c.kind.in_(kinds)
    )
    if machine is not None:
        query = query.where(SERIES.c.machine == machine)
    found: dict[tuple[str, str], str] = {}
    for name_of, name, unit, kind in connection.execute(query.order_by(SERIES.c.kind.desc())):
        found[(name_of, name.partition("/")[0])] = unit if kind == 0 else ""
    return [Series(*key, unit) for key, unit in sorted(found.items())]


def newest(connection: Connection, machine: str) -> list[tuple[Series, int]]:
    """A machine's sensors that have readings, and the time of each one's newest."""
    query = (
        sa.select(SERIES.c.name, SERIES.c.unit, SERIES.c.time_us)
        .where(SERIES.c.machine == machine, SERIES.c.kind == 0)
        .order_by(SERIES.c.name)
    )
    return [(Series(machine, name, unit), time_us or 0) for name, unit, time_us in connection.execute(query)]


def latest(connection: Connection, machine: str) -> list[Latest]:
    """Each sensor's newest reading."""
    query = (
        sa.select(
            SERIES.c.name,
            SERIES.c.unit,
            SERIES.c.time_us,
            SERIES.c.value,
            SERIES.c.quality,
            SERIES.c.arrival_us,
        )
        .where(SERIES.c.machine == machine, SERIES.c.kind == 0, SERIES.c.time_us.is_not(None))
        .order_by(SERIES.c.name)
    )
    return [Latest(*row) for row in connection.execute(query)]


def origins(connection: Connection) -> dict[int, tuple[Source, str]]:
    """Whose rows, and in which unit, each origin stands for."""
    query = sa.select(ORIGINS.c.id, SOURCES.c.edge, SOURCES.c.epoch, ORIGINS.c.unit).join(
        SOURCES, SOURCES.c.id == ORIGINS.c.source
    )
    return {key: (Source(edge, bytes(epoch)), unit) for key, edge, epoch, unit in connection.execute(query)}


def layouts(connection: Connection) -> Layouts:
    """Model, limit and sensors (JSON) of each layout of scores."""
    return {key: (model, limit, names) for key, model, limit, names in connection.execute(sa.select(LAYOUTS))}


def events(
    connection: Connection,
    machine: str | None,
    types: Sequence[str],
    since_us: int,
    limit: int,
    *,
    after_seq: int | None,
    before: tuple[int, int] | None,
    until_seq: int | None = None,
) -> list[StoredEvent]:
    """Newest first by time, or after `after_seq` in the order in which they were stored."""
    query = sa.select(EVENTS).where(EVENTS.c.occurred_us >= since_us)
    if machine is not None:
        query = query.where(EVENTS.c.machine == machine)
    if types:
        query = query.where(EVENTS.c.type.in_(types))
    if before is not None:
        query = query.where(sa.tuple_(EVENTS.c.occurred_us, EVENTS.c.seq) < sa.tuple_(*before))
    if until_seq is not None:
        query = query.where(EVENTS.c.seq <= until_seq)
    if after_seq is not None:
        query = query.where(EVENTS.c.seq > after_seq).order_by(EVENTS.c.seq)
    else:
        query = query.order_by(EVENTS.c.occurred_us.desc(), EVENTS.c.seq.desc())
    return [
        StoredEvent(row.seq, EventFact(row.id, row.type, row.machine, row.occurred_us, bytes(row.json)))
        for row in connection.execute(query.limit(limit))
    ]


def last_event(connection: Connection) -> int:
    """The newest event's place in the order; 0 if there is none."""
    return connection.execute(sa.select(sa.func.max(EVENTS.c.seq))).scalar() or 0


def stored_ranges(connection: Connection, edge: str | None) -> dict[Source, StoredRanges]:
    """Merged row ranges of each source."""
    query = sa.select(SOURCES.c.edge, SOURCES.c.epoch, RANGES.c.outcome, RANGES.c.first, RANGES.c.last).join(
        SOURCES, SOURCES.c.id == RANGES.c.source
    )
    if edge is not None:
        query = query.where(SOURCES.c.edge == edge)
    found: dict[Source, StoredRanges] = {}
    for name, epoch, outcome, first, last in connection.execute(
        query.order_by(RANGES.c.source, RANGES.c.outcome, RANGES.c.first)
    ):
        ranges = found.setdefault(Source(name, bytes(epoch)), StoredRanges())
        (ranges.stored if outcome == STORED else ranges.rejected).add(first, last)
    return found


def counters(connection: Connection) -> dict[Source, Counters]:
    """Counters of each source."""
    return {
        Source(edge, bytes(epoch)): Counters(*rest)
        for edge, epoch, *rest in connection.execute(sa.select(COUNTERS))
    }


def late_rows(connection: Connection, where: Any) -> Iterator[tuple[int, Stage, Lateness]]:  # noqa: ANN401 - a condition
    """Delays by the source's number."""
    for source, stage, bound_us, count, late, longest_us, counts in connection.execute(
        sa.select(LATENESS).where(where)
    ):
        histogram = np.frombuffer(counts, COUNTS).astype(np.int64)
        yield source, stage, Lateness(bound_us, count, late, longest_us, histogram)


def lateness(connection: Connection) -> dict[Source, dict[Stage, Lateness]]:
    """Delays of each source at each stage."""
    names = {
        key: Source(edge, bytes(epoch))
        for key, edge, epoch in connection.execute(sa.select(SOURCES.c.id, SOURCES.c.edge, SOURCES.c.epoch))
    }
    found: dict[Source, dict[Stage, Lateness]] = {}
    for source, stage, one in late_rows(connection, sa.true()):
        found.setdefault(names[source], {})[stage] = one
    return found


def conflicts(connection: Connection, limit: int) -> list[ConflictFact]:
    """The newest conflicts."""
    names = {
        key: Source(edge, bytes(epoch))
        for key, edge, epoch in connection.execute(sa.select(SOURCES.c.id, SOURCES.c.edge, SOURCES.c.epoch))
    }
    return [
        ConflictFact(
            row.machine,
            row.sensor,
            row.time_us,
            (names[row.kept_source], row.kept_row),
            row.kept_value,
            (names[row.lost_source], row.lost_row),
            row.lost_value,
        )
        for row in connection.execute(sa.select(CONFLICTS).order_by(CONFLICTS.c.seq.desc()).limit(limit))
    ]


def positions(connection: Connection) -> dict[str, dict[str, int]]:
    """Topic to partition to offset."""
    found: dict[str, dict[str, int]] = {}
    for topic, partition, offset in connection.execute(sa.select(POSITIONS)):
        found.setdefault(topic, {})[partition] = offset
    return found
