"""Writing to InfluxDB: points first, then the books in one transaction.

A crash between the two leaves points whose rows the books do not hold. Their records come again, for the position was
not saved either; then such points count as not there, and what they overwrote was noted before. So a batch that is
written again comes to the same content and the same counts, however it is cut.

What is known of a series is trusted only while its machine's version in the books is the one it was read at. A member
that lost a partition without knowing it finds another version when it commits, and its batch is judged anew. What no
store without transactions can rule out: points that such a member sends after the new owner has overwritten the same
identities. That takes a pause longer than the log's session time-out between two steps of one write, and two values
for one identity; `ledger --audit` names it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from cloud.telemetry.influx.batch import Batch, Rows, needs, split, unmet
from cloud.telemetry.influx.client import InfluxClient
from cloud.telemetry.influx.encode import Encoder, payload_text
from cloud.telemetry.influx.points import KIND_AGGREGATE, KIND_READING
from cloud.telemetry.influx.settle import Row, Settled, settle
from cloud.telemetry.influx.stored import noted_points, stored_points
from cloud.telemetry.lateness import Ints, LateBounds
from cloud.telemetry.port import HOUR_US, MINUTE_US, Entry, WriteResult
from cloud.telemetry.sql.commit import Newest, StaleError, commit, ends, note
from cloud.telemetry.sql.known import Before, Known, Needs
from shared.clock import Clock
from shared.errors import Unavailable
from shared.names import REPLAYED
from shared.sqlalchemy import Database

_TRIES: Final = 3
_LINES: Final = 10_000
_IN_FLIGHT: Final = 2
"""Bodies on their way while the next one is made."""


class Writer:
    """The write side of one member. One write at a time; a cancelled one ends by itself."""

    def __init__(
        self, client: InfluxClient, books: Database, bounds: LateBounds, clock: Clock | None
    ) -> None:
        self._client = client
        self._books = books
        self._bounds = bounds
        self._clock = clock
        self._known = Known()
        self._encoder = Encoder(self._known)
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[WriteResult]] = set()

    async def write(self, entries: Sequence[Entry]) -> WriteResult:
        """See the port."""
        task = asyncio.create_task(self._write(entries))
        self._running.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Task[WriteResult]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: whoever asked may have gone

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _write(self, entries: Sequence[Entry]) -> WriteResult:
        async with self._turn:
            for _ in range(_TRIES):
                try:
                    return await self._once(entries)
                except StaleError:
                    self._forget()
                except BaseException:
                    self._forget()  # what was known of points and books may not be so
                    raise
        raise Unavailable("other members of ingest write the same machines")

    def _forget(self) -> None:
        self._known.forget()
        self._encoder.forget()

    async def _once(self, entries: Sequence[Entry]) -> WriteResult:
        known = self._known
        wanted = needs(entries)
        await self._look(wanted)
        batch = Batch(known)
        short, long = await asyncio.to_thread(self._judge, batch, entries)
        await self._post(short)
        free, settled = await self._settle(batch, long)
        await self._post(free)
        await self._post_others(settled.write)
        now_us = self._clock.now_us() if self._clock else None
        await asyncio.to_thread(self._conclude, batch, entries, (short, free), settled, now_us)
        await self._books.write(lambda connection: commit(connection, known, batch.commit))
        return batch.commit.total()

    async def _look(self, wanted: Needs) -> None:
        await self._books.read(lambda connection: self._known.look(connection, wanted))
        if self._known.lacks(wanted):
            await self._books.write(lambda connection: self._known.intern(connection, wanted))

    def _judge(self, batch: Batch, entries: Sequence[Entry]) -> tuple[Rows, Rows]:
        """Readings for the short way, counted, and those for the long one."""
        batch.take(entries)
        series = batch.series
        newest = np.array([self._known.series_of[one].newest_us for one in series.tolist()], np.int64)
        short, long = split(batch.rows, series, newest)
        batch.count_new(short)
        return short, long

    def _rows(self, rows: Rows, results: Sequence[WriteResult]) -> list[tuple[Row, WriteResult]]:
        known = self._known
        made = []
        for series, time_us, arrival, value, quality, origin, row, source, owner in zip(
            *(getattr(rows, name).tolist() for name in Rows.__slots__), strict=True
        ):
            payload = (value, quality, known.origin_of[origin][1])
            rank = (arrival, known.source_of[source].key[1], row)
            made.append((Row((series, time_us), payload, rank, source, origin), results[owner]))
        return made

    async def _post(self, rows: Rows) -> None:
        """Send rows, the next body being made while others are on their way."""
        free = asyncio.Semaphore(_IN_FLIGHT)

        async def send(bucket: str, body: bytes) -> None:
            try:
                await self._client.write(bucket, body)
            finally:
                free.release()

        try:
            async with asyncio.TaskGroup() as sending:
                for bucket, part in self._by_bucket(rows):
                    for start in range(0, len(part), _LINES):
                        await free.acquire()
                        body = await asyncio.to_thread(
                            self._encoder.readings, part.at(slice(start, start + _LINES))
                        )
                        sending.create_task(send(bucket, body))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    def _by_bucket(self, rows: Rows) -> list[tuple[str, Rows]]:
        """Rows by where they go; nearly always all to one bucket. Those whose time has expired go nowhere."""
        known, place = self._known, self._client.place
        if not len(rows):
            return []
        series, index = _runs(rows.series)
        buckets = [place.readings(known.series_of[one].machine) for one in series.tolist()]
        late = rows.time_us < known.expired_us
        parts = []
        for bucket in dict.fromkeys(buckets):
            chosen = np.array([one == bucket for one in buckets])[index]
            if bucket == place.bucket:
                chosen &= ~late
            parts.append((bucket, rows if chosen.all() else rows.at(chosen)))
        return parts

    async def _settle(self, batch: Batch, long: Rows) -> tuple[Rows, Settled]:
        """Readings that turned out to meet none, and what the others (and scores, aggregates) came to."""
        known = self._known
        if not len(long) and not batch.others:
            return long, Settled()
        identities = [*long.identities(), *(row.identity for row, _ in batch.others)]
        points = await stored_points(self._client, self._books, known, set(identities))
        noted = noted_points(known, identities)
        free, rest = await asyncio.to_thread(unmet, long, points.keys() | noted.keys())
        batch.count_new(free)
        rows = [*self._rows(rest, batch.results), *batch.others]
        settled = await asyncio.to_thread(settle, rows, points, noted, lambda row: batch.was_held(*row.place))
        if settled.before:
            images = [
                (row.identity, Before(row.origin, row.rank[2], row.rank[0], payload_text(row.payload)))
                for row in settled.before
            ]
            await self._books.write(lambda connection: note(connection, images))
        return free, settled

    async def _post_others(self, rows: Sequence[Row]) -> None:
        by_bucket: dict[str, list[Row]] = {}
        for row in rows:
            series, place = self._known.series_of[row.identity[0]], self._client.place
            if series.kind == KIND_AGGREGATE:
                bucket = place.rollups(series.machine, MINUTE_US)
            else:
                bucket = place.readings(series.machine)
                if bucket == place.bucket and row.identity[1] < self._known.expired_us:
                    continue
            by_bucket.setdefault(bucket, []).append(row)
        for bucket, part in by_bucket.items():
            for start in range(0, len(part), _LINES):
                body = await asyncio.to_thread(self._encoder.rows, part[start : start + _LINES])
                await self._client.write(bucket, body)

    def _conclude(
        self,
        batch: Batch,
        entries: Sequence[Entry],
        new: tuple[Rows, Rows],
        settled: Settled,
        now_us: int | None,
    ) -> None:
        """What the books are told beside rows and counts."""
        known, told = self._known, batch.commit
        short, free = new
        newest = self._newest(short, settled.changed)  # those of the long way that met none are not newer
        told.newest = [newest[series] for series in sorted(newest)]
        told.dirty = {
            (known.series_of[series].machine, hour) for series, hour in _hours(short) | _hours(free)
        }
        for row in settled.changed:
            series = known.series_of[row.identity[0]]
            if series.kind == KIND_READING:
                told.dirty.add((series.machine, row.identity[1] // HOUR_US * HOUR_US))
        told.dirty = {one for one in told.dirty if one[0].startswith(REPLAYED) or one[1] >= known.expired_us}
        told.settled = [
            identity
            for identity in settled.done
            if identity in known.machines[known.series_of[identity[0]].machine].before
        ]
        told.settled += [row.identity for row in settled.before]
        for kept, lost in settled.conflicts:
            series = known.series_of[kept.identity[0]]
            if series.kind == KIND_READING:
                told.conflicts.append(_conflict(series.machine, series.name, kept, lost))
        told.delays = batch.delays.counted(self._bounds, now_us)
        told.positions = ends(entries)
        for machine in told.machines:
            for identity in told.settled:
                known.machines[machine].before.pop(identity, None)

    def _newest(self, short: Rows, changed: Iterable[Row]) -> dict[int, Newest]:
        known = self._known
        found: dict[int, Newest] = {}
        last = np.append(short.series[1:] != short.series[:-1], [True] if len(short) else []).astype(bool)
        for series, time_us, arrival, value, quality, origin, *_ in zip(
            *(getattr(short, name)[last].tolist() for name in Rows.__slots__), strict=True
        ):
            found[series] = Newest(series, time_us, value, quality, known.origin_of[origin][1], arrival)
        for row in changed:
            series, time_us = row.identity
            state = known.series_of[series]
            best = found[series].time_us if series in found else state.newest_us
            if time_us < best:
                continue
            if state.kind == KIND_READING:
                value, quality, unit = row.payload
                found[series] = Newest(series, time_us, value, quality, unit, row.rank[0])  # type: ignore[arg-type]
            else:
                found[series] = Newest(series, time_us)
        return found


def _runs(series: Ints) -> tuple[Ints, Ints]:
    """The series of rows that stand in their order, each once, and which of them each row's is."""
    first = np.append(True, series[1:] != series[:-1])
    return series[first], np.cumsum(first) - 1


def _hours(rows: Rows) -> set[tuple[int, int]]:
    """(series, start of an hour) of rows that stand in order of series and time."""
    if not len(rows):
        return set()
    hour = rows.time_us // HOUR_US
    first = np.append([True], (rows.series[1:] != rows.series[:-1]) | (hour[1:] != hour[:-1]))
    return set(zip(rows.series[first].tolist(), (hour[first] * HOUR_US).tolist(), strict=True))


def _conflict(machine: str, sensor: str, kept: Row, lost: Row) -> dict[str, object]:
    return {
        "machine": machine,
        "sensor": sensor,
        "time_us": kept.identity[1],
        "kept_source": kept.source,
        "kept_row": kept.rank[2],
        "kept_value": kept.payload[0],
        "lost_source": lost.source,
        "lost_row": lost.rank[2],
        "lost_value": lost.payload[0],
    }
