"""The ledger as a service: it follows the log's headers, and answers with a report when asked."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from cloud.ledger.logic import TOPICS, Fold, Held, judge
from cloud.ledger.report import EdgeReport, LedgerReport
from cloud.telemetry.lateness import STAGES
from cloud.telemetry.port import TelemetryReader
from shared.clock import Clock
from shared.durable import replace
from shared.errors import Rejected, Unavailable
from shared.eventlog import EventLog, Position
from shared.names import WAVEFORMS
from shared.nats import ControlPlane
from shared.service import wait_or_stop

log = structlog.get_logger()

Reports = Callable[[], Awaitable[Mapping[str, EdgeReport]]]
"""Each edge's last report; read anew for every ledger report, before log and store."""
Tell = Callable[[int, int], None]


async def edge_reports(control: ControlPlane) -> dict[str, EdgeReport]:
    """The last ledger report of every edge that machines are assigned to. Raises Unavailable."""
    reports = {}
    for edge in sorted({edge for _, edge in (await control.assignments()).values()}):
        try:
            told = (await control.reported(edge)).get(REPORT_KEY)
            if told is not None:
                reports[edge] = EdgeReport.parse(told)
        except Rejected as error:
            log.warning("an edge's ledger report can't be read", edge=edge, why=error.reason)
    return reports


REPORT_KEY: Final = "ledger"
_PLACES: Final = (
    "produced",
    "buffered",
    "degraded",
    "logged",
    "stored",
    "rejected",
    "pending",
    "resent",
    "missing",
    "duplicates",
    "conflicts",
    "redelivered",
)
_POLL_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_TOLD_EVERY: Final = 500


class Metrics:
    """What the last report came to."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Gauge("im_ledger_rows", "rows by where they are", ["place"], registry=registry)
        self.findings = Gauge("im_ledger_findings", "open findings by stage", ["stage"], registry=registry)
        self.late = Gauge(
            "im_ledger_late_rows", "readings that took too long by stage", ["stage"], registry=registry
        )

    def show(self, report: LedgerReport) -> None:
        """Set all gauges."""
        for place in _PLACES:
            self.rows.labels(place).set(sum(getattr(one, place) or 0 for one in report.sources))
        for delay in STAGES:
            self.late.labels(delay).set(sum(one.late for one in report.lateness if one.stage == delay))
        for stage in ("edge", "uplink", "log", "store"):
            self.findings.labels(stage).set(sum(one.stage == stage for one in report.findings))


class Ledger:
    """Follows the log from where its snapshot ends. The snapshot holds fold and positions together, or neither.

    Without a path the fold is in memory alone and made again from the log at each start.
    """

    def __init__(
        self,
        event_log: EventLog,
        store: TelemetryReader,
        reports: Reports,
        path: Path | None,
        metrics: Metrics,
        clock: Clock,
        *,
        save_seconds: float = 10.0,
        catch_up_seconds: float = 5.0,
    ) -> None:
        self._log = event_log
        self._store = store
        self._reports = reports
        self._path = path
        self._metrics = metrics
        self._clock = clock
        self._save_seconds = save_seconds
        self._catch_up = catch_up_seconds
        self._saved = b""
        self._running = False
        self._tasks: list[asyncio.Task[None]] = []
        self.fold = Fold() if path is None else _load(path)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow every topic and save the fold now and then, until `stop`."""
        self._running = True
        self._follow_all()
        try:
            while not await wait_or_stop(stop, self._save_seconds):
                for task in self._tasks:
                    if task.done():
                        task.result()
                await self._save()
        finally:
            self._running = False
            await self._end_following()
            await self._save()

    async def report(self) -> LedgerReport:
        """Judge edges, log and store now. Raises Unavailable."""
        reports = await self._reports()
        ends = {topic: await self._log.end(topic) for topic in TOPICS}
        level = await self._wait(lambda: _reached(self.fold.positions, ends))
        fold = deepcopy(self.fold)
        stored = {topic: at for topic, at in fold.positions.items() if topic in _STORED}

        async def caught_up() -> bool:
            return _reached(await self._store.positions(), stored)

        caught = await self._wait(caught_up)
        held = await Held.by(self._store, caught_up=caught)
        report = judge(fold, reports if level else {}, held, self._clock.now_us())
        notes = [*report.notes]
        if not level:
            notes.append("the ledger has not read the log to its end: what edges report is not judged yet")
        if not caught:
            notes.append("the store has not yet taken all that is in the log: pending rows are not judged")
        report = report.model_copy(update={"notes": tuple(notes)})
        self._metrics.show(report)
        return report

    async def _wait(self, check: Callable[[], bool | Awaitable[bool]]) -> bool:
        until = self._clock.monotonic() + self._catch_up
        while True:
            answer = check()
            if isinstance(answer, Awaitable):
                answer = await answer
            if answer or self._clock.monotonic() >= until:
                return answer
            await self._clock.sleep(_POLL_SECONDS)

    async def rebuild(self, tell: Tell) -> None:
        """Fold the log anew and take that fold; the old one answers meanwhile. `tell` hears (records read, of how many).

        What aged out of the log is taken over from the old fold. Raises Unavailable: then nothing has changed.
        """
        fold, done = Fold(), 0
        ends = {topic: await self._log.end(topic) for topic in TOPICS}
        total = sum(sum(end.values()) for end in ends.values())
        for topic in TOPICS:
            async for record in self._log.read(topic):
                fold.add(record)
                done += 1
                if done % _TOLD_EVERY == 0:
                    tell(min(done, total), total)
                    await asyncio.sleep(0)  # others answer meanwhile
            fold.reach(topic, ends[topic])
        await self._end_following()
        fold.carry_over(self.fold)
        self.fold = fold
        self._follow_all()
        await self._save()
        tell(total, total)

    def _follow_all(self) -> None:
        if self._running:
            self._tasks = [
                asyncio.create_task(self._follow(topic), name=f"ledger {topic}") for topic in TOPICS
            ]

    async def _end_following(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, topic: str) -> None:
        while True:
            try:
                end = await self._log.end(topic)
                async for record in self._log.read(topic, self._after(topic)):
                    self.fold.add(record)
                self.fold.reach(topic, end)
                async for record in self._log.read(topic, self._after(topic), follow=True):
                    self.fold.add(record)
            except Unavailable as error:
                log.debug("the ledger waits for the log", topic=topic, why=str(error))
                await self._clock.sleep(_RETRY_SECONDS)

    def _after(self, topic: str) -> Position | None:
        return dict(self.fold.positions.get(topic, {})) or None

    async def _save(self) -> None:
        data = self.fold.to_json()
        if self._path is not None and data != self._saved:
            try:
                await asyncio.to_thread(replace, self._path, data)
            except OSError as error:  # it only saves time at the next start
                log.warning("the ledger's snapshot can't be saved", path=str(self._path), why=error.strerror)
                return
            self._saved = data


_STORED = frozenset(TOPICS) - {WAVEFORMS}


def _reached(positions: Mapping[str, Position], ends: Mapping[str, Position]) -> bool:
    return all(
        positions.get(topic, {}).get(partition, 0) >= offset
        for topic, end in ends.items()
        for partition, offset in end.items()
    )


def _load(path: Path) -> Fold:
    try:
        return Fold.from_json(path.read_bytes())
    except FileNotFoundError:
        return Fold()
    except Rejected as error:
        log.warning("the ledger's snapshot can't be read; it is made again from the log", why=error.reason)
        return Fold()
