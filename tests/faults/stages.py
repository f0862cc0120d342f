"""The stages of the way: how each is stopped, which buffer then grows, and what bounds that."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from edge.settings import Buffer
from gateway.settings import GatewaySettings
from shared.uplink import MAX_IN_FLIGHT
from tests.faults.backbone import Backbone
from tests.faults.buffers import telemetry_file
from tests.faults.tcp_proxy import Cut

Undo = Callable[[], object]

_OUTBOX = Buffer.model_fields["max_bytes"].default
_INBOX = GatewaySettings.model_fields["inbox_messages"].default
OUTBOX_CAP = f"`edge.buffer.max_bytes` {_OUTBOX:,}, then devices wait"
BROKER_CAP = "the broker's `max_queued_messages` (mosquitto's default: 1,000)"
LOG_CAP = "the topic's retention, 30 days, or its disk"
GATEWAY_CAP = (
    f"`gateway.inbox_messages` {_INBOX:,} a subscription, then the broker holds the rest: {MAX_IN_FLIGHT} frames an edge,"
    " direct JSON to `max_queued_messages`"
)


@dataclass(frozen=True)
class Stage:
    """`grows` names the fields of `Fill` of which at least one must grow, if any; `cap` is what bounds it."""

    name: str
    stop: Callable[[Backbone], Undo]
    grows: tuple[str, ...]
    cap: str


def _pause(name: str) -> Callable[[Backbone], Undo]:
    def stop(plant: Backbone) -> Undo:
        plant.parts[name].pause()
        return plant.parts[name].resume

    return stop


def _pause_server(name: str) -> Callable[[Backbone], Undo]:
    def stop(plant: Backbone) -> Undo:
        server = getattr(plant.wiring, name)
        server.pause()
        resume: Undo = server.resume
        return resume

    return stop


def _cut(network: str) -> Callable[[Backbone], Undo]:
    def stop(plant: Backbone) -> Undo:
        plant.wiring.networks[network].cut(Cut.BOTH)
        return plant.wiring.networks[network].heal

    return stop


def _lock(plant: Backbone) -> Undo:
    """A writer's lock on the store's file, as another program that writes there would hold it."""
    db = sqlite3.connect(telemetry_file(plant), isolation_level=None, timeout=30)
    db.execute("BEGIN IMMEDIATE")

    def undo() -> None:
        with closing(db):
            db.execute("ROLLBACK")

    return undo


STAGES = (
    Stage("devices' broker", _pause_server("devices_broker"), ("devices",), "each device's own memory"),
    Stage("edge e1", _pause("e1"), ("devices_broker",), BROKER_CAP),
    Stage("uplink (network)", _cut("edges"), ("outboxes",), OUTBOX_CAP),
    Stage("uplink's broker", _pause_server("broker"), ("outboxes", "devices"), OUTBOX_CAP),
    Stage("gateway", _pause("gateway-1"), ("outboxes", "broker"), f"{OUTBOX_CAP}; {BROKER_CAP}"),
    Stage("log", _pause_server("kafka"), ("outboxes", "broker", "gateway"), f"{OUTBOX_CAP}; {GATEWAY_CAP}"),
    Stage("ingest", _pause("ingest"), ("log",), LOG_CAP),
    Stage("store (its file is locked)", _lock, ("log",), LOG_CAP),
    Stage("data API and ledger", _pause("api"), (), "nothing waits for it"),
    Stage("control plane", _pause_server("nats"), (), "each edge's last report, told again when it is back"),
)
