"""`industrialmind ledger` and `ledger --audit`: from the running plant, else from its files with a server of its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cloud.ledger.app import Ledger, Metrics, edge_reports
from cloud.ledger.audit import audit
from cloud.ledger.report import AuditReport, EdgeReport, Finding, LedgerReport
from cloud.telemetry.port import TelemetryStore, open_store
from industrialmind.embedded import account_of
from industrialmind.plant import DataDir
from industrialmind.served import served
from shared.clock import SystemClock
from shared.errors import NotFound
from shared.eventlog import EventLog, open_event_log
from shared.nats import open_control
from shared.settings import no_color

_SHOWN_FINDINGS = 50


@dataclass(frozen=True)
class Evidence:
    """What a ledger is judged by."""

    log: EventLog
    store: TelemetryStore
    reports: Mapping[str, EdgeReport]
    outboxes: Mapping[str, Path]


async def run_ledger(root: Path, *, audited: bool) -> LedgerReport:
    """Judge the plant in `root`. Raises NotFound (no plant there), Unavailable."""
    async with gather_evidence(DataDir(root)) as evidence:
        if audited:
            return await audit(
                evidence.log, evidence.store, evidence.reports, outboxes=evidence.outboxes, folder=root
            )
        return await fold_and_judge(evidence)


async def fold_and_judge(evidence: Evidence) -> LedgerReport:
    """The ledger from the log's first record, compared with store and edges."""

    async def reports() -> Mapping[str, EdgeReport]:
        return evidence.reports

    ledger = Ledger(
        evidence.log,
        evidence.store,
        reports,
        None,
        Metrics(CollectorRegistry()),
        SystemClock(),
    )
    stop = asyncio.Event()
    following = asyncio.create_task(ledger.run(stop))
    try:
        return await ledger.report()
    finally:
        stop.set()
        await asyncio.gather(following, return_exceptions=True)


@asynccontextmanager
async def gather_evidence(data: DataDir) -> AsyncIterator[Evidence]:
    """Log, store and edges' reports; with no plant running, a nats-server on free ports for the time of the block."""
    if data.running() is None and not data.telemetry.exists():
        raise NotFound(f"{data.root} holds no readings yet: run industrialmind up")
    async with served(data) as at:
        local = [] if at.running else [machine.edge for machine in data.plant().machines]
        async with _reading(data, at.nats_url, local=local) as evidence:
            yield evidence


@asynccontextmanager
async def _reading(data: DataDir, url: str, *, local: Sequence[str] = ()) -> AsyncIterator[Evidence]:
    credentials = account_of(data.root, "cli").userinfo
    log_url, log_credentials = data.plant().log_access(url, credentials)
    async with (
        open_control(url, credentials=credentials) as control,
        open_event_log(log_url, credentials=log_credentials) as log,
        open_store(data.telemetry_url, read_only=True) as store,
    ):
        reports = await edge_reports(control)
        outboxes = {edge: data.outbox(edge) for edge in local if data.outbox(edge).exists()}
        yield Evidence(log, store, reports, outboxes)


def render(report: LedgerReport) -> None:
    """The report for people."""
    console = Console(no_color=no_color(), markup=False)
    for table in (_places(report), _rules(report), _delays(report)):
        if table.row_count:
            console.print(table)
    if isinstance(report, AuditReport):
        console.print(
            f"audited: {report.rows_in_log:,} readings in the log, {report.rows_in_store:,} in the store, "
            f"{report.machine_hours:,} machine-hours compared"
        )
    for note in report.notes:
        console.print(f"note: {note}")
    for finding in report.resolved:
        console.print(f"resolved: {_sentence(finding)}")
    for finding in report.findings[:_SHOWN_FINDINGS]:
        console.print(f"FINDING: {_sentence(finding)}", style="bold")
    hidden = len(report.findings) - _SHOWN_FINDINGS
    if hidden > 0:
        console.print(f"and {hidden} more: --json lists all")
    if not report.findings:
        console.print("no row is missing, doubled or altered")


def _places(report: LedgerReport) -> Table:
    table = _table("Loss ledger: rows an edge and epoch")
    for heading in ("produced", "buffered", "logged", "stored", "pending", "missing"):
        table.add_column(heading, justify="right")
    for one in report.sources:
        produced = "?" if one.produced is None else f"{one.produced:,}"
        counts = (one.buffered + one.waiting, one.logged, one.stored, one.pending, one.missing)
        table.add_row(one.edge, one.epoch[:8], produced, *(f"{count:,}" for count in counts))
    return table


def _rules(report: LedgerReport) -> Table:
    """Only where there is something to say."""
    table = _table("Degraded, rejected, or told more than once")
    for heading in ("degraded", "rejected", "resent", "duplicates", "conflicts"):
        table.add_column(heading, justify="right")
    for one in report.sources:
        counts = (one.degraded, one.rejected, one.resent, one.duplicates, one.conflicts)
        if any(counts):
            table.add_row(one.edge, one.epoch[:8], *(f"{count:,}" for count in counts))
    return table


def _delays(report: LedgerReport) -> Table:
    bounds = {one.stage: duration(one.bound) for one in report.lateness}
    told = ", ".join(f"{stage} {bound}" for stage, bound in bounds.items())
    table = _table(f"Lateness of readings by stage; late is beyond: {told}")
    for heading in ("stage", "late", "of", "p50", "p99", "longest"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for one in report.lateness:
        times = (duration(seconds) for seconds in (one.p50, one.p99, one.longest))
        table.add_row(one.edge, one.epoch[:8], one.stage, f"{one.late:,}", f"{one.rows:,}", *times)
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("edge", "epoch"):
        table.add_column(heading)
    return table


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= length:
            return f"{seconds / length:.3g}{unit}"
    return f"{seconds * 1000:.3g}ms"


def _sentence(finding: Finding) -> str:
    where = " ".join(part for part in (finding.edge, finding.epoch[:8], finding.machine) if part)
    names = f": {', '.join(finding.identities)}" if finding.identities else ""
    return f"{finding.rows} rows {finding.what} at stage {finding.stage} ({where}){names}. {finding.advice}"
