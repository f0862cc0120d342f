"""`industrialmind train` on a running plant: fitted from the store, registered, and wanted on the machine's edge."""

from collections.abc import Iterator

import orjson
import pytest

from industrialmind.train import choose
from shared.errors import NotFound
from shared.nats import open_control
from tests.unit.front_door import PLANT, Command, RunningPlant, commanding, running_plant


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlant]:
    with running_plant(tmp_path_factory.mktemp("plant") / "data") as running:
        yield running


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


async def desired(plant: RunningPlant, edge: str) -> dict[str, str]:
    found: dict[str, str] = {}
    credentials = plant.nats.credentials("admin").userinfo
    async with open_control(plant.nats.nats_url, credentials=credentials) as control:
        async for change in control.watch_desired(edge):
            if change is None:
                return found
            assert change[1] is not None
            found[change[0]] = orjson.loads(change[1])["sha256"]
    raise AssertionError("the watch ended")


def test_a_model_is_fitted_delivered_and_listed(command: Command, plant: RunningPlant) -> None:
    import asyncio  # noqa: PLC0415

    root = plant.data.root
    outcome = command("train", "--data", root, "--machine", "pump-1", "--json")
    assert outcome.code == 0, outcome.err
    made = outcome.json
    assert (made["machine"], made["edge"], made["model"]) == ("pump-1", "edge-pump-1", "pump-1/window-pca")
    assert made["provisional"]
    assert asyncio.run(desired(plant, "edge-pump-1")) == {"pump-1": made["sha256"]}
    listed = command("models", "list", "--data", root, "--json").json
    newest = listed[-1]
    assert (newest["version_hash"], newest["promoted_to"]) == (made["sha256"], ["edge-pump-1"])
    table = command("models", "list", "--data", root).out
    assert made["sha256"][:12] in table
    assert "edge-pump-1" in table
    again = command("train", "--data", root, "--machine", "pump-1")
    assert again.out.startswith(f"pump-1: pump-1/window-pca v{made['version'] + 1} (provisional) ")
    assert again.out.endswith("delivered to edge-pump-1\n")


def test_a_machine_without_readings_does_not_stop_the_others(command: Command, plant: RunningPlant) -> None:
    outcome = command("train", "--data", plant.data.root)
    assert outcome.code == 2
    assert "pump-1: pump-1/window-pca" in outcome.out
    assert "no model: fan-1: fan-1 has no readings in the store" in outcome.err


def test_an_unknown_machine_is_named_with_those_there_are(command: Command, plant: RunningPlant) -> None:
    outcome = command("train", "--data", plant.data.root, "--machine", "pump-9")
    assert outcome.code == 1
    assert "no machine pump-9: this plant has pump-1, fan-1" in outcome.err


def test_without_a_plant_there_is_nothing_to_train(command: Command, plant: RunningPlant) -> None:
    outcome = command("train", "--data", plant.data.root / "none")
    assert outcome.code == 3
    assert "industrialmind up" in outcome.err


def test_machines_are_chosen_by_id_all_without_one() -> None:
    assert choose(PLANT.machines, []) == list(PLANT.machines)
    assert [m.id for m in choose(PLANT.machines, ["fan-1"])] == ["fan-1"]
    with pytest.raises(NotFound):
        choose(PLANT.machines, ["fan-1", "x"])
