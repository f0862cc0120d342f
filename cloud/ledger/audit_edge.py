"""Comparing an edge's tally, counted at its cut, with what the log holds and what its outbox still keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cloud.ledger.logic import rows_finding
from cloud.ledger.report import MAX_IDENTITIES, EdgeReport, Finding, size
from cloud.ledger.workspace import LOG, Tally, Workspace, add_tallies, subtract
from cloud.telemetry.port import Source
from shared.ranges import Range

_ALTERED: Final = (
    "what reached the log is not what the edge counted when it cut these frames:"
    " check the edge's disk and file; the true values are on the device, if anywhere"
)
_EXTRA: Final = (
    "the log holds more readings than the edge counted when it cut these frames: check the edge's file"
)
_COPY: Final = "the outbox's copy of a frame is not the one in the log, and the edge's own count says the {which} is right"


@dataclass(frozen=True, slots=True)
class EdgeDifference:
    """A machine-hour whose tally is not met. `lack` is what the edge counted less what log and outbox hold."""

    source: Source
    machine: str
    hour: int
    lack: Tally


def differences(
    source: Source, report: EdgeReport, work: Workspace, pending: int
) -> tuple[list[EdgeDifference], int]:
    """Machine-hours that differ beyond what `pending` buffered rows of unknown content explain, and how many were compared."""
    told = _told(report)
    held = work.tallies(LOG, source)
    for key, kept in work.kept_unlogged(source).items():
        held[key] = add_tallies(held.get(key, (0, 0)), kept)
    most = report.tally_hours  # with so many hours of a machine, its older ones are not told
    oldest = {m: min(hours) for m, hours in report.tally.items() if most is not None and len(hours) >= most}
    different = []
    compared = 0
    for key in sorted(told.keys() | held.keys()):
        machine, hour = key
        if hour < oldest.get(machine, hour):
            continue
        compared += 1
        lack = subtract(told.get(key, (0, 0)), held.get(key, (0, 0)))
        if lack != (0, 0):
            different.append(EdgeDifference(source, machine, hour, lack))
    lacking = sum(max(0, one.lack[0]) for one in different)
    if pending and lacking <= pending:
        different = [one for one in different if one.lack[0] <= 0]
    return different, compared


def _told(report: EdgeReport) -> dict[tuple[str, int], Tally]:
    return {(machine, hour): one for machine, hours in report.tally.items() for hour, one in hours.items()}


def findings_of(
    different: list[EdgeDifference], gone: Mapping[Source, list[Range]], work: Workspace
) -> list[Finding]:
    """Altered and doubled hours. Missing ones are named by their row numbers, which `gone` has."""
    found = []
    for one in different:
        if one.lack[0] > 0 and size(gone.get(one.source, [])):
            continue
        rows = work.frames_of_hour(one.source, one.machine, one.hour, MAX_IDENTITIES)
        doubled = one.lack[0] < 0
        found.append(
            rows_finding(
                "edge",
                "doubled" if doubled else "altered",
                one.source,
                rows,
                _EXTRA if doubled else _ALTERED,
                machine=one.machine,
                hour=one.hour,
                rows=max(1, abs(one.lack[0])),
            )
        )
    return found


def copies_of(
    source: Source, work: Workspace, different: list[EdgeDifference]
) -> tuple[list[Finding], set[tuple[str, int]]]:
    """Frames that outbox and log hold in two versions, and the machine-hours that this explains."""
    wrong = {(one.machine, one.hour) for one in different if one.source == source}
    found: list[Finding] = []
    explained: set[tuple[str, int]] = set()
    for first, last, hours in work.kept_differing(source):
        in_log = bool(wrong & set(hours))
        explained |= set(hours)
        machine, hour = hours[0] if hours else ("", None)
        found.append(
            rows_finding(
                "log" if in_log else "edge",
                "altered",
                source,
                [(first, last)],
                _COPY.format(which="outbox" if in_log else "log"),
                machine=machine,
                hour=hour,
            )
        )
    return found, explained
