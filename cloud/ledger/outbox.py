"""Reading an edge's outbox file for the audit: a file on this machine, opened read-only, of an edge that is stopped.

A running edge holds its file for itself; then its report has to do.
"""

import hashlib
import sqlite3
from pathlib import Path
from typing import Final

import orjson

from cloud.ledger.logic import rows_finding
from cloud.ledger.report import EdgeReport, Finding
from cloud.ledger.workspace import Tally, Workspace
from cloud.telemetry.port import Source
from shared.checksum import readings_hashes, tally
from shared.errors import Rejected, Unavailable
from shared.frame_codec import decode
from shared.frames import Readings
from shared.ranges import RangeSet

_ADVICE: Final = "the edge's file was changed from outside: keep a copy of it and find out by whom"


def read_outbox(edge: str, path: Path, work: Workspace, now_us: int) -> tuple[EdgeReport, list[Finding]]:
    """The report that the file itself makes, its frames noted in `work`, and what is wrong within the file.

    Raises Unavailable if the file can't be read now: the edge runs, or the file is elsewhere.
    """
    try:
        db = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0.2
        )
        try:
            db.execute("BEGIN")
            return _read(edge, db, work, now_us)
        finally:
            db.close()
    except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"the outbox of {edge} can't be read now: {error}") from error


def _read(
    edge: str, db: sqlite3.Connection, work: Workspace, now_us: int
) -> tuple[EdgeReport, list[Finding]]:
    meta = dict(
        db.execute("SELECT key, value FROM meta WHERE key IN ('epoch', 'next_row', 'freed', 'degraded')")
    )
    source = Source(edge, bytes(meta["epoch"]))
    produced = int(meta["next_row"]) - 1
    findings: list[Finding] = []
    buffered = RangeSet()
    for first, last, data in db.execute("SELECT first, last, CAST(data AS BLOB) FROM frames ORDER BY first"):
        rows = [(first, last)]
        sums, why = _content(source, first, last, bytes(data))
        if why:
            advice = f"a frame that waits in the outbox can't be read ({why}); {_ADVICE}"
            findings.append(rows_finding("edge", "altered", source, rows, advice))
        if last > produced or buffered.overlap(first, last):
            advice = f"the outbox holds rows that the edge never numbered, or numbered twice; {_ADVICE}"
            findings.append(rows_finding("edge", "doubled", source, rows, advice))
            continue
        buffered.add(first, last)
        work.keep(source, first, last, hashlib.blake2b(bytes(data), digest_size=16).digest(), sums)
    tallies: dict[str, dict[int, tuple[int, int]]] = {}
    for machine, hour, count, total in db.execute("SELECT machine, hour, count, sum FROM tally"):
        tallies.setdefault(machine, {})[hour] = (count, int(total) % 2**64)
    damaged = RangeSet((first, last) for first, last in db.execute("SELECT first, last FROM damaged"))
    waiting = db.execute("SELECT coalesce(sum(rows), 0) FROM waiting").fetchone()[0]
    report = EdgeReport(
        epoch=source.epoch.hex(),
        produced=produced,
        waiting=waiting,
        buffered=tuple(buffered),
        acked=tuple(orjson.loads(meta.get("freed", "[]"))),
        damaged=tuple(damaged),
        degraded=tuple(orjson.loads(meta.get("degraded", "[]"))),
        tally=tallies,
        taken_us=now_us,
    )
    return report, findings


def _content(source: Source, first: int, last: int, data: bytes) -> tuple[dict[tuple[str, int], Tally], str]:
    """The frame's readings by (machine, hour), and why it is not the frame that its place says ("" if it is)."""
    try:
        header, body = decode(data)
    except Rejected as error:
        return {}, error.reason
    if (header.first, header.last, header.epoch, header.edge) != (first, last, source.epoch, source.edge):
        return {}, "it is of other rows or another edge"
    if not isinstance(body, Readings):
        return {}, ""
    hashes = readings_hashes(header.machine, body)
    return {(header.machine, hour): one for hour, one in tally(body.time_us, hashes).items()}, ""
