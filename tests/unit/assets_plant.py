"""A plant's assets for tests: the owner on a real log and a real database, and who asks."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from cloud.assets.app import Metrics, Owner
from cloud.assets.commands import Commands
from cloud.assets.model import Kind
from cloud.assets.port import By, Projection
from cloud.assets.sightings import Sightings
from cloud.assets.sql import open_assets
from shared.clock import SystemClock
from shared.eventlog import EventLog
from shared.jetstream import default_budgets, ensure_topics, open_jetstream
from shared.sqlalchemy import open_database
from tests.servers import NatsServer

SEEN = Sightings(
    assignments={"pump-1": ("s1", "edge-pump-1")},
    series=[("pump-1", "flow", "m3/h"), ("replay-x", "temp", "degC")],
    models=[("pump-1", {"sensors": [{"name": "flow", "low": 38.0, "high": 46.0}]})],
)
FLOW = (Kind.SENSOR, "pump-1.flow")
_requests = itertools.count()


def ada(revision: int | None = None, request: str = "") -> By:
    """A person under a key of her own each time."""
    return By("ada", request or f"r{next(_requests)}", revision)


@dataclass(frozen=True)
class Assets:
    """The owner with its parts."""

    log: EventLog
    tables: Projection
    owner: Owner
    commands: Commands
    registry: CollectorRegistry


def owning(log: EventLog, tables: Projection) -> Assets:
    """An owner as a new process makes it."""
    registry = CollectorRegistry()
    owner = Owner(log, tables, SystemClock(), Metrics(registry))
    return Assets(log, tables, owner, Commands(owner, SystemClock()), registry)


@asynccontextmanager
async def assets_on(server: NatsServer, path: Path) -> AsyncIterator[Assets]:
    """An owner on this server's log, with its tables in this file."""
    budgets = default_budgets(server.max_file_store)
    await ensure_topics(server.url, credentials=server.credentials, budgets=budgets)
    async with (
        open_jetstream(server.url, credentials=server.credentials) as log,
        open_database(f"sqlite:///{path}", setting="api.app_url") as database,
    ):
        yield owning(log, await open_assets(database))
