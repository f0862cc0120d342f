"""The loop: fetch a batch, dead-letter what can't be read, write the rest, then acknowledge. Waits where it must.

The next batch is fetched and decoded while one is written. They are written one after another, in their order.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cloud.ingest.fetch import Fetched, Fetcher, Limits
from cloud.ingest.logic import TOPICS, Letter
from cloud.telemetry.port import TelemetryStore, WriteResult
from shared.clock import Clock
from shared.errors import Unavailable
from shared.eventlog import EventLog
from shared.names import DEAD_LETTER
from shared.service import Patience, wait_or_stop

log = structlog.get_logger()

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)


class Metrics:
    """What ingest counts. No machine labels: the store answers questions about one machine."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "im_ingest_lag_records", "records of the topic not yet stored", ["topic"], registry=registry
        )
        self.batch = Histogram(
            "im_ingest_batch_records",
            "records in one write",
            registry=registry,
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        )
        self.write = Histogram(
            "im_ingest_write_seconds", "time of one write", registry=registry, buckets=_SECONDS
        )
        self.delay = Histogram(
            "im_ingest_delay_seconds",
            "from the log to the store, the oldest record of a batch",
            registry=registry,
            buckets=_SECONDS,
        )
        self.rows = Counter("im_ingest_rows", "rows by what became of them", ["outcome"], registry=registry)
        self.letters = Counter(
            "im_ingest_dead_letters", "records that could not be stored", registry=registry
        )

    def count(self, result: WriteResult) -> None:
        """Add one write's rows."""
        self.rows.labels("stored").inc(result.rows)
        self.rows.labels("duplicate").inc(result.duplicates)
        self.rows.labels("conflict").inc(result.conflicts)
        self.rows.labels("redelivered").inc(result.redelivered)
        self.rows.labels("rejected").inc(result.rejected)


class Pump:
    """One consumer of the log and its store.

    `between` is called again and again when no write is half done.
    """

    def __init__(
        self,
        event_log: EventLog,
        store: TelemetryStore,
        metrics: Metrics,
        clock: Clock,
        *,
        group: str = "ingest",
        limits: Limits | None = None,
        retry_cap_seconds: float = 5.0,
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._log = event_log
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._group = group
        self._limits = limits or Limits()
        self._patience = Patience(retry_cap_seconds)
        self._between = between

    @property
    def waiting_for(self) -> str:
        """Why nothing moves, "" while it does."""
        return self._patience.waiting_for

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; what was fetched before it is written and acknowledged."""
        async with self._log.consume(TOPICS, self._group) as subscription:
            fetcher = Fetcher(subscription, self._limits, self._clock)
            writing: asyncio.Task[bool] | None = None

            def busy() -> bool:
                return writing is not None and not writing.done()

            try:
                while not stop.is_set():
                    fetched = await self._patience.retried(stop, "log", lambda: fetcher.fetch(busy))
                    if writing is not None and not await writing:
                        return  # what was fetched since is not acknowledged: it comes again
                    writing = None
                    if self._between is not None:
                        await self._between()
                    if fetched is not None:
                        writing = asyncio.create_task(self._take(fetched, stop), name="write of a batch")
                if writing is not None:
                    await writing
            finally:
                if writing is not None:
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)

    async def watch_lag(self, stop: asyncio.Event, *, every: float = 5.0) -> None:
        """Keep the lag gauges current, until `stop`."""
        while not await wait_or_stop(stop, every):
            try:
                await self.measure_lag()
            except Unavailable as error:
                log.debug("lag can't be measured now", why=str(error))

    async def measure_lag(self) -> dict[str, int]:
        """Records a topic that are in the log and not in the store."""
        positions = await self._store.positions()
        lags = {}
        for topic in TOPICS:
            held = positions.get(topic, {})
            end = await self._log.end(topic)
            lags[topic] = sum(max(0, last - held.get(partition, 0)) for partition, last in end.items())
            self._metrics.lag.labels(topic).set(lags[topic])
        return lags

    async def _take(self, fetched: Fetched, stop: asyncio.Event) -> bool:
        """Write and acknowledge; False if told to stop while something was away: the batch comes again."""
        letters, entries = fetched.letters, fetched.entries
        if (
            letters
            and await self._patience.retried(stop, "dead letters", lambda: self._send(letters)) is None
        ):
            return False
        begin = self._clock.monotonic()
        result = await self._patience.retried(stop, "store", lambda: self._store.write(entries))
        if result is None:
            return False
        self._metrics.write.observe(self._clock.monotonic() - begin)
        self._metrics.delay.observe(max(0.0, (self._clock.now_us() - fetched.oldest_us) / 1e6))
        self._metrics.batch.observe(len(entries))
        self._metrics.count(result)
        try:
            for batch in fetched.batches:
                await batch.ack()
        except Unavailable as error:
            log.debug("not acknowledged: the records come again and change nothing", why=str(error))
        return True

    async def _send(self, letters: Sequence[Letter]) -> bool:
        for letter in letters:
            log.warning(
                "a record can't be stored: dead letter",
                topic=letter.record.topic,
                offset=letter.record.offset,
                reason=letter.reason,
            )
            await self._log.append(DEAD_LETTER, letter.record.key, [letter.to_record()])
            self._metrics.letters.inc()
        return True
