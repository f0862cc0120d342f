"""Life training from a store's own histories: machines that wear, are mended and go on, on a real log and store."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cloud.life.artifact import load_life
from cloud.life.manifest import RunningRule
from cloud.life.runs import Runs
from cloud.life.training import Terms, train_life
from cloud.registry.app import register_life
from cloud.telemetry.port import HOUR_US, Entry
from industrialmind.life_histories import Histories, read_histories
from industrialmind.life_train import Wish, fit_life, machines_of, running_rule
from industrialmind.plant import Machine
from industrialmind.repairs import Repairs
from shared.errors import Misconfigured, NotFound, Rejected
from shared.eventlog import Record, Stored
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS, WORK_ORDERS
from shared.work_order_events import WorkOrderClosed, WorkOrderOpened
from tests.servers import NatsServer
from tests.unit.front_door import PLANT, commanding, stopped_plant
from tests.unit.inference_parts import CLOCK, Inference, open_inference
from tests.unit.life_fleet import COLUMNS, fleet
from tests.unit.test_life_product import CONFIG

BEGIN = 1_700_000_000_000_000 // HOUR_US * HOUR_US
MACHINES = ("pump-a", "pump-b", "pump-c")
LIVES = 5
RULE = RunningRule(sensor="load", off=5.0)
OFF_HOURS = 7


@pytest.fixture(scope="module")
def units() -> Runs:
    return fleet(len(MACHINES) * (LIVES + 1), seed=4)


@pytest.fixture
async def plant(nats_server: NatsServer, tmp_path: Path, units: Runs) -> AsyncIterator[Inference]:
    """Three machines: each failed and was mended five times, once for another reason, and runs again since."""
    async with open_inference(tmp_path, nats_server) as made:
        for number, machine in enumerate(MACHINES):
            mine = units.take(np.arange(number * (LIVES + 1), (number + 1) * (LIVES + 1)))
            await _live(made, machine, mine, {2: "SEAL"} if machine == "pump-c" else {})
        yield made


async def _live(inference: Inference, machine: str, lives: Runs, codes: Mapping[int, str]) -> None:
    """One life after the other; in the middle of each it is off for some hours and still says so. The last one goes on."""
    hours: list[int] = []
    rows: list[Sequence[float]] = []
    hour = 0
    for number, part in enumerate(lives.rows()):
        whole = lives.values[part].tolist()
        # The last unit's newest hour is not over.
        for row in whole[:20] + [[0.0] * len(COLUMNS)] * OFF_HOURS + whole[20:]:
            hours.append(hour)
            rows.append(row)
            hour += 1
        if number < LIVES:
            await _mended(inference, f"{machine}-{number}", machine, hour, codes.get(number, "BRD"))
            hour += 1
    await _write(inference, machine, np.array(hours), np.array(rows))


async def _write(inference: Inference, machine: str, hours: "np.ndarray[tuple[int], np.dtype[np.int64]]", rows: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> None:  # fmt: skip
    count, width = rows.shape
    times = BEGIN + np.repeat(hours, width) * HOUR_US + HOUR_US // 2
    readings = Readings(
        COLUMNS,
        ("",) * width,
        np.tile(np.arange(width), count),
        times,
        times + 500,
        rows.reshape(-1),
        np.zeros(count * width, np.uint8),
    )
    header = Header("s1", "gateway-1", machine, Kind.READINGS, machine.encode().ljust(16), 1, len(readings))
    place = Stored(SENSOR_READINGS, machine, b"", {}, "0", 1 + MACHINES.index(machine), BEGIN)
    await inference.store.write([Entry(place, header, readings)])


async def _mended(inference: Inference, order: str, machine: str, hour: int, code: str) -> None:
    moment = datetime.fromtimestamp((BEGIN + hour * HOUR_US) / 1e6 + 600, UTC)
    common = {"source": "test", "subject": order, "occurred_at": moment, "by": "ann"}
    opened = WorkOrderOpened(
        **common,
        revision=1,
        machine=machine,
        component="",
        kind="corrective",
        priority="normal",
        title="worn",
        description="",
        anomaly="",
    )
    closed = WorkOrderClosed(**common, revision=2, failure_code=code, actions="new one")
    await inference.events.append(
        WORK_ORDERS, order, [Record(each.to_json(), id=each.id) for each in (opened, closed)]
    )


async def _read(
    plant: Inference,
    *,
    machines: Sequence[str] = MACHINES,
    codes: Sequence[str] = (),
    from_new: bool = False,
    running: RunningRule | None = RULE,
) -> Histories:
    return await read_histories(
        plant.store, Repairs(plant.events), machines, codes=codes, from_new=from_new, running=running
    )


async def test_lives_are_cut_at_repairs_and_count_running_hours_alone(plant: Inference, units: Runs) -> None:
    found = await _read(plant)
    assert found.unknown == len(MACHINES)
    assert len(found.failed) == len(MACHINES) * (LIVES - 1)
    whole = [k for k in range(len(units)) if k % (LIVES + 1) not in {0, LIVES}]
    wanted = units.take(np.array(whole))
    np.testing.assert_array_equal(found.failed.lives, wanted.lives)
    columns = [found.failed.columns.index(name) for name in COLUMNS]
    np.testing.assert_allclose(found.failed.values[:, columns], wanted.values)
    last = units.lives[LIVES :: LIVES + 1] - 1  # the hour that goes on is not whole
    np.testing.assert_array_equal(found.running, last)
    assert found.failed.units[0] == "pump-a 2"
    new = await _read(plant, from_new=True)
    assert (len(new.failed), new.unknown) == (len(MACHINES) * LIVES, 0)
    awake = await _read(plant, running=None)
    np.testing.assert_array_equal(awake.failed.lives, wanted.lives + OFF_HOURS)


async def test_another_failure_ends_a_unit_that_had_not_failed(plant: Inference, units: Runs) -> None:
    found = await _read(plant, codes=["BRD"])
    assert len(found.failed) == len(MACHINES) * (LIVES - 1) - 1
    other = units.lives[2 * (LIVES + 1) + 2]
    assert other in found.running.tolist()
    assert len(found.running) == len(MACHINES) + 1


async def test_too_few_units_say_what_would_help(plant: Inference) -> None:
    with pytest.raises(Rejected, match=r"8 units of pump-a, pump-b ran to failure.*2 more.*--from-new"):
        await _read(plant, machines=MACHINES[:2])
    with pytest.raises(Rejected, match=r"1 units of .* \(SEAL\)"):
        await _read(plant, codes=["SEAL"])
    with pytest.raises(Rejected, match="no readings of pump-z"):
        await _read(plant, machines=("pump-a", "pump-z"))


async def test_what_is_learnt_of_the_store_tells_the_machine_that_runs(plant: Inference, units: Runs) -> None:
    found = await _read(plant)
    terms = Terms(MACHINES, "flow below 60 %", "as it was", HOUR_US, "ann", RULE)
    data = train_life(found.failed, terms, CONFIG, 1, running=found.running)
    manifest = load_life(data).manifest
    assert (manifest.units, manifest.running_units, manifest.provisional) == (12, 3, True)
    await register_life(
        plant.events, plant.control, data, manifest.model_dump(mode="json"), CLOCK, deliver=False
    )
    told = await plant.get("/v1/machines/pump-b/life")
    age = units.lives[2 * LIVES + 1] - 1
    assert told["age_hours"] == age
    assert told["renewed_by"] == "work-order"
    assert told["duty"] == pytest.approx(age / (age + OFF_HOURS))
    assert told["run_hours"]["interval_90"][0] <= 3  # it is at its end


def test_a_wish_becomes_an_artifact() -> None:
    wish = Wish(("pump-a",), "worn", "usual", cap=50.0, rounds=4, running=RULE)
    manifest = load_life(fit_life(fleet(12), wish, CLOCK, running=np.array([70.0, 80.0])).artifact).manifest
    assert (manifest.machines, manifest.running_units, manifest.running) == (("pump-a",), 2, RULE)


def test_machines_of_a_type_and_what_tells_that_they_run(tmp_path: Path) -> None:
    root = tmp_path / "data"
    stopped_plant(root)
    assert machines_of(root, None, [], "extraction-fan") == [PLANT.machines[1]]
    assert machines_of(root, None, ["pump-1", "new-1"], "") == [PLANT.machines[0], Machine("new-1", "")]
    with pytest.raises(NotFound, match=r"centrifugal-pump, extraction-fan"):
        machines_of(root, None, [], "crane")
    alike = [Machine("a", "pump", "speed", 5.0), Machine("b", "pump", "speed", 5.0)]
    assert running_rule("", alike) == RunningRule(sensor="speed", off=5.0)
    assert running_rule("", [*alike, Machine("c", "pump", "speed", 6.0)]) is None
    assert running_rule("a:b:2", alike) == RunningRule(sensor="a:b", off=2.0)
    for wrong in ("speed", "speed:x", ":5"):
        with pytest.raises(Misconfigured, match="SENSOR:OFF"):
            running_rule(wrong, alike)


def test_the_command_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    stopped_plant(root)
    with commanding(monkeypatch, capsys) as command:
        said = command("life", "train", "--failure", "worn", "--data", root)
        assert said.code == 2
        assert "--machine" in said.err
        said = command("life", "train", "--failure", "worn", "--type", "extraction-fan", "--data", root)
        assert said.code == 3
        assert "no plant is running" in said.err
        words = ("life", "train", "--failure", "worn", "--machine", "pump-1", "--cycle-hours", "2")
        assert command(*words, "--data", root).code == 2
