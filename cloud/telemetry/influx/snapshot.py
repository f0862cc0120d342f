"""The store as the books had it at one moment."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from cloud.telemetry.influx.client import InfluxClient
from cloud.telemetry.influx.reader import InfluxReader
from cloud.telemetry.lateness import ByStage
from cloud.telemetry.port import (
    BEGIN_US,
    END_US,
    Columns,
    Counters,
    Source,
    StoredEvent,
    StoredRanges,
)
from cloud.telemetry.sql import reading as books
from shared.ranges import RangeSet
from shared.sqlalchemy import Database


@dataclass(frozen=True, slots=True)
class Moment:
    """What the books held."""

    ranges: Mapping[Source, StoredRanges]
    counters: Mapping[Source, Counters]
    lateness: Mapping[Source, ByStage]
    positions: Mapping[str, Mapping[str, int]]
    last_event: int


def take(connection: Connection) -> Moment:
    """The books now."""
    return Moment(
        books.stored_ranges(connection, None),
        books.counters(connection),
        books.lateness(connection),
        books.positions(connection),
        books.last_event(connection),
    )


class InfluxSnapshot(InfluxReader):
    """Readings, events, ranges, counts and positions of one moment; what else is asked is as of now."""

    def __init__(self, client: InfluxClient, database: Database, moment: Moment) -> None:
        super().__init__(client, database)
        self._moment = moment

    async def readings(
        self, machine: str, sensor: str, from_us: int, to_us: int, limit: int, *, newest: bool = False
    ) -> Columns:
        """See the port."""
        found = await super().readings(machine, sensor, from_us, to_us, limit, newest=newest)
        return self._then(found)

    async def columns(
        self,
        machine: str,
        sensors: Sequence[str] | None = None,
        from_us: int = BEGIN_US,
        to_us: int = END_US,
        *,
        chunk: int = 100_000,
    ) -> AsyncIterator[Columns]:
        """See the port."""
        async for part in super().columns(machine, sensors, from_us, to_us, chunk=chunk):
            if len(kept := self._then(part)):
                yield kept

    async def events(
        self,
        machine: str | None = None,
        types: Sequence[str] = (),
        since_us: int = BEGIN_US,
        limit: int = 1000,
        *,
        after_seq: int | None = None,
        before: tuple[int, int] | None = None,
    ) -> list[StoredEvent]:
        """See the port."""
        until = self._moment.last_event
        return await self._books.read(
            lambda connection: books.events(
                connection,
                machine,
                types,
                since_us,
                limit,
                after_seq=after_seq,
                before=before,
                until_seq=until,
            )
        )

    async def stored_ranges(self, edge: str | None = None) -> Mapping[Source, StoredRanges]:
        """See the port."""
        ranges = self._moment.ranges
        return {source: one for source, one in ranges.items() if edge is None or source.edge == edge}

    async def counters(self) -> Mapping[Source, Counters]:
        """See the port."""
        return self._moment.counters

    async def lateness(self) -> Mapping[Source, ByStage]:
        """See the port."""
        return self._moment.lateness

    async def positions(self) -> Mapping[str, Mapping[str, int]]:
        """See the port."""
        return self._moment.positions

    def _then(self, part: Columns) -> Columns:
        """The rows that the books held."""
        kept = np.zeros(len(part), np.bool_)
        for index, source in enumerate(part.sources):
            chosen = part.source == index
            held = self._moment.ranges.get(source)
            if held is not None:
                kept[chosen] = _within(held.stored, part.row[chosen])
        if kept.all():
            return part
        return Columns(
            part.sensors,
            part.units,
            part.sources,
            part.sensor[kept],
            part.time_us[kept],
            part.value[kept],
            part.quality[kept],
            part.unit[kept],
            part.arrival_us[kept],
            part.source[kept],
            part.row[kept],
        )


def _within(rows: RangeSet, row: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not rows:
        return np.zeros(len(row), np.bool_)
    edges = np.array(list(rows), np.int64)
    place = np.searchsorted(edges[:, 0], row, side="right") - 1
    inside: NDArray[np.bool_] = (place >= 0) & (row <= edges[place, 1])
    return inside
