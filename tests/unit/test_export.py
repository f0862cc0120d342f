"""`industrialmind export`: what the store has comes back from the files, reading by reading."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from cloud.telemetry.port import Columns, Entry, open_store
from industrialmind.export import DAY_US, export, run_export, schema
from industrialmind.plant import DataDir
from shared.errors import Misconfigured, Unavailable
from shared.frames import Readings
from tests.unit.front_door import EPOCH, T0, Command, commanding, readings, stopped_plant, store_entries

MIDNIGHT = (T0 // DAY_US + 1) * DAY_US
DAY = 86_400


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


def judged(entry: Entry) -> Entry:
    """The same with every quality there is."""
    assert isinstance(entry.content, Readings)
    quality = (np.arange(len(entry.content)) % 3).astype(np.uint8)
    return replace(entry, content=replace(entry.content, quality=quality))


def two_days(root: Path) -> DataDir:
    """Ten minutes on each side of midnight of one machine, and an hour of another."""
    pump = judged(readings(1200, start_us=MIDNIGHT - 600 * 1_000_000))
    fan = readings(600, machine="fan-1", start_us=MIDNIGHT + 7)
    return stopped_plant(root, pump, fan)


def read(out: Path) -> pa.Table:
    return (
        ds.dataset(out, partitioning="hive")
        .to_table()
        .sort_by([("machine", "ascending"), ("time", "ascending")])
    )


def from_store(data: DataDir, machine: str) -> Columns:
    async def ask() -> Columns:
        async with open_store(data.telemetry_url, read_only=True) as store:
            [part] = [part async for part in store.columns(machine)]
            return part

    return asyncio.run(ask())


def test_what_is_exported_is_what_the_store_has(command: Command, tmp_path: Path) -> None:
    data, out = two_days(tmp_path / "data"), tmp_path / "out"
    done = command("export", "--from", "2020-01-01T00:00:00Z", out, "--data", data.root)
    assert done.code == 0, done.err
    assert "7,200 readings of 2 machines in 3 files" in done.out
    table = read(out)
    for machine in ("pump-1", "fan-1"):
        wanted = from_store(data, machine)
        rows = table.filter(pa.compute.equal(table["machine"].cast(pa.string()), machine)).to_pydict()
        order = np.lexsort((rows["sensor"], [t.timestamp() for t in rows["time"]]))
        columns = {name: [values[at] for at in order] for name, values in rows.items()}
        mine = np.lexsort(([wanted.sensors[at] for at in wanted.sensor], wanted.time_us))
        as_us = pa.array(columns["time"], pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
        assert as_us == wanted.time_us[mine].tolist()
        assert columns["sensor"] == [wanted.sensors[at] for at in wanted.sensor[mine]]
        assert columns["value"] == wanted.value[mine].tolist()
        assert columns["unit"] == [wanted.units[at] for at in wanted.unit[mine]]
        assert columns["quality"] == [("good", "uncertain", "bad")[at] for at in wanted.quality[mine]]
        arrived = pa.array(columns["arrival"], pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
        assert arrived == wanted.arrival_us[mine].tolist()
        assert set(columns["edge"]) == {f"edge-{machine}"}
        assert set(columns["epoch"]) == {EPOCH.hex()}
        assert columns["row"] == wanted.row[mine].tolist()
        assert {str(day) for day in columns["day"]} <= {"2025-06-15", "2025-06-16"}


def test_a_range_and_a_machine_are_exported_alone(command: Command, tmp_path: Path) -> None:
    data, out = two_days(tmp_path / "data"), tmp_path / "out"
    until = str(MIDNIGHT + 3_000_000)
    done = command(
        "export",
        "--from",
        str(MIDNIGHT - 2_000_000),
        "--to",
        until,
        "--machine",
        "pump-1",
        out,
        "--data",
        data.root,
        "--json",
    )
    assert done.code == 0, done.err
    table = read(out)
    times = table["time"].cast(pa.int64())
    assert (pa.compute.min(times).as_py(), pa.compute.max(times).as_py()) == (
        MIDNIGHT - 2_000_000,
        MIDNIGHT + 2_000_000,
    )
    assert table.num_rows == 5 * 4
    assert {path.parent.name for path in out.rglob("*.parquet")} == {"day=2025-06-15", "day=2025-06-16"}


def test_a_running_plants_store_is_exported_as_of_one_moment(tmp_path: Path) -> None:
    data, out = two_days(tmp_path / "data"), tmp_path / "out"

    async def go() -> int:
        async with (
            open_store(data.telemetry_url) as writer,
            open_store(data.telemetry_url, read_only=True) as store,
            store.snapshot() as reader,
        ):
            await writer.write([readings(600, first=100_000, start_us=MIDNIGHT + 3_600_000_000)])
            made = await export(reader, out, ["pump-1"], 0, 2**62, lambda _: lambda _done, _total: None)
        return made.rows

    assert asyncio.run(go()) == 4800
    assert read(out).num_rows == 4800


def test_what_can_not_be_exported_is_said(command: Command, tmp_path: Path) -> None:
    data, out = two_days(tmp_path / "data"), tmp_path / "out"
    assert command("export", "--from", "2h ago", out, "--data", tmp_path / "nowhere").code == 1
    unknown = command("export", "--from", "2h ago", "--machine", "press", out, "--data", data.root)
    assert (unknown.code, "no readings of press" in unknown.err) == (1, True)
    assert command("export", "--from", "lately", out, "--data", data.root).code == 2
    (out / "x").mkdir(parents=True)
    used = command("export", "--from", "2h ago", out, "--data", data.root)
    assert (used.code, "is not empty" in used.err) == (2, True)
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="can't be made"):
        asyncio.run(run_export(data.root, tmp_path / "file" / "out", (), 0, 1, lambda _: lambda _d, _t: None))


def test_an_export_that_fails_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = two_days(tmp_path / "data"), tmp_path / "out"
    asyncio.run(store_entries(data, []))
    monkeypatch.setattr("industrialmind.export.CHUNK", 1000)
    monkeypatch.setattr(
        "industrialmind.export.sync_folder", lambda _: (_ for _ in ()).throw(OSError("no room"))
    )
    with pytest.raises(Unavailable, match="no room"):
        asyncio.run(run_export(data.root, out, (), 0, 2**62, lambda _: lambda _d, _t: None))
    assert list(out.rglob(".*")) == []
    assert schema().names[0] == "time"
