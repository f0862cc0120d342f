"""`train` and `models …` on a running plant: fitted from the store, logged, registered, delivered, and made to agree.

One module, one MLflow store, and window PCAs alone, which fit in a moment: what torch fits is tested beside it, and
trained and delivered by the demonstration's own trainer.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from cloud.telemetry.port import Entry
from cloud.training import app as app_module
from cloud.training import trained as training
from cloud.training.logic import fit
from cloud.training.recording import Recording
from industrialmind import train as train_module
from industrialmind.plant import DataDir
from industrialmind.retrain import root_of
from industrialmind.train import run_job
from industrialmind.train_follow import place_of
from industrialmind.train_words import progress
from industrialmind.trainer_job import Job
from shared.artifact import unpack
from shared.errors import Rejected
from shared.event import at
from shared.nats import ControlPlane, open_control
from tests.agreement import tracking_of
from tests.unit.front_door import (
    T0,
    Command,
    RunningPlant,
    commanding,
    readings,
    running_plant,
    store_entries,
)
from tests.unit.training_plant import (
    EDGE,
    MACHINE,
    OTHER,
    Killed,
    Trained,
    another_trainer,
    first_training,
    found,
    life_registered,
    on_servers,
    reconcile,
    two_window_pcas,
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


def test_both_candidates_are_registered_and_the_better_one_delivered(trained: Trained) -> None:
    assert trained.refused == "no model: fan-1: fan-1 has no readings in the store: nothing to learn from yet"
    [fitted], [delivered] = trained.of("fitted"), trained.of("delivered")
    assert (delivered["machine"], delivered["edge"]) == (MACHINE, EDGE)
    assert delivered["model"] == f"{MACHINE}/{fitted['chosen']}"
    now = trained.after
    assert now is not None
    now.assert_agree()
    models = now.registry.of(MACHINE)
    assert len(models) == len(fitted["candidates"])
    assert models[-1].version_hash == delivered["sha256"]
    assert {m.version_hash for m in models} <= {run["version_hash"] for run in now.runs}
    assert progress({"event": "waiting"}).startswith("another trainer")


def test_the_run_has_the_figures_the_data_and_the_artifact(trained: Trained) -> None:
    [fitted] = trained.of("fitted")
    for candidate in fitted["candidates"]:
        run = trained.runs[candidate["method"]]
        assert {k: v for k, v in run.metrics.items() if k in candidate["metrics"]} == candidate["metrics"]
        assert run.parameters["data.sha256"] == fitted["rows_sha256"]
        assert {"data.first_us", "data.last_us", "seed", "configuration"} <= run.parameters.keys()
        assert run.files["manifest.json"] > 1000
        assert run.files["model.zip"] > run.files["manifest.json"]
        assert run.losses == candidate["epochs"]
    assert any(candidate["epochs"] for candidate in fitted["candidates"])


def test_models_are_listed_and_shown(command: Command, plant: RunningPlant, trained: Trained) -> None:
    root, [delivered] = plant.data.root, trained.of("delivered")
    champion = found(plant).registry.champion(MACHINE)
    assert champion is not None
    listed = command("models", "list", "--data", root, "--json").json
    assert {(m["version_hash"], *m["aliases"]) for m in listed} >= {(champion.version_hash, "champion")}
    assert command("models", "list", "--data", root, "--machine", "fan-1", "--json").json == []
    table = command("models", "list", "--data", root).out
    assert delivered["sha256"][:12] in table
    assert "challenger" in table
    shown = command("models", "show", MACHINE, "--data", root)
    assert champion.version_hash in shown.out
    assert EDGE in shown.out
    whole = command("models", "show", MACHINE, "1", "--data", root, "--json").json
    assert whole["version"] == 1
    assert whole["manifest"]["machines"] == [MACHINE]
    assert command("models", "show", MACHINE, "99", "--data", root).code == 1
    assert "there are 1, 2" in command("models", "show", MACHINE, "99", "--data", root).err
    assert "no models of a machine" in command("models", "show", "fan-1", "--data", root).err


def test_a_person_promotes_and_what_was_decided_reaches_mlflow(command: Command, plant: RunningPlant) -> None:
    root = plant.data.root
    reconcile(plant)
    challenger = next(
        m for m in command("models", "list", "--data", root, "--json").json if "challenger" in m["aliases"]
    )
    version = str(challenger["version"])
    first = command("models", "promote", MACHINE, version, "--data", root)
    assert first.code == 0, first.err
    assert first.out.endswith(f"is promoted: wanted on {EDGE}\n")
    now = found(plant)
    assert now.desired[MACHINE] == (challenger["version"], challenger["version_hash"])
    assert not now.noted
    again = command("models", "promote", MACHINE, version, "--data", root, "--json").json
    assert (again["changed"], again["version_hash"]) == (False, challenger["version_hash"])
    assert reconcile(plant).aliases[MACHINE]["champion"] == challenger["version"]
    unknown = command("models", "promote", MACHINE, "99", "--data", root)
    assert (unknown.code, "has no version 99" in unknown.err) == (1, True)
    assert "fan-9 has no version 1" in command("models", "promote", "fan-9", "1", "--data", root).err


def test_machines_that_have_a_model_are_left_alone(command: Command, plant: RunningPlant) -> None:
    outcome = command("train", "--data", plant.data.root, "--machine", MACHINE, "--missing", "--json")
    assert outcome.code == 0, outcome.err
    told = [orjson.loads(line) for line in outcome.out.splitlines()]
    assert next(event for event in told if event["event"] == "started")["machines"] == []
    assert told[-1]["event"] == "reconciled"
    found(plant).assert_agree()


def test_a_trainer_by_urls_delivers_to_the_edge_that_is_assigned(
    command: Command, plant: RunningPlant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "train_machine_models", two_window_pcas)
    config = on_servers(plant, ["pump-1:centrifugal-pump:speed"], tmp_path / "train.toml")
    curves = tmp_path / "curves"
    done = command("train", "--config", config, "--deliver", "--json", "--tensorboard", curves)
    assert done.code == 0, done.err
    written = {each.parent.name for each in (curves / MACHINE).glob("*/*/events.*")}
    assert written == {"short-window-pca", "window-pca"}
    events = [orjson.loads(line) for line in done.out.splitlines()]
    assert [(e["machine"], e["edge"]) for e in events if e["event"] == "delivered"] == [(MACHINE, EDGE)]
    assert events[-1]["event"] == "reconciled"
    reconcile(plant)
    wrong = command("train", "--config", on_servers(plant, ["press-1"], tmp_path / "wrong.toml"))
    assert (wrong.code, "is not ID:TYPE" in wrong.err) == (2, True)


@pytest.mark.usefixtures("lived")
def test_a_lost_store_is_made_again_from_the_log(command: Command, plant: RunningPlant) -> None:
    before = found(plant)
    assert before.mlflow.keys() == {MACHINE, "pump-1.life", f"{OTHER}.life"}
    client = tracking_of(plant.data)._client
    for name in before.mlflow:
        client.delete_registered_model(name)
    for run in tracking_of(plant.data)._search(""):
        client.delete_run(run.info.run_id)
    assert command("train", "--data", plant.data.root, "--reconcile").code == 0
    after = found(plant)
    after.assert_agree()
    assert after.mlflow == before.mlflow
    assert all(run["restored"] == "true" for run in after.runs)


def test_what_others_wrote_into_mlflow_gives_way_to_the_log(plant: RunningPlant) -> None:
    client = tracking_of(plant.data)._client
    client.create_model_version(MACHINE, source="file:///nowhere")
    client.set_registered_model_alias(MACHINE, "favourite", "1")
    reconcile(plant)
    client.set_registered_model_alias(MACHINE, "favourite", "1")
    client.delete_model_version(MACHINE, "1")
    assert "favourite" not in reconcile(plant).aliases[MACHINE]


def test_an_edge_s_desired_state_follows_the_log(plant: RunningPlant) -> None:
    async def spoil() -> None:
        credentials = plant.nats.credentials("admin").userinfo
        async with open_control(plant.nats.nats_url, credentials=credentials) as control:
            await _spoil(control)

    asyncio.run(spoil())
    reconcile(plant)


async def _spoil(control: ControlPlane) -> None:
    value = {"model": "x", "version": 7, "object": "x", "sha256": "ab" * 32}
    await control.desire(EDGE, MACHINE, orjson.dumps(value))


ENDS = [
    *[(step, False) for step in ("log-run", "register", "promote", "deliver", "mlflow-version")],
    *[
        pytest.param(step, second, marks=pytest.mark.nightly)
        for second, steps in (
            (True, ("log-run", "register", "mlflow-version")),
            (False, ("fit", "mlflow-alias", "mlflow-run-end", "reconciled")),
        )
        for step in steps
    ],
]


@pytest.mark.parametrize(("step", "second"), ENDS)
def test_after_an_end_at_any_step_the_next_job_makes_all_agree(
    plant: RunningPlant, monkeypatch: pytest.MonkeyPatch, step: str, *, second: bool
) -> None:
    """`second`: at the second candidate, or the second time. With two window PCAs, which fit in a moment."""
    monkeypatch.setattr(train_module, "train_machine_models", two_window_pcas)
    seen: list[str] = []

    def tell(event: Mapping[str, Any]) -> None:
        if event.get("step") == step:
            seen.append(step)
            if len(seen) > second:
                raise Killed

    with contextlib.suppress(Killed):  # a second fit or alias need not come
        asyncio.run(run_job(plant.data.root, Job((MACHINE,), deliver=True), tell))
    assert seen
    reconcile(plant)


def test_a_second_trainer_says_that_it_waits(command: Command, plant: RunningPlant) -> None:
    with another_trainer(plant) as release:
        threading.Timer(0.5, release.set).start()
        outcome = command("train", "--data", plant.data.root, "--reconcile")
    assert outcome.code == 0
    assert "another trainer works" in outcome.err


def test_an_unknown_machine_is_named_with_those_there_are(command: Command, plant: RunningPlant) -> None:
    outcome = command("train", "--data", plant.data.root, "--machine", "pump-9")
    assert outcome.code == 1
    assert "no machine pump-9: this plant has pump-1, fan-1" in outcome.err


def test_without_a_plant_there_is_nothing_to_train(command: Command, plant: RunningPlant) -> None:
    outcome = command("train", "--data", plant.data.root / "none")
    assert outcome.code == 3
    assert "industrialmind up" in outcome.err


def test_mlflow_is_written_where_its_one_writer_is(plant: RunningPlant) -> None:
    data = DataDir(plant.data.root)
    assert place_of(data, {}).url == data.mlflow_url
    served = place_of(data, {"mlflow": "http://127.0.0.1:5011"})
    assert (served.url, served.password) == ("http://127.0.0.1:5011", data.token("mlflow"))


UNFITTED = {"labels_as_of_us", "methods", "watch", "more", "run_sha256", "evidence", "keep"}


def pcas_on(recording: Recording, **more: Any) -> training.Trained:  # noqa: ANN401 - of `fit_candidates`
    """In place of all candidates: one window PCA, which fits in a moment."""
    made = fit(
        recording,
        **{key: value for key, value in more.items() if key not in UNFITTED},
    )
    candidate = training.Candidate("window-pca", made, {"window": 16}, {"panel_found": 0.5}, {})
    return training.Trained(more["machine"], (candidate,), 0, unpack(made).manifest.training)


def test_an_operator_s_training_is_held_against_the_champion_and_noted(
    command: Command, plant: RunningPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "fit_candidates", pcas_on)
    before = found(plant).registry.champion(MACHINE)
    assert before is not None
    refused = command("train", "--data", plant.data.root, "--machine", MACHINE)
    assert refused.code == 2
    assert "may be learnt from" in refused.err  # nothing came since the champion
    asyncio.run(store_entries(plant.data, [more_readings()]))
    outcome = command("train", "--data", plant.data.root, "--machine", MACHINE, "--json")
    assert outcome.code == 0, outcome.err
    told = [orjson.loads(line) for line in outcome.out.splitlines()]
    kinds = [event["event"] for event in told]
    assert "delivered" not in kinds
    [decided] = [event for event in told if event["event"] == "decided"]
    assert (decided["action"], decided["trigger"], decided["triage"]) == ("train", "operator", "none")
    [judged] = [event for event in told if event["event"] == "judged"]
    assert (judged["outcome"] in {"keep", "approve"}, judged["proxy"]) == (True, True)
    now = found(plant)
    now.assert_agree()
    champion = now.registry.champion(MACHINE)
    assert champion is not None
    assert champion.version_hash == before.version_hash
    challenger = now.registry.challenger(MACHINE)
    assert challenger is not None
    assert challenger.version_hash == judged["sha256"]
    assert challenger.manifest["parent"] == before.version_hash
    assert challenger.manifest["training"]["excluded"]["held-back"] > 0
    assert root_of(now.registry, challenger).version_hash == root_of(now.registry, before).version_hash
    due = command("train", "--data", plant.data.root, "--due", "--json")
    assert due.code == 0, due.err
    lines = [orjson.loads(line) for line in due.out.splitlines()]
    assert [line["action"] for line in lines if line["event"] == "decided"] == ["nothing"]
    version = str(challenger.version)
    theirs = command("models", "show", MACHINE, version, "--card", "--data", plant.data.root).out
    assert f"*{judged['outcome']}* by a proxy" in theirs
    assert "false episodes a machine-month" in theirs
    assert "windows of at most 0.8 of the limit" in theirs
    words = command("models", "show", MACHINE, version, "--data", plant.data.root).out
    assert f"{judged['outcome']} by a proxy" in words
    mine = command("models", "show", MACHINE, "--data", plant.data.root, "--json").json
    assert (mine["decided"]["action"], mine["decided"]["triage"], mine["judged"]) == ("train", "none", None)
    card = command("models", "show", MACHINE, "--card", "--data", plant.data.root).out
    assert card.startswith(f"# {before.name} v{before.version}\n")
    assert before.version_hash in card
    assert "## What it does not do" in card
    assert "## Training again" in card
    assert "## Confusion on its panel" not in card  # window PCA alone: there was no rival to compare with


def more_readings() -> Entry:
    """As many again, straight after those that the first model was trained on."""
    return readings(1200, first=90_001, start_us=T0 + 1200 * 1_000_000)


def test_a_fault_that_a_person_names_is_left_out_of_the_rows(
    command: Command, plant: RunningPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plant.data.root
    times = [at(T0 + second * 1_000_000).isoformat() for second in (300, 360)]
    words = ["labels", "add", MACHINE, "fault", "--from", times[0], "--to", times[1], "--code", "VIB"]
    assert "fault" in command(*words, "--data", root).out
    [listed] = command("labels", "list", "--machine", MACHINE, "--data", root, "--json").json
    assert (listed["code"], listed["by"], listed["superseded_by"]) == ("VIB", "cli", "")
    before = ("labels", "list", "--as-of", times[0], "--superseded", "--data", root, "--json")
    assert command(*before).json == []
    assert listed["id"] in command("labels", "list", "--data", root).out
    review = command("labels", "review", "--week", "2025-W24", "--data", root, "--json").json
    assert review["week"] == "2025-W24"
    assert "begins" in command("labels", "review", "--data", root).out
    seen: list[Any] = []

    async def left_out(*_: object, left_out: Any, labels_as_of_us: int, **__: object) -> training.Trained:  # noqa: ANN401
        seen.extend(left_out)
        assert labels_as_of_us > 0
        raise Rejected("seen")

    monkeypatch.setattr(train_module, "train_machine_models", left_out)
    assert command("train", "--data", root, "--machine", MACHINE, "--deliver").code == 2
    assert [(one.reason, one.from_us - T0, one.to_us - T0) for one in seen] == [
        ("fault", 300_000_000, 360_000_000)
    ]


def test_a_new_baseline_needs_maintenance(command: Command, plant: RunningPlant) -> None:
    refused = command("train", "--data", plant.data.root, "--machine", MACHINE, "--rebaseline")
    assert (refused.code, "there was none" in refused.err) == (2, True)
