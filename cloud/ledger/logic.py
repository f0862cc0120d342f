"""The fold of the log's headers into row ranges, and the judgement over edge, log and store. No I/O here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

import orjson

from cloud.ledger.report import (
    MAX_IDENTITIES,
    Delay,
    EdgeReport,
    Finding,
    LedgerReport,
    SourceSummary,
    Stage,
    What,
    name_rows,
    size,
    union,
    within,
    without,
)
from cloud.telemetry.lateness import STAGES, ByStage
from cloud.telemetry.port import ConflictFact, Counters, Source, StoredRanges, TelemetryReader
from shared import names
from shared.clock import MICROSECONDS
from shared.errors import Rejected
from shared.eventlog import Position, Stored
from shared.events import at
from shared.frame_codec import decode, decode_header
from shared.frames import Aggregates, Header, Kind
from shared.origin import origin
from shared.ranges import Range, RangeSet

TOPICS: Final = (
    names.SENSOR_READINGS,
    names.SCORES,
    names.WAVEFORMS,
    names.MACHINE_EVENTS,
    names.DEAD_LETTER,
)
SETTLE_US: Final = 120_000_000
"""A gap in an epoch that no edge reports is judged only when its newest record is this old: frames may overtake."""

_DIRECT: Final = tuple(edge(0).removesuffix("0") for edge in (names.direct_edge, names.scoring_edge))


def is_direct(edge: str) -> bool:
    """Whether the rows come from a gateway or scorer of machines with no edge: numbers it never logged are no loss."""
    return edge.startswith(_DIRECT)


def header_of(record: Stored) -> Header | None:
    """Which rows the record carries; None for none (a cloud's event, a dead letter of ingest). Raises Rejected."""
    match record.topic:
        case names.MACHINE_EVENTS:
            return origin(record, Kind.EVENT)
        case names.DEAD_LETTER:
            return origin(record, Kind.REJECT)
        case _:
            return decode_header(record.value)[0]


def replaced_by(record: Stored, header: Header) -> tuple[Range, ...]:
    """The rows that the record's aggregates stand for; none of a frame that can't be read: ingest rejects it."""
    if header.kind is not Kind.AGGREGATE or record.topic != names.SENSOR_READINGS:
        return ()
    try:
        body = decode(record.value)[1]
    except Rejected:
        return ()
    return body.replaces if isinstance(body, Aggregates) else ()


@dataclass(slots=True)
class SourceFold:
    """What the log holds of one source. `waves` are the rows that no telemetry store takes.

    `replaced` are rows that never came, because aggregates in the log stand for them: degraded, not lost.
    """

    logged: RangeSet = field(default_factory=RangeSet)
    waves: RangeSet = field(default_factory=RangeSet)
    replaced: RangeSet = field(default_factory=RangeSet)
    resent: int = 0
    newest_us: int = 0


@dataclass(slots=True)
class Fold:
    """The log's headers up to `positions`. Memory: merged ranges a source."""

    sources: dict[Source, SourceFold] = field(default_factory=dict)
    positions: dict[str, dict[str, int]] = field(default_factory=dict)
    unreadable: int = 0
    whole: bool = True

    def add(self, record: Stored) -> None:
        """Take the next record of its topic."""
        held = self.positions.setdefault(record.topic, {})
        if record.partition not in held and record.offset > 1:
            self.whole = False  # the log's first records had aged out before this fold began
        held[record.partition] = max(held.get(record.partition, 0), record.offset)
        try:
            header = header_of(record)
        except Rejected:
            self.unreadable += 1
            return
        if header is None:
            return
        source = self.sources.setdefault(Source(header.edge, header.epoch), SourceFold())
        source.resent += header.count - source.logged.add(header.first, header.last)
        source.newest_us = max(source.newest_us, record.time_us)
        if header.kind is Kind.WAVE:
            source.waves.add(header.first, header.last)
        for first, last in replaced_by(record, header):
            source.replaced.add(first, last)

    def reach(self, topic: str, end: Position) -> None:
        """Note that the topic was read up to `end`: what is not there by now has aged out, or never was a record."""
        held = self.positions.setdefault(topic, {})
        for partition, offset in end.items():
            if partition not in held:
                self.whole = False  # it had records, and none is left
            held[partition] = max(held.get(partition, 0), offset)

    def carry_over(self, old: "Fold") -> None:
        """Take from an older fold what this one, read anew, could not see because the log holds it no more."""
        if self.whole:
            return
        for source, fold in old.sources.items():
            mine = self.sources.setdefault(source, SourceFold())
            for first, last in fold.logged:
                mine.logged.add(first, last)
            for first, last in fold.waves:
                mine.waves.add(first, last)
            for first, last in fold.replaced:
                mine.replaced.add(first, last)
            mine.resent = max(mine.resent, fold.resent)
            mine.newest_us = max(mine.newest_us, fold.newest_us)
        self.unreadable = max(self.unreadable, old.unreadable)
        self.whole = old.whole

    def to_json(self) -> bytes:
        """The fold as a snapshot."""
        sources = [
            [s.edge, s.epoch.hex(), list(f.logged), list(f.waves), f.resent, f.newest_us, list(f.replaced)]
            for s, f in self.sources.items()
        ]
        return orjson.dumps(
            {
                "sources": sources,
                "positions": self.positions,
                "unreadable": self.unreadable,
                "whole": self.whole,
            }
        )

    @classmethod
    def from_json(cls, data: bytes) -> "Fold":
        """The fold from its snapshot. Raises Rejected for anything else (then it is made again from the log)."""
        try:
            raw: dict[str, Any] = orjson.loads(data)
            sources = {
                Source(edge, bytes.fromhex(epoch)): SourceFold(
                    RangeSet((a, b) for a, b in logged),
                    RangeSet((a, b) for a, b in waves),
                    RangeSet((a, b) for rows in replaced for a, b in rows),  # older snapshots know none
                    resent,
                    newest,
                )
                for edge, epoch, logged, waves, resent, newest, *replaced in raw["sources"]
            }
            return cls(sources, raw["positions"], raw["unreadable"], raw["whole"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise Rejected(f"not a fold: {error}") from error


class Held(NamedTuple):
    """What the store says of itself."""

    ranges: Mapping[Source, StoredRanges]
    counters: Mapping[Source, Counters]
    conflicts: Sequence[ConflictFact]
    lateness: Mapping[Source, ByStage]
    caught_up: bool

    @classmethod
    async def by(cls, store: TelemetryReader, *, caught_up: bool) -> Self:
        """Ask the store. Raises Unavailable."""
        return cls(
            await store.stored_ranges(),
            await store.counters(),
            await store.conflicts(),
            await store.lateness(),
            caught_up,
        )


def judge(fold: Fold, reports: Mapping[str, EdgeReport], held: Held, now_us: int) -> LedgerReport:
    """Compare what edges produced with what log and store hold.

    `reports` must be older than the fold, and the store's ranges newer (see `caught_up`): then traffic that goes on
    meanwhile can't look like a loss.
    """
    findings: list[Finding] = []
    summaries: list[SourceSummary] = []
    notes: list[str] = []
    known = {*fold.sources, *held.ranges}
    known |= {Source(edge, bytes.fromhex(report.epoch)) for edge, report in reports.items()}
    for source in sorted(known):
        report = reports.get(source.edge)
        if report is not None and report.epoch != source.epoch.hex():
            report = None
        logged = fold.sources.get(source, SourceFold())
        stored = held.ranges.get(source, StoredRanges())
        gone = unaccounted(source, report, logged, now_us)
        findings += missing_in_log(source, report, gone, stored, whole=fold.whole)
        if not fold.whole and (aged := size(within(gone, union(stored.stored, stored.rejected)))):
            notes.append(f"{source.edge}: {aged} rows are in the store and have aged out of the log")
        in_store = union(stored.stored, stored.rejected, logged.waves)
        unstored = without(list(logged.logged), in_store)
        if unstored and held.caught_up:
            findings.append(rows_finding("store", "missing", source, unstored, REBUILD))
        lost = gone if fold.whole else without(gone, union(stored.stored, stored.rejected))
        missing = size(lost) + (size(unstored) if held.caught_up else 0)
        counters = held.counters.get(source, Counters())
        summaries.append(_summary(source, report, logged, stored, size(unstored), missing, counters))
    if fold.unreadable:
        notes.append(f"{fold.unreadable} records of the log can't be read; ingest put them on dead-letter")
    resolved = resolved_of(summaries, held)
    return LedgerReport(
        sources=tuple(summaries),
        findings=tuple(findings),
        resolved=tuple(resolved),
        notes=tuple(notes),
        lateness=tuple(delays(held.lateness)),
    )


def delays(lateness: Mapping[Source, ByStage]) -> Iterator[Delay]:
    """What the store counted, an edge's epoch and stage each."""
    for source in sorted(lateness):
        for stage in STAGES:
            one = lateness[source].get(stage)
            if one is not None and one.rows:
                yield Delay(
                    edge=source.edge,
                    epoch=source.epoch.hex(),
                    stage=stage,
                    rows=one.rows,
                    late=one.late,
                    bound=one.bound_us / MICROSECONDS,
                    longest=one.longest_us / MICROSECONDS,
                    p50=one.quantile_us(0.5) / MICROSECONDS,
                    p99=one.quantile_us(0.99) / MICROSECONDS,
                )


def unaccounted(source: Source, report: EdgeReport | None, logged: SourceFold, now_us: int) -> list[Range]:
    """Row numbers that were given out and that neither the log nor the edge holds. [] where that can't be known."""
    if report is not None:
        kept = union(logged.logged, logged.replaced, RangeSet(report.buffered), RangeSet(report.degraded))
        return kept.gaps(1, report.produced)
    if is_direct(source.edge) or now_us - logged.newest_us < SETTLE_US:
        return []
    top = max((last for _, last in logged.logged), default=0)
    return union(logged.logged, logged.replaced).gaps(1, top)


REBUILD: Final = "the log has them and the store does not: nothing is lost, industrialmind rebuild telemetry writes them again"
_RESTORE: Final = "the store has them and the log does not: the log lost them; restore it from backup"
_GATEWAY: Final = (
    "the gateway acknowledged them and the log does not have them: look at the gateway's and broker's logs"
)
_OUTBOX: Final = (
    "the edge gave out these numbers, holds the rows no more, and they never reached the log:"
    " look for a damaged outbox that was set aside beside the edge's file"
)
_BIT_ROT: Final = (
    "the edge found them changed on its disk and set them aside, unsent, in the table `damaged` of its outbox:"
    " check that device's disk"
)


def missing_in_log(
    source: Source, report: EdgeReport | None, gone: list[Range], stored: StoredRanges, *, whole: bool
) -> list[Finding]:
    """Findings for rows that are unaccounted for, by the stage that lost them.

    `whole`: the log still begins with its first record. If not, rows that the store has have aged out of the log.
    """
    store = union(stored.stored, stored.rejected)
    rest = without(gone, store)
    acked = RangeSet(report.acked or ()) if report is not None else RangeSet()
    damaged = RangeSet(report.damaged) if report is not None else RangeSet()
    lost = without(rest, acked)
    parts: tuple[tuple[Stage, list[Range], str], ...] = (
        ("log", within(gone, store) if whole else [], _RESTORE),
        ("uplink", within(rest, acked), _GATEWAY),
        ("edge", within(lost, damaged), _BIT_ROT),
        ("edge", without(lost, damaged), _OUTBOX),
    )
    return [
        rows_finding(stage, "missing", source, ranges, advice) for stage, ranges, advice in parts if ranges
    ]


def rows_finding(
    stage: Stage,
    what: What,
    source: Source,
    ranges: list[Range],
    advice: str,
    *,
    machine: str = "",
    hour: int | None = None,
    rows: int | None = None,
) -> Finding:
    """A finding about rows of a source, by their numbers."""
    return Finding(
        stage=stage,
        what=what,
        edge=source.edge,
        epoch=source.epoch.hex(),
        machine=machine,
        hour=hour,
        rows=size(ranges) if rows is None else rows,
        identities=name_rows(ranges),
        advice=advice,
    )


def _summary(
    source: Source,
    report: EdgeReport | None,
    logged: SourceFold,
    stored: StoredRanges,
    unstored: int,
    missing: int,
    counters: Counters,
) -> SourceSummary:
    unlogged = [] if report is None else without(list(report.buffered), logged.logged)
    return SourceSummary(
        edge=source.edge,
        epoch=source.epoch.hex(),
        produced=None if report is None else report.produced,
        waiting=0 if report is None else report.waiting,
        buffered=size(unlogged),
        degraded=len(union(logged.replaced, RangeSet(() if report is None else report.degraded))),
        logged=len(logged.logged),
        stored=len(stored.stored),
        rejected=len(stored.rejected),
        pending=unstored,
        resent=logged.resent,
        missing=missing,
        duplicates=counters.duplicates,
        conflicts=counters.conflicts,
        redelivered=counters.redelivered,
    )


def resolved_of(summaries: Sequence[SourceSummary], held: Held) -> list[Finding]:
    """Duplicates and conflicts that the rules resolved, with the stage where they arose."""
    found = [
        Finding(
            stage="uplink",
            what="doubled",
            edge=one.edge,
            epoch=one.epoch,
            rows=one.resent,
            advice="resent after a lost acknowledgement; counted once, nothing to do",
        )
        for one in summaries
        if one.resent
    ]
    for source, counter in sorted(held.counters.items()):
        edge, epoch = source.edge, source.epoch.hex()
        if counter.duplicates:
            found.append(
                Finding(
                    stage="edge",
                    what="doubled",
                    edge=edge,
                    epoch=epoch,
                    rows=counter.duplicates,
                    advice="a device told the same reading twice; stored once, nothing to do",
                )
            )
        if counter.conflicts:
            named = [c for c in held.conflicts if source in {c.kept[0], c.lost[0]}]
            found.append(
                Finding(
                    stage="edge",
                    what="conflict",
                    edge=edge,
                    epoch=epoch,
                    rows=counter.conflicts,
                    identities=tuple(_conflict(c) for c in named[:MAX_IDENTITIES]),
                    advice="a device gave one timestamp two values; the later arrival is kept: mend the device's clock",
                )
            )
    return found


def _conflict(fact: ConflictFact) -> str:
    moment = at(fact.time_us).isoformat()
    return f"{fact.machine}/{fact.sensor} at {moment}: kept {fact.kept_value:g}, not {fact.lost_value:g}"
