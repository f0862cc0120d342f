"""The gateway's wiring: broker, log, assignments, health, lanes."""

import asyncio
import os
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from gateway.direct_plan import DirectPlanner
from gateway.frames_plan import plan_frames
from gateway.lane import Known, Lane, Make, Metrics, until
from gateway.logic import Assignments, Plan
from gateway.port import SHARED_PREFIX, Arrivals, open_broker
from gateway.settings import GatewaySettings
from gateway.sparkplug.opening import open_sparkplug
from shared.clock import Clock, SystemClock
from shared.eventlog import LogWaits, open_event_log
from shared.frames import EPOCH_BYTES
from shared.health import Health, serve_health
from shared.names import DEVICE_FILTERS, UPLINK_FILTERS, direct_edge
from shared.nats import ControlPlane, Timeouts, open_control
from shared.service import Loop, run_loops

log = structlog.get_logger()

DIRECT: Final = "direct"
DIRECT_GATHER_SECONDS: Final = 0.02
"""How long devices' JSON gathers before the next batch, as an edge's rows do before a cut (100 ms there)."""


async def run(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Carry messages to the log until `stop`. Raises Misconfigured, Unavailable if the log can't be had at the start."""
    registry, health, known = CollectorRegistry(), Health(), Known()
    metrics, clock = Metrics(registry), SystemClock()
    log_url, log_credentials = settings.log
    tls = settings.tls.open()
    async with AsyncExitStack() as resources:
        await resources.enter_async_context(
            serve_health(
                health,
                registry,
                host=settings.host,
                port=settings.port,
                token=settings.token.get_secret_value(),
            )
        )
        event_log = await resources.enter_async_context(
            open_event_log(
                log_url,
                credentials=log_credentials,
                waits=LogWaits(settings.connect_seconds, settings.produce_seconds),
                tls=tls,
            )
        )
        control = await resources.enter_async_context(
            open_control(
                settings.nats_url,
                credentials=settings.credentials.get_secret_value(),
                timeouts=Timeouts(connect=settings.connect_seconds),
                tls=tls,
            )
        )
        loops: dict[str, Loop] = {"assignments": partial(watch, control, known, stop)}
        for name, filters, make in subscriptions(settings, clock):
            client = await resources.enter_async_context(
                open_broker(
                    settings.mqtt_url,
                    client_id=f"{settings.client_id}-{name}",
                    username=settings.mqtt_username,
                    password=settings.mqtt_password.get_secret_value(),
                    # What edges send and a dead session holds back would only come late: they send it again.
                    clean=bool(settings.share_group) and name != DIRECT,
                    receive_maximum=settings.inbox_messages,
                    connect_seconds=settings.connect_seconds,
                    driver=settings.mqtt_driver,
                    version=settings.mqtt_version,
                    session_seconds=settings.session_seconds,
                    tls=tls,
                )
            )
            lane = Lane(
                name,
                client,
                make,
                event_log=event_log,
                known=known,
                refresh=control.assignments,
                metrics=metrics,
                clock=clock,
                batch_messages=settings.batch_messages,
                batches_in_flight=settings.batches_in_flight,
                retry_cap_seconds=settings.retry_cap_seconds,
                gather_seconds=DIRECT_GATHER_SECONDS if name == DIRECT else 0.0,
            )
            health.add_check(name, lane.problem)
            loops[name] = partial(lane.run, stop)
            loops[f"subscription of {name}"] = partial(lane.subscribe, filters, stop)
        if settings.sparkplug_host_id:
            host = await resources.enter_async_context(
                open_sparkplug(settings, event_log=event_log, known=known, registry=registry, clock=clock)
            )
            health.add_check("sparkplug", host.problem)
            loops["sparkplug"] = partial(host.run, stop)
        health.add_check("assignments", known.problem)
        health.started = True
        log.info("gateway started", broker=settings.mqtt_url, direct=settings.direct)
        await run_loops(stop, grace=settings.grace_seconds, **loops)


def subscriptions(settings: GatewaySettings, clock: Clock) -> list[tuple[str, tuple[str, ...], Make]]:
    """Name, filters and plan of each lane: urgent events, telemetry and (if wanted) machines with no edge."""
    gateway = direct_edge(settings.number)
    planner = DirectPlanner(gateway, os.urandom(EPOCH_BYTES), rows=settings.direct_rows)

    def frames(arrivals: Arrivals, assignments: Assignments) -> Plan:
        return plan_frames(arrivals, assignments, gateway=gateway, now_us=clock.now_us())

    def direct(arrivals: Arrivals, assignments: Assignments) -> Plan:
        return planner.plan(arrivals, assignments, now_us=clock.now_us())

    def shared(filters: tuple[str, ...]) -> tuple[str, ...]:
        group = settings.share_group
        return tuple(f"{SHARED_PREFIX}{group}/{each}" for each in filters) if group else filters

    telemetry, urgent = UPLINK_FILTERS
    made: list[tuple[str, tuple[str, ...], Make]] = [
        ("urgent", shared((urgent,)), frames),
        ("frames", shared((telemetry,)), frames),
    ]
    if settings.direct:
        made.append((DIRECT, shared(DEVICE_FILTERS), direct))
    return made


async def watch(control: ControlPlane, known: Known, stop: asyncio.Event) -> None:
    """Keep `known` up to date until `stop`."""

    async def follow() -> None:
        async for change in control.watch_assignments():
            if change is None:
                known.loaded.set()
                continue
            machine, assigned = change
            if assigned is None:
                known.assignments.pop(machine, None)
            else:
                known.assignments[machine] = assigned

    await until(stop, follow())
