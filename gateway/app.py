"""The gateway's wiring: broker, log, assignments, health, lanes."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from gateway.lane import Known, Lane, Make, Metrics, until
from gateway.logic import Assignments, Incoming, Plan, Planner
from gateway.settings import GatewaySettings
from shared.clock import Clock, SystemClock
from shared.eventlog import LogWaits, open_event_log
from shared.frames import EPOCH_BYTES
from shared.health import Health, serve_health
from shared.names import DEVICE_FILTERS, UPLINK_FILTERS, direct_edge
from shared.nats import ControlPlane, Timeouts, open_control
from shared.paho import open_mqtt
from shared.service import Loop, run_loops

log = structlog.get_logger()

DIRECT: Final = "direct"


async def run(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Carry messages to the log until `stop`. Raises Misconfigured, Unavailable if the log can't be had at the start."""
    registry, health, known = CollectorRegistry(), Health(), Known()
    metrics, clock = Metrics(registry), SystemClock()
    credentials = settings.credentials.get_secret_value()
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
                settings.nats_url,
                credentials=credentials,
                waits=LogWaits(settings.connect_seconds, settings.produce_seconds),
            )
        )
        control = await resources.enter_async_context(
            open_control(
                settings.nats_url,
                credentials=credentials,
                timeouts=Timeouts(connect=settings.connect_seconds),
            )
        )
        loops: dict[str, Loop] = {"assignments": partial(watch, control, known, stop)}
        for name, filters, make in subscriptions(settings, clock):
            client = await resources.enter_async_context(
                open_mqtt(
                    settings.mqtt_url,
                    client_id=f"{settings.client_id}-{name}",
                    username=settings.mqtt_username,
                    password=settings.mqtt_password.get_secret_value(),
                    receive_maximum=settings.inbox_messages,
                    connect_seconds=settings.connect_seconds,
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
                batches_in_flight=1 if name == DIRECT else settings.batches_in_flight,
                retry_cap_seconds=settings.retry_cap_seconds,
            )
            health.add_check(name, lane.problem)
            loops[name] = partial(lane.run, filters, stop)
        health.add_check("assignments", known.problem)
        health.started = True
        log.info("gateway started", broker=settings.mqtt_url, direct=settings.direct)
        await run_loops(stop, grace=settings.grace_seconds, **loops)


def subscriptions(settings: GatewaySettings, clock: Clock) -> list[tuple[str, tuple[str, ...], Make]]:
    """Name, filters and plan of each lane: urgent events, telemetry and (if wanted) machines with no edge."""
    planner = Planner(direct_edge(settings.number), os.urandom(EPOCH_BYTES))

    def frames(batch: Sequence[Incoming], assignments: Assignments) -> Plan:
        return planner.frames(batch, assignments, now_us=clock.now_us())

    def direct(batch: Sequence[Incoming], assignments: Assignments) -> Plan:
        return planner.direct(batch, assignments, now_us=clock.now_us())

    telemetry, urgent = UPLINK_FILTERS
    made: list[tuple[str, tuple[str, ...], Make]] = [
        ("urgent", (urgent,), frames),
        ("frames", (telemetry,), frames),
    ]
    if settings.direct:
        made.append((DIRECT, DEVICE_FILTERS, direct))
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
