"""What the front door's tests share: a command as its user gives it, and a plant's files, stopped or running."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import structlog

from cloud.ingest.logic import read_event
from cloud.telemetry.port import Entry, open_store
from industrialmind.children import Ports, Processes
from industrialmind.cli import main
from industrialmind.client import Client
from industrialmind.cloud import CloudSettings, run_cloud
from industrialmind.embedded import EmbeddedNats
from industrialmind.plant import DataDir, Machine, Plant, write_private
from industrialmind.up import prepare
from shared.errors import Unavailable
from shared.eventlog import Position, Record, Stored, open_event_log
from shared.events import AnomalyEnded, AnomalyStarted, Event, Sensor
from shared.frames import Header, Kind, Readings
from shared.names import MACHINE_EVENTS, SENSOR_READINGS
from shared.nats import open_control
from shared.supervise import free_ports
from tests.models import SENSORS, STEP_US, UNITS, healthy

T0 = 1_750_000_000_000_000
ONSET = datetime(2026, 1, 1, tzinfo=UTC)
PLANT = Plant("s1", (Machine("pump-1", "centrifugal-pump"), Machine("fan-1", "extraction-fan")))
EPOCH = b"e" * 16


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        """Standard output as JSON."""
        return orjson.loads(self.out)


class Command:
    """Gives commands to the console script in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["industrialmind", *(str(word) for word in words)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capsys.readouterr()
        return Outcome(int(ended.value.code or 0), out, err)


@contextmanager
def commanding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Commands on a wide terminal; logging is as before afterwards."""
    monkeypatch.setenv("COLUMNS", "220")
    with logging_of_its_own():
        yield Command(monkeypatch, capsys)


@contextmanager
def logging_of_its_own() -> Iterator[None]:
    """Commands that run in this process set logging up, on a stream that ends with their test: undone in the end."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))  # as it is by then
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


def readings(rows: int = 1200, *, machine: str = "pump-1", first: int = 1, start_us: int = T0) -> Entry:
    """`rows` rows of the four sensors of `tests.models`, a second apart, as one log record."""
    values = healthy(rows)
    times = np.repeat(start_us + np.arange(rows) * STEP_US, len(SENSORS))
    body = Readings(
        SENSORS,
        UNITS,
        np.tile(np.arange(len(SENSORS)), rows),
        times,
        times + 7,
        values.reshape(-1),
        np.zeros(len(times), np.uint8),
    )
    header = Header("s1", f"edge-{machine}", machine, Kind.READINGS, EPOCH, first, len(times))
    return Entry(Stored(SENSOR_READINGS, machine, b"", {}, "0", first, T0), header, body)


def event(number: int, found: Event) -> Entry:
    """An event as the log's record `number`."""
    record = Stored(MACHINE_EVENTS, found.subject, found.to_json(), {}, "0", number, T0)
    return Entry(record, None, read_event(record.value))


def anomaly_started(machine: str = "pump-1", onset: datetime = ONSET) -> AnomalyStarted:
    """Flow leads, seen beside expected."""
    return AnomalyStarted(
        source=f"edge/edge-{machine}",
        subject=machine,
        occurred_at=onset,
        rule="window-pca",
        edge=f"edge-{machine}",
        onset=onset,
        score=2.0,
        limit=1.0,
        model=f"{machine}/window-pca",
        version_hash="ab" * 32,
        sensors=(Sensor(sensor="flow", share=0.9, seen=31.5, expected=52.25, unit="[l/min]"),),
    )


def anomaly_ended(machine: str = "pump-1", onset: datetime = ONSET) -> AnomalyEnded:
    """The end of the same."""
    return AnomalyEnded(
        source=f"edge/edge-{machine}",
        subject=machine,
        occurred_at=onset.replace(hour=1),
        rule="window-pca",
        edge=f"edge-{machine}",
        onset=onset,
        peak_score=5.0,
        limit=1.0,
    )


async def store_entries(data: DataDir, entries: Sequence[Entry]) -> None:
    """Write them as ingest does."""
    async with open_store(data.telemetry_url) as store:
        await store.write(entries)


def stopped_plant(root: Path, *entries: Entry) -> DataDir:
    """The files of a plant that ran once."""
    data = DataDir(root)
    write_private(data.plant_file, PLANT.to_json().decode())
    asyncio.run(store_entries(data, entries))
    return data


def reported(state: str, **part: Any) -> dict[str, Any]:  # noqa: ANN401 - a report's fields
    """A machine's part of its edge's report."""
    return {
        "state": state,
        "arrival_us": T0,
        "model": "pump-1/window-pca",
        "version": 2,
        "sha256": "ab" * 32,
        "provisional": True,
        "score": 0.5,
        "limit": 1.0,
        "leading": [{"sensor": "flow", "share": 1.0, "seen": 1.0, "expected": 2.0, "unit": "l/min"}],
        "last": {"flow": {"value": 1.0, "unit": "l/min", "ts": T0}},
        **part,
    }


class RunningPlant:
    """nats-server and the cloud process of a plant whose edges are told by hand; the pump has `rows` rows of history."""

    def __init__(self, root: Path, *, rows: int = 1200) -> None:
        self.data = stopped_plant(root, *([readings(rows)] if rows else []))
        self.ports = Ports(*free_ports(5))
        self.nats = EmbeddedNats(root, PLANT.edges(), nats_port=self.ports.nats, mqtt_port=self.ports.mqtt)
        self.nats.write_config()
        self.processes = Processes(self.data, PLANT, self.nats, self.ports)
        self.api = f"http://127.0.0.1:{self.ports.api}"
        self.room = f"http://127.0.0.1:{self.ports.ui}"
        self.process: subprocess.Popen[bytes] | None = None
        self.failed: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve)

    def start_server(self) -> None:
        """nats-server with topics, buckets and assignments."""
        with (self.data.root / "nats.log").open("ab") as log:
            self.process = subprocess.Popen(self.nats.command(), stderr=log)
        asyncio.run(self._prepare())

    async def _prepare(self) -> None:
        await self.nats.wait_ready()
        await prepare(self.nats, PLANT)

    def start(self) -> None:
        """Return once the data API is ready."""
        self.start_server()
        self.processes.cloud()
        urls = {"api": self.api, "ui": self.room, "nats": self.nats.nats_url, "mqtt": self.nats.mqtt_url}
        write_private(self.data.run_file, orjson.dumps({"pid": os.getpid(), **urls}).decode())
        self._thread.start()
        with Client.of(self.data) as client:
            for _ in range(1000):
                if self.failed is not None:
                    raise self.failed
                try:
                    if len(client.get("/v1/machines")["machines"]) == len(PLANT.machines):
                        return
                except Unavailable:
                    pass
                threading.Event().wait(0.01)  # another thread comes up
        raise AssertionError("the data API did not come up")

    def tell(self, edge: str, state: dict[str, Any]) -> None:
        """Report in the edge's name."""
        asyncio.run(self._tell(edge, state))

    async def _tell(self, edge: str, state: dict[str, Any]) -> None:
        async with open_control(
            self.nats.nats_url, credentials=self.nats.credentials("admin").userinfo
        ) as control:
            await control.report(edge, "state", orjson.dumps(state))

    def append(self, topic: str, key: str, value: bytes) -> Position:
        """Write one record to the log; the position that counts to it."""
        return asyncio.run(self._append(topic, key, value))

    async def _append(self, topic: str, key: str, value: bytes) -> Position:
        credentials = self.nats.credentials("admin").userinfo
        async with open_event_log(self.nats.nats_url, credentials=credentials) as log:
            return await log.append(topic, key, [Record(value)])

    def stop(self) -> None:
        """End both."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(20)
        self.data.run_file.unlink(missing_ok=True)
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def _serve(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await run_cloud(CloudSettings.load_all(self.data.config("cloud")), self._stop)

        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.failed = error


@contextmanager
def running_plant(root: Path, *, rows: int = 1200) -> Iterator[RunningPlant]:
    """A plant with a data API."""
    plant = RunningPlant(root, rows=rows)
    try:
        plant.start()
        yield plant
    finally:
        plant.stop()
