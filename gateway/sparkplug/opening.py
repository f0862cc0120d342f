"""The Sparkplug host as the gateway wires it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from gateway.lane import Known
from gateway.port import open_broker
from gateway.settings import GatewaySettings
from gateway.sparkplug.host import Host
from gateway.sparkplug.lane import Announcer, SparkplugLane, SparkplugMetrics
from gateway.sparkplug.numbering import Numbering
from shared.clock import Clock
from shared.errors import Misconfigured, Rejected
from shared.eventlog import EventLog
from shared.frames import EPOCH_BYTES
from shared.names import direct_edge
from shared.sparkplug.node import Rules
from shared.sparkplug.topics import check_sparkplug_id


@asynccontextmanager
async def open_sparkplug(
    settings: GatewaySettings,
    *,
    event_log: EventLog,
    known: Known,
    registry: CollectorRegistry,
    clock: Clock,
) -> AsyncIterator[SparkplugLane]:
    """The host that `settings.sparkplug_host_id` names, on a connection of its own. Raises Misconfigured."""
    host_id = settings.sparkplug_host_id
    try:
        check_sparkplug_id(host_id, "host id")
    except Rejected as error:
        raise Misconfigured(error.reason, hint="set gateway.sparkplug_host_id to another name") from error
    announcer = Announcer(host_id, clock)
    rules = Rules(settings.sparkplug_reorder_seconds, settings.sparkplug_rebirth_seconds)
    edge = direct_edge(settings.number)
    async with open_broker(
        settings.mqtt_url,
        client_id=f"{settings.client_id}-sparkplug",
        username=settings.mqtt_username,
        password=settings.mqtt_password.get_secret_value(),
        clean=True,
        receive_maximum=settings.inbox_messages,
        connect_seconds=settings.connect_seconds,
        will=announcer.will,
        driver=settings.mqtt_driver,
        version=settings.mqtt_version,
        tls=settings.tls.open(),
    ) as client:
        yield SparkplugLane(
            host_id,
            client,
            announcer,
            host=Host(host_id, edge, rules),
            numbering=Numbering(edge, os.urandom(EPOCH_BYTES)),
            event_log=event_log,
            known=known,
            metrics=SparkplugMetrics(registry),
            clock=clock,
            batch_messages=settings.batch_messages,
            retry_cap_seconds=settings.retry_cap_seconds,
        )
