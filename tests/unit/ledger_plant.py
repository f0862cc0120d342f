"""A plant of one edge for the ledger's tests: a real outbox, a real log and a real store, moved on by hand."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from cloud.ingest.logic import read_batch
from cloud.ledger.audit import audit
from cloud.ledger.report import AuditReport, EdgeReport
from cloud.telemetry.port import TelemetryStore, open_store
from edge.outbox_file import OutboxFile
from shared import names
from shared.clock import SystemClock
from shared.eventlog import EventLog, Record, open_event_log
from shared.frame_codec import decode, encode
from shared.frames import Kind, Readings
from shared.jetstream import default_budgets, ensure_topics
from shared.nats.link import open_link
from shared.packing import Item, pieces
from tests.servers import NatsServer

EDGE = "edge-1"
MACHINE = "pump-1"
HOUR = 486_111  # hours since 1970
T0 = HOUR * 3_600_000_000

Change = Callable[[Readings], Readings]


def rows(count: int, start: int = 0, *, hour: int = 0, value: float = 0.0) -> Readings:
    """Readings of two sensors in turn, a second apart, in one hour."""
    index = np.arange(start, start + count)
    time_us = T0 + hour * 3_600_000_000 + index * 1_000_000
    return Readings(
        ("t1", "p1"), ("degC", "bar"), index % 2, time_us, time_us + 5, index.astype(np.float64) + value, np.zeros(count, np.uint8)
    )  # fmt: skip


def altered(body: Readings) -> Readings:
    """The second row with another value."""
    value = body.value.copy()
    value[1] += 0.5
    return replace(body, value=value)


def reframed(data: bytes, change: Change, *, first: int | None = None) -> bytes:
    """A frame as someone would forge it: other content, perhaps under other row numbers, and a valid checksum."""
    header, body = decode(data)
    assert isinstance(body, Readings)
    made = change(body)
    return encode(replace(header, first=first or header.first, count=len(made)), made)


class Plant:
    """See the module."""

    def __init__(self, server: NatsServer, folder: Path, log: EventLog, store: TelemetryStore) -> None:
        self.server, self.folder, self.log, self.store = server, folder, log, store
        self.outbox = folder / "outbox.db"
        self.telemetry = folder / "t.db"
        self._file: OutboxFile | None = None
        self._ingested: dict[str, Mapping[str, int]] = {}

    @property
    def file(self) -> OutboxFile:
        """The edge's outbox, open as the agent has it."""
        if self._file is None:
            self._file = OutboxFile(self.outbox, site="s1", edge=EDGE, max_bytes=1 << 30, clock=SystemClock())
        return self._file

    def stop_edge(self) -> None:
        """The agent ends; its file stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def cut(self, body: Readings, kind: Kind = Kind.READINGS) -> bytes:
        """Commit and cut one frame; its bytes."""
        with self.file.transaction():
            self.file.append(pieces([Item(MACHINE, kind, body)]))
            [ref] = self.file.cut(partial=True)
        data = self.file.data(ref.first)
        assert data is not None
        return data

    async def send(self, data: bytes, *, free: bool = True) -> None:
        """To the log as the gateway does, then the acknowledgement."""
        await self.log.append(names.SENSOR_READINGS, MACHINE, [Record(data)])
        if free:
            header, _ = decode(data)
            with self.file.transaction():
                self.file.free([(header.first, header.last)])

    async def ingest(self) -> None:
        """All that is new in the log to the store."""
        for topic in (names.SENSOR_READINGS, names.MACHINE_EVENTS, names.DEAD_LETTER):
            records = [r async for r in self.log.read(topic, self._ingested.get(topic))]
            if records:
                await self.store.write(read_batch(records)[0])
                self._ingested[topic] = {records[-1].partition: records[-1].offset}

    async def move(self, *bodies: Readings) -> list[bytes]:
        """Each body as a frame through every stage."""
        made = [self.cut(body) for body in bodies]
        for data in made:
            await self.send(data)
        await self.ingest()
        return made

    def report(self) -> dict[str, EdgeReport]:
        """What the edge reports now."""
        return {EDGE: EdgeReport.model_validate(self.file.report())}

    async def audit(self, *, local: bool = True, wait: float = 0.0) -> AuditReport:
        """The audit, from the outbox's file (the edge stops) or from the edge's report."""
        reports = self.report()
        outboxes = {}
        if local:
            self.stop_edge()
            reports, outboxes = {}, {EDGE: self.outbox}
        return await audit(
            self.log, self.store, reports, outboxes=outboxes, folder=self.folder, catch_up_seconds=wait
        )

    async def delete_record(self, offset: int, topic: str = names.SENSOR_READINGS) -> None:
        """Remove a record from the middle of the log."""
        async with open_link(self.server.url, credentials=self.server.credentials) as link:
            await link.session().api(f"STREAM.MSG.DELETE.log-{topic}", {"seq": offset})

    async def purge_before(self, offset: int, topic: str = names.SENSOR_READINGS) -> None:
        """Remove the log's first records, as age does."""
        async with open_link(self.server.url, credentials=self.server.credentials) as link:
            await link.session().api(f"STREAM.PURGE.log-{topic}", {"seq": offset})

    def tamper(self, path: Path, statement: str, values: tuple[object, ...] = ()) -> None:
        """Change a file from outside."""
        db = sqlite3.connect(path)
        with db:
            assert db.execute(statement, values).rowcount == 1
        db.close()


@asynccontextmanager
async def open_plant(server: NatsServer, folder: Path) -> AsyncIterator[Plant]:
    """An empty plant on a server that may have held another one's records."""
    async with open_link(server.url, credentials=server.credentials) as link:
        info = await link.session().api("STREAM.NAMES")
        for stream in info.get("streams") or ():
            await link.session().api(f"STREAM.DELETE.{stream}")
    budgets = default_budgets(server.max_file_store)
    await ensure_topics(server.url, credentials=server.credentials, budgets=budgets)
    async with (
        open_event_log(server.url, credentials=server.credentials) as log,
        open_store(f"sqlite:///{folder}/t.db") as store,
    ):
        plant = Plant(server, folder, log, store)
        try:
            yield plant
        finally:
            plant.stop_edge()
