"""Ingest's wiring: log, store, health, loops."""

import asyncio
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from cloud.ingest.adopt import Adopter
from cloud.ingest.pump import Metrics, Pump
from cloud.ingest.retention import Expirer
from cloud.ingest.settings import IngestSettings
from cloud.telemetry.port import open_store
from shared.clock import SystemClock
from shared.eventlog import LogWaits, open_event_log
from shared.health import Health, serve_health
from shared.names import DEAD_LETTER
from shared.service import run_loops, until_stop
from shared.watch import Watch


async def run(settings: IngestSettings, stop: asyncio.Event) -> None:
    """Ingest until `stop`. Raises Unavailable if log or store can't be had at the start, Misconfigured."""
    registry, clock = CollectorRegistry(), SystemClock()
    log_url, log_credentials = settings.log
    health = Health()
    async with AsyncExitStack() as resources:
        await resources.enter_async_context(
            serve_health(
                health,
                registry,
                host=settings.host,
                port=settings.port,
                token=settings.metrics_token.get_secret_value(),
            )
        )
        store = await resources.enter_async_context(
            open_store(
                settings.telemetry_url, bounds=settings.late, clock=clock, access=settings.telemetry_access
            )
        )
        event_log = await resources.enter_async_context(
            open_event_log(
                log_url,
                credentials=log_credentials,
                waits=LogWaits(settings.connect_seconds, settings.produce_seconds),
                tls=settings.tls.open(),
            )
        )
        pump = Pump(
            event_log,
            store,
            Metrics(registry),
            clock,
            group=settings.group,
            limits=settings.limits,
            retry_cap_seconds=settings.retry_cap_seconds,
            between=Adopter(event_log, store, settings.telemetry_url, settings.late, clock).look,
        )
        expirer = Expirer(store, settings.retention, clock, registry)
        health.add_check("store and log", lambda: pump.waiting_for)
        # A log that hangs lets its consumers wait in silence. This topic's end moves seldom: it is cheap to ask for.
        watch = Watch(health, {"store": store.positions, "log": lambda: event_log.end(DEAD_LETTER)})
        health.started = True
        await run_loops(
            stop,
            grace=settings.grace_seconds,
            ingest=lambda: pump.run(stop),
            lag=lambda: pump.watch_lag(stop),
            watch=until_stop(stop, watch.run),
            retention=lambda: expirer.run(stop),
        )
