"""`industrialmind backup` and `restore`: consistent whatever moves on meanwhile, and proved whole before it is used."""

import asyncio
import hashlib
import io
import random
import sqlite3
import stat
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from edge.outbox import Outbox, open_outbox
from edge.outbox_copy import copy_on_request
from edge.outbox_renew import read_copied
from industrialmind import backup as backup_module
from industrialmind import restore as restore_module
from industrialmind.backup import files_of
from industrialmind.backup_file import MANIFEST, SEAL, read_backup
from industrialmind.plant import DataDir
from shared import names
from shared.clock import SystemClock
from shared.errors import Rejected, Unavailable
from shared.eventlog import Record, open_event_log
from shared.frame_codec import decode
from shared.frames import Kind
from shared.packing import Item
from tests.unit.front_door import Command, RunningPlant, commanding
from tests.unit.ledger_plant import HOUR, rows
from tests.unit.test_rebuild_command import ingesting, stored, until

EDGE = "edge-pump-1"
LATELY = int(time.time()) // 3600 - 1 - HOUR
"""So many hours after the helper's: the store keeps readings 30 days."""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[RunningPlant]:
    made = RunningPlant(tmp_path / "data", rows=0)
    try:
        yield made
    finally:
        made.stop()


class Edge:
    """An edge's outbox in a thread, open as the agent has it, and moved on by hand."""

    def __init__(self, plant: RunningPlant, *, copies: bool = True) -> None:
        self._plant, self._copies = plant, copies
        self._path = plant.data.outbox(EDGE)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._outbox: Outbox
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self._ready.wait(10)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        async with open_outbox(self._path, site="s1", edge=EDGE, clock=SystemClock()) as self._outbox:
            copying = asyncio.create_task(copy_on_request(self._outbox, self._path, SystemClock()))
            if not self._copies:
                copying.cancel()
            self._ready.set()
            await self._stop.wait()
            copying.cancel()

    def do(self, work: Any) -> Any:  # noqa: ANN401 - whatever it returns
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def wait(self, count: int, start: int) -> None:
        """Rows that are committed and have no number."""
        self.do(self._outbox.append([Item("pump-1", Kind.READINGS, rows(count, start, hour=LATELY))]))

    def cut(self, start: int) -> bytes:
        """Ten rows as a frame."""
        self.wait(10, start)
        [ref] = self.do(self._outbox.cut(partial=True))
        data = self.do(self._outbox.data(ref.first))
        assert isinstance(data, bytes)
        return data

    def free(self, data: bytes) -> None:
        header, _ = decode(data)
        self.do(self._outbox.free([(header.first, header.last)]))

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)


@contextmanager
def running_edge(plant: RunningPlant, *, copies: bool = True) -> Iterator[Edge]:
    edge = Edge(plant, copies=copies)
    try:
        yield edge
    finally:
        edge.stop()


async def send(plant: RunningPlant, *frames: bytes) -> None:
    """To the log as the gateway does."""
    async with open_event_log(
        plant.nats.nats_url, credentials=plant.nats.credentials("admin").userinfo
    ) as log:
        for data in frames:
            await log.append(names.SENSOR_READINGS, "pump-1", [Record(data)])


def small_plant(plant: RunningPlant) -> None:
    """Forty rows in log and store of a plant that is stopped."""
    plant.start_server()
    with running_edge(plant) as edge, ingesting(plant):
        frames = [edge.cut(start) for start in range(0, 40, 10)]
        asyncio.run(send(plant, *frames))
        for data in frames:
            edge.free(data)
        until(lambda: stored(plant.data.telemetry) == 40)
    plant.stop()


def backed_up_in_motion(command: Command, plant: RunningPlant, file: Path, edge: Edge) -> dict[str, Any]:
    """A backup of which the edge cuts three frames between its outbox's copy and the log's; the log gets two of them."""
    confirmed, unacknowledged, unsent = (edge.cut(start) for start in (0, 10, 20))
    asyncio.run(send(plant, confirmed, unacknowledged))
    edge.free(confirmed)
    edge.wait(5, 30)
    until(lambda: stored(plant.data.telemetry) == 20)
    late: list[bytes] = []
    take = backup_module._Backup._outbox

    async def take_and_go_on(self: Any, name: str) -> bool:  # noqa: ANN401 - the class is private
        there = await take(self, name)
        if name == EDGE:
            late.extend(await asyncio.to_thread(lambda: [edge.cut(start) for start in (40, 50, 60)]))
            await send(plant, unsent, late[2])
        return there

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backup_module._Backup, "_outbox", take_and_go_on)
        done = command("backup", file, "--data", plant.data.root, "--json")
    assert done.code == 0, done.err
    assert "in the clear" in done.err
    asyncio.run(send(plant, *late))
    until(lambda: stored(plant.data.telemetry) == 65)  # the plant that was backed up goes on whole
    told: dict[str, Any] = orjson.loads(done.out.splitlines()[-1])
    return told


def test_a_plant_is_backed_up_while_it_runs_and_nothing_that_moves_on_makes_a_gap(
    command: Command, plant: RunningPlant, tmp_path: Path
) -> None:
    plant.start()
    file, fresh = tmp_path / "plant.tar", tmp_path / "fresh"
    with running_edge(plant) as edge, ingesting(plant):
        told = backed_up_in_motion(command, plant, file, edge)
    assert (told["event"], told["running"], told["path"]) == ("done", True, str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    old = read_copied(plant.data.outbox(EDGE))
    plant.stop()

    done = command("restore", file, "--data", fresh, "--json")
    assert done.code == 0, done.err
    told = orjson.loads(done.out.splitlines()[-1])
    assert (told["cut"], told["appended"], told["waiting"]) == (1, 1, 5)
    new = read_copied(DataDir(fresh).outbox(EDGE))
    assert (new.produced, new.waiting) == (0, 5)
    assert new.epoch != old.epoch

    again = RunningPlant(fresh, rows=0)
    again.start_server()
    try:
        with ingesting(again):
            until(lambda: stored(again.data.telemetry) == 30)
        with running_edge(again) as edge:
            edge.wait(1, 90)
            assert edge.do(edge._outbox.report())["waiting"] == 6
    finally:
        again.stop()
    report = command("ledger", "--audit", "--data", fresh, "--json")
    assert (report.code, report.json["findings"]) == (0, [])
    assert report.json["rows_in_store"] == 30
    counted = {one["epoch"]: one for one in report.json["sources"]}
    assert counted[old.epoch.hex()]["logged"] == 30
    # Ingest went on where it was: only the frame whose acknowledgement the outbox never saw came twice.
    assert counted[old.epoch.hex()]["redelivered"] == 10


def test_a_stopped_plant_comes_back_as_it_was(command: Command, plant: RunningPlant, tmp_path: Path) -> None:
    small_plant(plant)
    (plant.data.root / "mlflow").mkdir()
    (plant.data.root / "mlflow" / "note").write_text("kept")
    done = command("backup", tmp_path, "--data", plant.data.root)
    assert done.code == 0, done.err
    [file] = tmp_path.glob("industrialmind-s1-*.tar")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    done = command("restore", file, "--data", fresh)
    assert done.code == 0, done.err
    assert "0 frames of outboxes" in done.out
    assert stored(fresh / "telemetry.db") == 40
    assert (fresh / "mlflow" / "note").read_text() == "kept"
    for path in (plant.data.root / "secrets").iterdir():
        twin = fresh / "secrets" / path.name
        assert (twin.read_bytes(), stat.S_IMODE(twin.stat().st_mode)) == (path.read_bytes(), 0o600)
    assert stat.S_IMODE((fresh / "secrets").stat().st_mode) == 0o700
    assert command("ledger", "--audit", "--data", fresh).code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["data", "fresh", file.name])


def test_a_backup_is_used_only_as_it_was_made(command: Command, plant: RunningPlant, tmp_path: Path) -> None:
    small_plant(plant)
    file, bad, fresh = tmp_path / "plant.tar", tmp_path / "bad.tar", tmp_path / "fresh"
    assert command("backup", file, "--data", plant.data.root).code == 0
    whole = file.read_bytes()
    entries = read_backup(file, lambda _done, _total: None).entries
    random_ = random.Random(1)
    with tarfile.open(file) as tar:
        end = tar.getmember(SEAL).offset
    for length in [0, 511, 512, 1000, end, *(random_.randrange(end) for _ in range(20))]:
        bad.write_bytes(whole[:length])
        with pytest.raises(Rejected):
            read_backup(bad, lambda _done, _total: None)
    refused = 0
    for _ in range(150):
        at = random_.randrange(len(whole))
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << random_.randrange(8)]) + whole[at + 1 :])
        try:
            assert read_backup(bad, lambda _done, _total: None).entries == entries  # it was in the padding
        except Rejected:
            refused += 1
    assert refused > 50
    bad.write_bytes(whole[: len(whole) // 2])
    done = command("restore", bad, "--data", fresh)
    assert done.code == 2
    assert "cut short" in done.err
    assert not fresh.exists()


def rewritten(file: Path, into: Path, change: Any) -> None:  # noqa: ANN401 - a function on the manifest
    """A backup with another manifest, sealed as a forger would."""
    with tarfile.open(file) as old, tarfile.open(into, "w") as new:
        for member in old.getmembers():
            source = old.extractfile(member)
            assert source is not None
            data = source.read()
            if member.name == MANIFEST:
                about = orjson.loads(data)
                change(about)
                data = orjson.dumps(about)
                sealed = hashlib.sha256(data).hexdigest().encode()
            if member.name == SEAL:
                data = sealed
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))


def test_what_is_refused_says_why_and_leaves_nothing(
    command: Command, plant: RunningPlant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_plant(plant)
    root, file, fresh = plant.data.root, tmp_path / "plant.tar", tmp_path / "fresh"
    inside = command("backup", root / "plant.tar", "--data", root)
    assert (inside.code, "would be a backup of" in inside.err) == (2, True)
    assert command("backup", tmp_path / "no" / "plant.tar", "--data", root).code == 2
    assert command("backup", file, "--data", tmp_path / "nowhere").code == 1
    assert command("backup", file, "--data", root).code == 0
    there = command("backup", file, "--data", root)
    assert (there.code, "is there already" in there.err) == (2, True)
    used = command("restore", file, "--data", root)
    assert (used.code, "is not empty" in used.err) == (2, True)
    assert command("restore", tmp_path / "none.tar", "--data", fresh).code == 1
    later = tmp_path / "later.tar"
    rewritten(file, later, lambda about: about.update(format=2))
    newer = command("restore", later, "--data", fresh)
    assert (newer.code, "this release reads 1" in newer.err) == (2, True)

    def outside(about: dict[str, Any]) -> None:
        about["files"][0]["name"] = "../outside"

    forged = tmp_path / "forged.tar"
    rewritten(file, forged, outside)
    assert command("restore", forged, "--data", fresh).code == 2

    async def away(*_: object) -> None:
        raise Unavailable("no room")

    monkeypatch.setattr(restore_module, "load_stream", away)
    assert command("restore", file, "--data", fresh).code == 3
    names_left = {path.name for path in tmp_path.iterdir()}
    assert names_left == {"data", "plant.tar", "later.tar", "forged.tar"}


def test_an_edge_that_does_not_answer_ends_the_backup(
    command: Command, plant: RunningPlant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.start()
    monkeypatch.setattr(backup_module, "COPY_SECONDS", 0.3)
    with running_edge(plant, copies=False) as edge:
        edge.cut(0)
        done = command("backup", tmp_path / "plant.tar", "--data", plant.data.root)
    assert (done.code, f"{EDGE} did not copy its outbox" in done.err) == (3, True)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_up_makes_anew_is_left_out(tmp_path: Path) -> None:
    kept = ["plant.json", "app.db", "secrets/cli.token", "edges/e1/models/m.onnx", "ledger.json"]
    left = ["lock", "run.json", "logs/up.log", "nats/store/x", "run/api.toml", "app.db-wal", "app.db-shm"]
    left += [
        "edges/e1/outbox.db",
        "edges/e1/outbox.db.copy-wanted",
        "telemetry.db.rebuild",
        ".plant.json.new",
    ]
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "plant.json")
    assert {path.relative_to(tmp_path).as_posix() for path in files_of(tmp_path)} == set(kept)


def test_damaged_rows_of_the_old_epoch_are_kept_beside_the_restored_outbox(
    command: Command, plant: RunningPlant, tmp_path: Path
) -> None:
    small_plant(plant)
    db = sqlite3.connect(plant.data.outbox(EDGE))
    with db:
        db.execute("INSERT INTO damaged VALUES (1, 41, 50, 'pump-1', 0, 0, 'frames', 'rot', 1, x'00')")
    db.close()
    file, fresh = tmp_path / "plant.tar", tmp_path / "fresh"
    assert command("backup", file, "--data", plant.data.root).code == 0
    assert command("restore", file, "--data", fresh).code == 0
    outbox = DataDir(fresh).outbox(EDGE)
    assert sorted(path.name for path in outbox.parent.iterdir()) == [
        "outbox.db",
        "outbox.db.damaged-before-restore",
    ]
    db = sqlite3.connect(outbox)
    assert db.execute("SELECT count(*) FROM damaged").fetchone() == (0,)
    db.close()
