"""Models of remaining life on a running plant: each has a run and a version in MLflow, whatever dies on the way."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from cloud.life.artifact import load_life
from cloud.training.mlflow import tracking as tracking_module
from industrialmind import life_train
from industrialmind.life_train import register_fitted
from shared.artifact import sha256
from shared.supervise import free_ports
from tests.agreement import tracking_of
from tests.unit.front_door import Command, RunningPlant, commanding, running_plant
from tests.unit.life_fleet import COLUMNS, fleet
from tests.unit.training_plant import (
    CLOCK,
    MACHINE,
    OTHER,
    Killed,
    Trained,
    another_trainer,
    first_training,
    found,
    life_fit,
    life_registered,
    on_servers,
    quiet,
    reconcile,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # MLflow's and SQLAlchemy's own
    pytest.mark.usefixtures("trained"),
]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlant]:
    with running_plant(tmp_path_factory.mktemp("plant") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def trained(plant: RunningPlant) -> Trained:
    return first_training(plant)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


@pytest.fixture(scope="module")
def lived(plant: RunningPlant, trained: Trained) -> str:
    """Hash of a life model of both machines."""
    assert trained.after is not None
    return life_registered(plant)


def life_words(plant: RunningPlant, monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str | Path]:
    """`life train` of a file, whose fit takes a moment."""
    fit = life_fit(MACHINE)
    monkeypatch.setattr(life_train, "fit_life", lambda *_, **__: fit)
    runs, path = fleet(12), folder / "failed.csv"
    rows = zip(runs.of_row, runs.cycles, runs.values, strict=True)
    lines = [f"{unit},{cycle:g},{','.join(map(str, values))}\n" for unit, cycle, values in rows]
    path.write_text("".join([f"unit,cycle,{','.join(COLUMNS)}\n", *lines]))
    words = ("life", "train", "--train", path, "--machine", MACHINE, "--failure", "flow below 60 %")
    return [*words, "--data", plant.data.root]


def test_a_life_version_has_a_whole_run_and_numbers_of_its_own(
    command: Command, plant: RunningPlant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lived: str
) -> None:
    before = found(plant)
    done = command(*life_words(plant, monkeypatch, tmp_path), "--json").json
    after = found(plant)
    after.assert_agree()
    [number] = done["machines"].values()
    assert (done["not_in_mlflow"], done["telling"]) == ("", [])
    assert after.mlflow["pump-1.life"] == {**before.mlflow["pump-1.life"], number: done["version_hash"]}
    assert after.aliases["pump-1.life"] == {**before.aliases["pump-1.life"], "challenger": number}
    assert after.mlflow[f"{OTHER}.life"][1] == lived
    for account in ("mlflow", "aliases", "stages"):
        for name in (MACHINE, f"{OTHER}.life"):
            assert getattr(after, account)[name] == getattr(before, account)[name]
    tracking = tracking_of(plant.data)
    [run] = tracking._search(f"tags.version_hash = '{done['version_hash']}'")
    assert {run.data.tags[name] for name in ("purpose", "machine", "method")} == {
        "life",
        MACHINE,
        "life-trees",
    }
    assert {"environment.python", "environment.scikit-learn", "rows_sha256"} <= run.data.tags.keys()
    assert run.data.metrics == pytest.approx(done["metrics"])
    assert {name for name in run.data.metrics if "floor" in name}
    said = run.data.params
    assert (said["failure_criterion"], said["load_assumption"]) == ("flow below 60 %", "usual")
    assert (said["knee_hours"], said["data.units"], said["rounds"], said["seed"]) == ("50.0", "12", "2", "0")
    assert said["data.sha256"] == run.data.tags["rows_sha256"]
    files = {file.path: file.file_size for file in tracking._client.list_artifacts(run.info.run_id)}
    assert files.keys() == {"model.zip", "manifest.json"}
    [again] = [model for model in after.registry.lives if model.version_hash == done["version_hash"]]
    path = tracking._client.download_artifacts(run.info.run_id, "model.zip", str(tmp_path))
    assert load_life(Path(path).read_bytes()).version_hash == again.version_hash


def test_on_servers_a_life_model_reaches_mlflow_too(
    command: Command, plant: RunningPlant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = on_servers(plant, [f"{MACHINE}:centrifugal-pump"], tmp_path / "train.toml")
    words = life_words(plant, monkeypatch, tmp_path)
    done = command(*words, "--config", config, "--deliver", "--json").json
    after = found(plant)
    after.assert_agree()
    assert (done["telling"], done["not_in_mlflow"]) == ([MACHINE], "")
    assert after.stages["pump-1.life"][done["machines"][MACHINE]] == "Production"


@pytest.mark.usefixtures("lived")
@pytest.mark.parametrize(
    "step",
    ["log-run", "register", "mlflow-version", pytest.param("mlflow-alias", marks=pytest.mark.nightly)],
)
def test_after_an_end_of_life_train_at_any_step_the_next_job_makes_all_agree(
    plant: RunningPlant, step: str
) -> None:
    """And the same artifact again, as a trainer that goes on makes it, is the same run."""

    def tell(event: Mapping[str, Any]) -> None:
        if event.get("step") == step:
            raise Killed

    reconcile(plant)
    fit = life_fit(OTHER)
    with pytest.raises(Killed):
        asyncio.run(register_fitted(plant.data.root, None, fit, CLOCK, tell, deliver=True))
    assert not found(plant).noted
    reconcile(plant)
    asyncio.run(register_fitted(plant.data.root, None, fit, CLOCK, quiet, deliver=True))
    after = found(plant)
    after.assert_agree()
    assert [run["version_hash"] for run in after.runs].count(sha256(fit.artifact)) == 1


@contextlib.contextmanager
def away(plant: RunningPlant, what: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow's server that does not answer, or its folder of files that can't be written when a run is half there."""
    run, folder = plant.data.run_file.read_bytes(), plant.data.mlflow_artifacts
    aside = folder.with_name("aside")
    with monkeypatch.context() as patch:
        patch.setattr(tracking_module, "QUIET", {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
        if what == "server":
            url = f"http://127.0.0.1:{free_ports(1)[0]}"
            plant.data.run_file.write_bytes(orjson.dumps({**orjson.loads(run), "mlflow": url}))
        else:
            folder.rename(aside)
            folder.write_bytes(b"")
        try:
            yield
        finally:
            plant.data.run_file.write_bytes(run)
            if aside.exists():
                folder.unlink()
                aside.rename(folder)


@pytest.mark.usefixtures("lived")
@pytest.mark.parametrize("what", ["server", "folder"])
def test_with_mlflow_away_a_life_model_is_registered_all_the_same(
    command: Command, plant: RunningPlant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    words = life_words(plant, monkeypatch, tmp_path)
    with away(plant, what, monkeypatch):
        said = command(*words)
    assert said.code == 0, said.err
    assert "registered, and not yet in MLflow: MLflow at " in said.out
    behind = found(plant)
    newest = [model for model in behind.registry.lives if model.machine == MACHINE][-1]
    assert newest.version not in behind.mlflow["pump-1.life"]
    assert not behind.noted
    assert reconcile(plant).mlflow["pump-1.life"][newest.version] == newest.version_hash


def test_a_life_model_waits_for_the_trainer_that_works(plant: RunningPlant) -> None:
    """Else MLflow would have two writers."""
    told: list[str] = []
    with another_trainer(plant) as release:

        def tell(event: Mapping[str, Any]) -> None:
            told.append(event.get("step", event["event"]))
            if event["event"] == "waiting":
                release.set()

        asyncio.run(register_fitted(plant.data.root, None, life_fit(MACHINE), CLOCK, tell, deliver=False))
    assert told[:2] == ["waiting", "open-mlflow"]
    found(plant).assert_agree()
