"""The audit: log and store are read again from the first record, and no stage is believed on its own word.

Each stage is compared with the one before it: an edge's tally at the cut with the frames in the log (and in the
outbox, where its file can be read), the log's rows with the store's. Traffic may go on: edges are asked first, the
store is read as of one moment after that, and the log to its end after that moment; rows that only the later ones
can know are not judged.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.ledger.audit_edge import EdgeDifference, copies_of, differences, findings_of
from cloud.ledger.audit_log import LogReading, compare_copies, copy_finding
from cloud.ledger.audit_store import HourDifference, StoreComparison
from cloud.ledger.logic import (
    REBUILD,
    TOPICS,
    Held,
    SourceFold,
    judge,
    rows_finding,
    unaccounted,
)
from cloud.ledger.outbox import read_outbox
from cloud.ledger.report import AuditReport, EdgeReport, Finding, size, without
from cloud.ledger.workspace import Workspace
from cloud.telemetry.port import Columns, Source, StoredRanges, TelemetryReader, TelemetryStore
from shared.clock import Clock, SystemClock
from shared.errors import Unavailable
from shared.eventlog import EventLog, Position, Stored
from shared.events import at as moment
from shared.ranges import Range, RangeSet

_CHUNK: Final = 64
_POLL_SECONDS: Final = 0.2


@dataclass(slots=True)
class _Edges:
    """What the edges say, by report or by file."""

    reports: dict[str, EdgeReport]
    local: frozenset[str] = frozenset()
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def audit(
    log: EventLog,
    store: TelemetryStore,
    edge_reports: Mapping[str, EdgeReport],
    *,
    outboxes: Mapping[str, Path] | None = None,
    folder: Path | None = None,
    catch_up_seconds: float = 30.0,
    clock: Clock | None = None,
) -> AuditReport:
    """Compare every stage and name what differs.

    Args:
        log: The event log.
        store: The telemetry store; open for reading is enough.
        edge_reports: What each edge last reported. Take the reports before calling.
        outboxes: Edge to its outbox's file, where that is on this machine and the edge is stopped.
        folder: Where the scratch file goes: about as large as the store. The system's temporary folder by default.
        catch_up_seconds: How long rows that the log has may take to reach the store.
        clock: Time.

    Raises:
        Unavailable: Log or store can't be read now.
    """
    timer = clock or SystemClock()
    with tempfile.TemporaryDirectory(prefix="ledger-audit-", dir=folder) as scratch:
        work = Workspace(Path(scratch) / "audit.db")
        try:
            edges = _ask_edges(edge_reports, outboxes or {}, work, timer)
            async with store.snapshot() as snapshot:
                claimed = await snapshot.stored_ranges()
                reading = LogReading(work, claimed, edges.reports, edges.local)
                await _read_log(log, reading)
                comparison = StoreComparison(work, snapshot, _Counted(reading, claimed))
                hours = await _compare(comparison, work, snapshot)
            return await _Verdict(log, store, work, edges, reading, timer).report(
                comparison, hours, catch_up_seconds
            )
        finally:
            work.close()


def _ask_edges(
    reports: Mapping[str, EdgeReport], outboxes: Mapping[str, Path], work: Workspace, clock: Clock
) -> _Edges:
    edges = _Edges(dict(reports))
    for edge, path in outboxes.items():
        try:
            report, findings = read_outbox(edge, path, work, clock.now_us())
        except Unavailable as error:
            edges.notes.append(f"{error}; its last report is used")
            continue
        edges.reports[edge] = report
        edges.local |= {edge}
        edges.findings += findings
    return edges


async def _read_log(log: EventLog, reading: LogReading) -> None:
    for topic in TOPICS:
        end = await log.end(topic)
        chunk: list[Stored] = []
        async with _closing(log.read(topic)) as records:
            async for record in records:
                if record.offset > end.get(record.partition, 0):
                    continue  # other partitions may have more to come
                chunk.append(record)
                if len(chunk) >= _CHUNK:
                    await asyncio.to_thread(reading.take, chunk)
                    chunk = []
        await asyncio.to_thread(reading.take, chunk)
        reading.fold.reach(topic, end)


@asynccontextmanager
async def _closing(records: AsyncIterator[Stored]) -> AsyncIterator[AsyncIterator[Stored]]:
    """Ends the reading where it is left before its end."""
    try:
        yield records
    finally:
        if isinstance(records, AsyncGenerator):
            await records.aclose()


class _Counted:
    """Which of the store's rows the log can be asked for: not those that it lost or that have aged out of it."""

    def __init__(self, reading: LogReading, claimed: Mapping[Source, StoredRanges]) -> None:
        self._gone = {
            source: RangeSet(
                without(list(ranges.stored), reading.fold.sources.get(source, SourceFold()).logged)
            )
            for source, ranges in claimed.items()
        }

    def __call__(self, part: Columns) -> NDArray[np.bool_]:
        mask = np.ones(len(part), np.bool_)
        for index in np.unique(part.source).tolist():
            gone = self._gone.get(part.sources[index])
            if not gone:
                continue
            for at in np.flatnonzero(part.source == index).tolist():
                row = int(part.row[at])
                mask[at] = not gone.covers(row, row)
        return mask


async def _compare(
    comparison: StoreComparison, work: Workspace, snapshot: TelemetryReader
) -> list[HourDifference]:
    machines = {*work.machines(), *(one.machine for one in await snapshot.series())}
    return [hour for machine in sorted(machines) for hour in await comparison.compare(machine)]


class _Verdict:
    """Puts the comparisons together, each difference under the one stage where it arose."""

    def __init__(
        self,
        log: EventLog,
        store: TelemetryStore,
        work: Workspace,
        edges: _Edges,
        reading: LogReading,
        clock: Clock,
    ) -> None:
        self._log = log
        self._store = store
        self._work = work
        self._edges = edges
        self._reading = reading
        self._clock = clock
        self._notes = list(edges.notes)

    async def report(
        self, comparison: StoreComparison, hours: Sequence[HourDifference], catch_up_seconds: float
    ) -> AuditReport:
        """The report."""
        ranges, unstored = await self._catch_up(catch_up_seconds)
        held = (await Held.by(self._store, caught_up=False))._replace(ranges=ranges)
        base = judge(self._reading.fold, self._edges.reports, held, self._clock.now_us())
        edge_side, compared = self._edge_differences()
        hours, relabelled, edge_side = _same_difference(hours, edge_side)
        findings = [
            *self._edges.findings,
            *self._reading.forged_findings(),
            *await self._copies(),
            *relabelled,
            *self._edge_findings(edge_side),
            *_placed(base.findings, edge_side),
            *chain.from_iterable(hour.findings for hour in hours),
            *await self._unstored(unstored),
        ]
        self._explain(comparison)
        return AuditReport(
            sources=base.sources,
            findings=tuple(findings),
            resolved=base.resolved,
            notes=(*base.notes, *self._notes),
            lateness=base.lateness,
            rows_in_log=self._reading.rows,
            rows_in_store=comparison.rows,
            machine_hours=max(comparison.machine_hours, compared),
        )

    async def _catch_up(
        self, seconds: float
    ) -> tuple[Mapping[Source, StoredRanges], dict[Source, list[Range]]]:
        """The store's ranges once it has all that the log had, or after `seconds`, and what then lacks."""
        until = self._clock.monotonic() + seconds
        while True:
            ranges = await self._store.stored_ranges()
            lacking: dict[Source, list[Range]] = {}
            for source, rows in self._reading.unstored.items():
                held = ranges.get(source, StoredRanges())
                waves = self._reading.fold.sources[source].waves
                left = without(without(without(list(rows), held.stored), held.rejected), waves)
                if left:
                    lacking[source] = left
            if not lacking or self._clock.monotonic() >= until or await self._all_read(lacking):
                return ranges, lacking
            await self._clock.sleep(_POLL_SECONDS)

    async def _all_read(self, lacking: Mapping[Source, list[Range]]) -> bool:
        """Whether the store says that it is past the records with these rows: then they won't come."""
        positions = await self._store.positions()
        return all(
            positions.get(topic, {}).get(partition, 0) >= offset
            for source, ranges in lacking.items()
            for (topic, partition), offset in self._work.last_offset(source, ranges).items()
        )

    async def _unstored(self, lacking: Mapping[Source, list[Range]]) -> list[Finding]:
        if not lacking:
            return []
        if not await self._all_read(lacking):
            rows = sum(size(ranges) for ranges in lacking.values())
            self._notes.append(
                f"the store is behind: {rows} rows of the log are still to come and were not judged"
            )
            return []
        return [
            rows_finding("store", "missing", source, ranges, REBUILD) for source, ranges in lacking.items()
        ]

    def _edge_differences(self) -> tuple[list[EdgeDifference], int]:
        found: list[EdgeDifference] = []
        compared = 0
        for source, report in self._sources():
            logged = self._reading.fold.sources.get(source, SourceFold())
            pending = 0
            if source.edge not in self._edges.local:
                pending = size(without(list(report.buffered), logged.logged))
                if pending:
                    self._notes.append(
                        f"{source.edge} still holds {pending} rows whose content only its file can tell"
                    )
            aged = 0 if self._reading.fold.whole else size(self._gone(source, report))
            some, count = differences(source, report, self._work, pending + aged)
            found += some
            compared += count
        return found, compared

    def _edge_findings(self, different: list[EdgeDifference]) -> list[Finding]:
        found: list[Finding] = []
        gone = {source: self._gone(source, report) for source, report in self._sources()}
        for source, _ in self._sources():
            copies, explained = copies_of(source, self._work, different)
            found += copies
            different = [
                one for one in different if one.source != source or (one.machine, one.hour) not in explained
            ]
        return found + findings_of(different, gone, self._work)

    def _sources(self) -> list[tuple[Source, EdgeReport]]:
        return [
            (Source(edge, bytes.fromhex(report.epoch)), report)
            for edge, report in self._edges.reports.items()
        ]

    def _gone(self, source: Source, report: EdgeReport) -> list[Range]:
        logged = self._reading.fold.sources.get(source, SourceFold())
        return unaccounted(source, report, logged, self._clock.now_us())

    async def _copies(self) -> list[Finding]:
        found = []
        for first, second, header in self._reading.copies:
            rest = await self._log.end(first.topic)
            start: Position = {**rest, first.partition: first.offset - 1}
            async with _closing(self._log.read(first.topic, start)) as records:
                record = await anext((r async for r in records if r.partition == first.partition), None)
            there = record is not None and record.offset == first.offset
            rows = compare_copies(record, second) if record is not None and there else []
            if rows:
                found.append(copy_finding(first.source, rows, header.machine))
        return found

    def _explain(self, comparison: StoreComparison) -> None:
        for before_us, count in comparison.expired.items():
            self._notes.append(
                f"{count} readings of the log are from before {moment(before_us).isoformat()}: such have expired in"
                " the store and were not compared"
            )
        for topic, count in self._reading.holes.items():
            self._notes.append(
                f"{topic}: {count} numbers are skipped between the log's first and last record"
            )
        for source, rows in self._reading.unreported.items():
            self._notes.append(
                f"{rows} rows of {source.edge} are newer than its report and were compared with the store only"
            )


def _same_difference(
    hours: Sequence[HourDifference], edge_side: list[EdgeDifference]
) -> tuple[list[HourDifference], list[Finding], list[EdgeDifference]]:
    """Where edge and store differ from the log by the same rows, it is the log that is wrong.

    Returns the store's other differences, findings under the log's name, and the edges' other differences.
    """
    by_hour = {(one.machine, one.hour): one for one in edge_side}
    left: list[HourDifference] = []
    relabelled: list[Finding] = []
    used: set[tuple[str, int]] = set()
    for hour in hours:
        one = by_hour.get((hour.machine, hour.hour))
        if one is None or one.lack != hour.excess:
            left.append(hour)
            continue
        used.add((hour.machine, hour.hour))
        advice = (
            "edge and store agree and the log differs: restore the log from backup; do not rebuild the store"
        )
        relabelled += [
            finding.model_copy(update={"stage": "log", "edge": one.source.edge, "advice": advice})
            for finding in hour.findings
        ]
    return left, relabelled, [one for one in edge_side if (one.machine, one.hour) not in used]


def _placed(findings: Sequence[Finding], edge_side: Sequence[EdgeDifference]) -> list[Finding]:
    """Missing rows with their machine and hour, where the edge's tally leaves only one that they can belong to."""
    placed = []
    for finding in findings:
        lacking = [
            one
            for one in edge_side
            if one.lack[0] > 0 and (one.source.edge, one.source.epoch.hex()) == (finding.edge, finding.epoch)
        ]
        machines, hours = {one.machine for one in lacking}, {one.hour for one in lacking}
        update = {
            "machine": machines.pop() if len(machines) == 1 else "",
            "hour": hours.pop() if len(hours) == 1 else None,
        }
        placed.append(finding.model_copy(update=update) if finding.what == "missing" else finding)
    return placed
