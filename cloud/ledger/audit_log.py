"""Reading the whole log for the audit: each row once, by its number; copies that differ are findings."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.ledger.logic import Fold, SourceFold, header_of, rows_finding
from cloud.ledger.report import EdgeReport, Finding
from cloud.ledger.workspace import LOG, FrameSeen, Ints, Workspace
from cloud.telemetry.port import Source, StoredRanges
from shared import names
from shared.checksum import HOUR_US, readings_hashes, tally
from shared.dead_letter import DeadLetter
from shared.errors import Rejected
from shared.eventlog import Stored
from shared.frame_codec import decode
from shared.frames import Header, Readings
from shared.ranges import RangeSet

SETTLE_US: Final = 60_000_000
"""An edge's report by way of the network may be this much older than it seems."""
_COPIES: Final = 200
"""So many differing copies are compared row by row; with more, the audit's finding is there already."""
_OPAQUE: Final = frozenset({names.MACHINE_EVENTS, names.DEAD_LETTER})
_COPY: Final = (
    "the log holds these rows twice with different content; the store took the first: find out who wrote it"
)
_FORGED: Final = (
    "the log holds rows that the edge never cut: find out who wrote them; the store may hold their values"
)


class LogReading:
    """Takes the log's records in order of each topic; what it learns is in `work`, `fold` and `findings`."""

    def __init__(
        self,
        work: Workspace,
        claimed: Mapping[Source, StoredRanges],
        reports: Mapping[str, EdgeReport],
        local: frozenset[str],
    ) -> None:
        self.fold = Fold()
        self.forged: dict[tuple[Source, str], RangeSet] = {}
        self.copies: list[tuple[FrameSeen, Stored, Header]] = []
        self.rows = 0
        self.unstored: dict[Source, RangeSet] = {}
        self.unreported: dict[Source, int] = {}
        self.holes: dict[str, int] = {}
        self._work = work
        self._claimed = claimed
        self._reports = reports
        self._local = local

    def take(self, records: Iterable[Stored]) -> None:
        """The next records. One call is a bounded piece of work: at most a chunk's readings are in memory."""
        for record in records:
            self._take(record)

    def forged_findings(self) -> list[Finding]:
        """Rows that the log holds and that their edge never cut."""
        return [
            rows_finding("log", "doubled", source, list(ranges), _FORGED, machine=machine)
            for (source, machine), ranges in self.forged.items()
        ]

    def _take(self, record: Stored) -> None:
        held = self.fold.positions.get(record.topic, {}).get(record.partition)
        if held is not None and record.offset > held + 1:
            self.holes[record.topic] = self.holes.get(record.topic, 0) + record.offset - held - 1
        try:
            header = header_of(record)
        except Rejected:
            header = None
        if header is None:
            self.fold.add(record)
            return
        source = Source(header.edge, header.epoch)
        seen = self.fold.sources.get(source, SourceFold()).logged
        fresh = seen.gaps(header.first, header.last)
        frame = self._frame(record, header, source)
        if len(fresh) != 1 or fresh[0] != (header.first, header.last):
            known = self._work.overlapping(source, header.first, header.last)
            same = any((k.first, k.last, k.digest) == (frame.first, frame.last, frame.digest) for k in known)
            if not same and len(self.copies) < _COPIES:
                self.copies.extend((other, record, header) for other in known)
        self.fold.add(record)
        if not fresh:
            return
        rows = np.concatenate([np.arange(a, b + 1, dtype=np.int64) for a, b in fresh])
        self._beyond_report(source, record, rows)
        stored = self._in_store(source, rows)
        try:
            _, body = decode(record.value) if record.topic not in _OPAQUE else (header, None)
        except Rejected:
            body = None
        if isinstance(body, Readings):
            hours = body.time_us // HOUR_US
            frame = self._frame(record, header, source, int(hours.min()), int(hours.max()))
            self._readings(source, header, body, rows, stored)
        self._work.add_frame(frame)

    def _frame(
        self, record: Stored, header: Header, source: Source, low: int = 0, high: int = -1
    ) -> FrameSeen:
        digest = hashlib.blake2b(record.value, digest_size=16).digest()
        place = (record.topic, record.partition, record.offset)
        return FrameSeen(source, header.first, header.last, header.machine, *place, digest, low, high)

    def _beyond_report(self, source: Source, record: Stored, rows: Ints) -> None:
        """Rows that the edge's report does not cover are news; nobody's, if the report is younger than they are."""
        report = self._reports.get(source.edge)
        if report is None or report.epoch != source.epoch.hex():
            return
        later = rows[rows > report.produced]
        if len(later):
            settle = 0 if source.edge in self._local else SETTLE_US
            if report.taken_us is not None and record.time_us <= report.taken_us - settle:
                forged = self.forged.setdefault((source, record.key), RangeSet())
                forged.add(int(later[0]), int(later[-1]))
            else:
                self.unreported[source] = self.unreported.get(source, 0) + len(later)

    def _in_store(self, source: Source, rows: Ints) -> NDArray[np.bool_]:
        """Which rows the store's snapshot claims to hold; the others are noted."""
        ranges = self._claimed.get(source, StoredRanges())
        first, last = int(rows[0]), int(rows[-1])
        if ranges.stored.covers(first, last):
            return np.ones(len(rows), np.bool_)
        mask = np.zeros(len(rows), np.bool_)
        missing = self.unstored.setdefault(source, RangeSet())
        for at, row in enumerate(rows.tolist()):
            if ranges.stored.covers(row, row):
                mask[at] = True
            elif not ranges.rejected.covers(row, row):
                missing.add(row, row)
        return mask

    def _readings(
        self,
        source: Source,
        header: Header,
        body: Readings,
        rows: Ints,
        stored: NDArray[np.bool_],
    ) -> None:
        at = rows - header.first
        report = self._reports.get(source.edge)
        produced = report.produced if report is not None and report.epoch == source.epoch.hex() else None
        cut = at if produced is None else at[rows <= produced]
        hashes = readings_hashes(header.machine, body)
        self._work.count(LOG, source, header.machine, tally(body.time_us[cut], hashes[cut]))
        self.rows += len(at)
        at, rows = at[stored], rows[stored]
        if len(at):
            columns = (
                body.sensor[at],
                body.time_us[at],
                body.value[at],
                body.quality[at],
                body.arrival_us[at],
            )
            series = [(header.machine, name) for name in body.sensor_names]
            self._work.expect(source, series, body.units, columns, rows)


def compare_copies(first: Stored, second: Stored) -> list[int]:
    """Row numbers that two records of the log share and whose content differs. Their headers are readable.

    A refused frame's dead letter counts as the frame: sent again and accepted, the log rightly holds both.
    """
    one, two = header_of(first), header_of(second)
    if one is None or two is None or first.value == second.value:
        return []
    shared = range(max(one.first, two.first), min(one.last, two.last) + 1)
    try:
        left_bytes, right_bytes = _content(first, second.value), _content(second, first.value)
        if left_bytes == right_bytes:
            return []
        (_, left), (_, right) = decode(left_bytes), decode(right_bytes)
    except Rejected:
        return list(shared)
    if not (isinstance(left, Readings) and isinstance(right, Readings)):
        return list(shared)
    a, b = readings_hashes(one.machine, left), readings_hashes(two.machine, right)
    return [row for row in shared if a[row - one.first] != b[row - two.first]]


def _content(record: Stored, other: bytes) -> bytes:
    """The record's bytes; of a refused frame's dead letter the frame's, by their hash where they were not kept whole.

    Raises Rejected.
    """
    if record.topic != names.DEAD_LETTER or names.HEADER_ROWS not in record.headers:
        return record.value
    letter = DeadLetter.decode(record.value)
    if letter.whole:
        return letter.payload
    return other if letter.sha256 == hashlib.sha256(other).hexdigest() else letter.payload


def copy_finding(source: Source, rows: list[int], machine: str) -> Finding:
    """The finding for rows that the log holds in two versions."""
    ranges = list(RangeSet((row, row) for row in rows))
    return rows_finding("log", "altered", source, ranges, _COPY, machine=machine)
