"""`industrialmind rebuild` and `replay`, from the running plant and from a stopped one's files."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from cloud.ingest.app import run as run_ingest
from cloud.ingest.settings import IngestSettings
from industrialmind import rebuild
from industrialmind.rebuild_jobs import RebuildJobs
from shared import names
from shared.errors import NotFound, Unavailable
from shared.eventlog import Record, open_event_log
from shared.frame_codec import encode
from shared.frames import Header, Kind
from tests.unit.front_door import Command, Outcome, RunningPlant, commanding
from tests.unit.ledger_plant import T0, rows


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


async def send(plant: RunningPlant, count: int, first: int = 1) -> None:
    """Frames of ten rows into the log."""
    async with open_event_log(
        plant.nats.nats_url, credentials=plant.nats.credentials("admin").userinfo
    ) as log:
        for number in range(count):
            start = first + 10 * number
            header = Header("s1", "edge-pump-1", "pump-1", Kind.READINGS, b"e" * 16, start, 10)
            await log.append(names.SENSOR_READINGS, "pump-1", [Record(encode(header, rows(10, start)))])


class Ingest:
    """Ingest in a thread of this process."""

    def __init__(self, plant: RunningPlant) -> None:
        plant.processes.ingest()
        keep = {"retention_raw_days": 0, "retention_minute_days": 0}  # these readings are from long ago
        self._settings = IngestSettings.load(toml=plant.data.config("ingest"), flags=keep)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(run_ingest(self._settings, self._stop))

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)


@contextmanager
def ingesting(plant: RunningPlant) -> Iterator[Ingest]:
    ingest = Ingest(plant)
    try:
        yield ingest
    finally:
        ingest.stop()


def damage(path: Path) -> None:
    db = sqlite3.connect(path, timeout=10)
    with db:
        assert db.execute("DELETE FROM readings WHERE time_us = ?", (T0 + 5_000_000,)).rowcount == 1
        db.execute("UPDATE readings SET value = value + 1 WHERE time_us = ?", (T0 + 6_000_000,))
    db.close()


def stored(path: Path) -> int:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        found: int = db.execute("SELECT count(*) FROM readings").fetchone()[0]
    except sqlite3.OperationalError:
        found = 0  # it is not made yet
    finally:
        db.close()
    return found


def until(check: "object") -> None:
    for _ in range(2000):
        if check():  # type: ignore[operator]
            return
        threading.Event().wait(0.01)  # another thread works
    raise AssertionError("it did not come to that")


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[RunningPlant]:
    made = RunningPlant(tmp_path / "data", rows=0)
    try:
        yield made
    finally:
        made.stop()


def last(outcome: Outcome) -> dict[str, object]:
    """The last JSON line."""
    assert outcome.code == 0, outcome.err
    found: dict[str, object] = orjson.loads(outcome.out.splitlines()[-1])
    return found


def test_a_running_plants_store_and_ledger_are_made_anew(command: Command, plant: RunningPlant) -> None:
    plant.start()
    root = plant.data.root
    with ingesting(plant):
        asyncio.run(send(plant, 4))
        until(lambda: stored(plant.data.telemetry) == 40)
        damage(plant.data.telemetry)
        bad = command("ledger", "--audit", "--data", root, "--json")
        assert (bad.code, {f["what"] for f in bad.json["findings"]}) == (1, {"missing", "altered"})
        told = last(command("rebuild", "telemetry", "--data", root, "--json"))
        assert (told["event"], told["records"], told["taken_over"]) == ("done", 4, 0)
        asyncio.run(send(plant, 1, 41))
        until(lambda: stored(plant.data.telemetry) == 50)
        good = command("ledger", "--audit", "--data", root, "--json")
        assert (good.code, good.json["rows_in_store"]) == (0, 50)
        again = command("rebuild", "ledger", "--data", root)
        assert again.code == 0
        assert "5 records" in again.out
        report = command("ledger", "--data", root)
        assert "Lateness of readings by stage" in report.out


def test_a_stopped_plants_files_are_made_anew(command: Command, plant: RunningPlant) -> None:
    plant.start_server()
    asyncio.run(send(plant, 4))
    plant.stop()
    root, telemetry = plant.data.root, plant.data.telemetry
    telemetry.unlink()
    assert last(command("rebuild", "telemetry", "--data", root, "--json"))["records"] == 4
    assert stored(telemetry) == 40
    damage(telemetry)
    assert "4 records" in command("rebuild", "telemetry", "--fresh", "--data", root).out
    assert command("ledger", "--audit", "--data", root).code == 0
    telemetry.write_bytes(b"no database" * 1000)
    assert command("rebuild", "telemetry", "--data", root).code == 0
    assert stored(telemetry) == 40
    assert telemetry.with_name("telemetry.db.damaged").read_bytes().startswith(b"no database")
    assert last(command("rebuild", "ledger", "--data", root, "--json"))["sources"] == 1
    assert orjson.loads(plant.data.ledger.read_bytes())["positions"][names.SENSOR_READINGS] == {"0": 4}
    assert command("rebuild", "models", "--data", root).code == 3


def test_the_log_is_replayed_onto_a_prefix_and_that_is_dropped(command: Command, plant: RunningPlant) -> None:
    plant.start_server()
    asyncio.run(send(plant, 3))
    plant.stop()
    data = ("--data", plant.data.root)
    made = last(command("replay", "--from", "1h ago", "--speed", "0", "--prefix", "try", "--json", *data))
    assert (made["prefix"], made["records"]) == ("try", 3)
    assert "try.sensor-readings  3 records" in command("replay", "--list", *data).out
    assert command("replay", "--list", "--json", *data).json["try"][names.SENSOR_READINGS] == 3
    few = command("replay", "--from", "-1h", "--topic", "scores", "--prefix", "two", *data)
    assert few.out == "0 records on two.scores\n"
    assert "dropped two.scores" in command("replay", "--drop", "two", *data).out
    assert command("replay", "--drop", "two", *data).code == 1


def test_wrong_usage_is_told(command: Command, tmp_path: Path) -> None:
    assert "telemetry" in command("rebuild").out
    assert [one["name"] for one in command("rebuild", "--json").json] == list(rebuild.PROJECTIONS)
    assert command("rebuild", "telemetry", "--data", tmp_path).code == 1  # no plant
    assert command("replay", "--data", tmp_path).code == 2
    assert command("replay", "--from", "soon", "--data", tmp_path).code == 2
    (tmp_path / "plant.json").write_bytes(b'{"site": "s1", "machines": []}')
    assert command("rebuild", "graph", "--data", tmp_path).code == 2


def test_a_store_that_nobody_takes_in_is_told(
    command: Command, plant: RunningPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ingest does not run: the copy waits."""
    monkeypatch.setattr(rebuild, "_ADOPTED_WITHIN", 0.1)
    plant.start_server()
    asyncio.run(send(plant, 1))
    plant.data.run_file.write_bytes(orjson.dumps({"pid": 1, "nats": plant.nats.nats_url}))
    outcome = command("rebuild", "telemetry", "--data", plant.data.root)
    assert outcome.code == 3
    assert "goes on trying" in outcome.err
    with ingesting(plant):
        until(lambda: stored(plant.data.telemetry) == 10)


async def test_jobs_of_the_cloud_process_tell_how_far_they_are() -> None:
    going = asyncio.Event()

    async def slow(tell: "object") -> None:
        tell(1, 2)  # type: ignore[operator]
        await going.wait()
        tell(2, 2)  # type: ignore[operator]

    async def failing(_: "object") -> None:
        raise Unavailable("the log is away")

    jobs = RebuildJobs({"slow": slow, "failing": failing})
    assert jobs.status("slow").state == "idle"
    assert jobs.start("slow").state == "running"
    jobs.start("failing")
    for _ in range(5):
        await asyncio.sleep(0)
    assert (jobs.start("slow").done, jobs.status("slow").total) == (1, 2)
    assert (jobs.status("failing").state, jobs.status("failing").why) == ("failed", "the log is away")
    going.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (jobs.status("slow").state, jobs.status("slow").done) == ("done", 2)
    with pytest.raises(NotFound):
        jobs.start("graph")
