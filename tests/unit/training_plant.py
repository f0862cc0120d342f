"""A running plant on which trainers work, with window PCAs alone: they fit in a moment."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cloud.telemetry.port import TelemetryReader
from cloud.training import trained as training
from cloud.training.app import read_recording
from cloud.training.logic import Config, fit
from cloud.training.watch import Watch
from industrialmind import train as train_module
from industrialmind.children import to_toml
from industrialmind.life_train import LifeFit, Wish, fit_life, register_fitted
from industrialmind.train import run_job
from industrialmind.trainer_job import Job, trainer_lock
from shared.artifact import unpack
from shared.clock import Clock, SystemClock
from shared.errors import Rejected
from tests.agreement import Found, look, tracking_of
from tests.unit.front_door import RunningPlant
from tests.unit.life_fleet import fleet

MACHINE, EDGE = "pump-1", "edge-pump-1"
OTHER = "fan-2"
CLOCK = SystemClock()


@dataclass(frozen=True)
class Run:
    """What MLflow has of a candidate."""

    metrics: dict[str, float]
    parameters: dict[str, str]
    files: dict[str, int]
    losses: int


@dataclass
class Trained:
    """What a first `train` of all machines told and left behind; the fan has no readings."""

    events: list[dict[str, Any]] = field(default_factory=list)
    refused: str = ""
    after: Found | None = None
    runs: dict[str, Run] = field(default_factory=dict)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


def first_training(plant: RunningPlant) -> Trained:
    """Train all machines by two window PCAs."""
    made = Trained()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "train_machine_models", two_window_pcas)
        with pytest.raises(Rejected) as refused:
            asyncio.run(run_job(plant.data.root, Job(), lambda event: made.events.append(dict(event))))
    made.refused = str(refused.value)
    made.after = found(plant)
    tracking = tracking_of(plant.data)
    for run in tracking._search(""):
        files = {file.path: file.file_size for file in tracking._client.list_artifacts(run.info.run_id)}
        losses = tracking._client.get_metric_history(run.info.run_id, "epoch/train_loss")
        made.runs[run.data.tags["method"]] = Run(run.data.metrics, run.data.params, files, len(losses))
    return made


async def two_window_pcas(
    store: TelemetryReader,
    machine: str,
    machine_type: str,
    clock: Clock,
    *,
    operating_sensor: str | None,
    clusters: bool,
    watch: Watch,
    **_: Any,  # noqa: ANN401 - what this stand-in has no use for
) -> training.Trained:
    recording = await read_recording(store, machine)
    made = [
        fit(
            recording,
            machine=machine,
            machine_type=machine_type,
            now_us=clock.now_us(),
            config=Config(window=window),
            operating_sensor=operating_sensor,
            clusters=clusters,
        )
        for window in (12, 16)
    ]
    curves = {"train_loss": (3.0, 2.0, 1.0)}
    figures = {"panel_found": 0.25, "panel_false": 0.0}
    candidates = (
        training.Candidate("short-window-pca", made[0], {"window": 12}, figures, curves),
        training.Candidate("window-pca", made[1], {"window": 16}, figures, {}),
    )
    for each in candidates:
        watch.judged(each.method, each.metrics)
    return training.Trained(machine, candidates, 1, unpack(made[1]).manifest.training)


def life_fit(*machines: str) -> LifeFit:
    """Another version each time."""
    return fit_life(fleet(12), Wish(machines, "flow below 60 %", "usual", cap=50.0, rounds=2), CLOCK)


def life_registered(plant: RunningPlant) -> str:
    """Hash of a life model of both machines, that is registered beside those of anomalies."""
    done = asyncio.run(
        register_fitted(plant.data.root, None, life_fit(MACHINE, OTHER), CLOCK, quiet, deliver=False)
    )
    assert done.not_in_mlflow == ""
    return done.version_hash


def quiet(_: Mapping[str, Any]) -> None:
    """Nobody listens."""


def found(plant: RunningPlant) -> Found:
    return asyncio.run(look(plant.data, plant.nats.nats_url, plant.nats.credentials("admin").userinfo))


def reconcile(plant: RunningPlant) -> Found:
    asyncio.run(run_job(plant.data.root, Job(reconcile=True), lambda _: None))
    after = found(plant)
    after.assert_agree()
    return after


def on_servers(plant: RunningPlant, machines: Sequence[str], path: Path) -> Path:
    """The settings of a trainer that is told by URLs alone where everything is."""
    data = plant.data
    table = {
        "folder": str(data.root),
        "mlflow_url": data.mlflow_url,
        "mlflow_password": "unused",
        "artifacts": str(data.mlflow_artifacts),
        "machines": list(machines),
        "telemetry_url": data.telemetry_url,
        "nats_url": plant.nats.nats_url,
        "credentials": plant.nats.credentials("cloud").userinfo,
    }
    path.write_text(to_toml({"train": table}))
    return path


class Killed(BaseException):
    """The trainer ends here; only `finally` still runs."""


@contextlib.contextmanager
def another_trainer(plant: RunningPlant) -> Iterator[threading.Event]:
    """One that holds the lock until the event is set."""
    held, release = threading.Event(), threading.Event()

    async def hold() -> None:
        async with trainer_lock(plant.data, lambda: None):
            held.set()
            await asyncio.to_thread(release.wait, 20)

    first = threading.Thread(target=lambda: asyncio.run(hold()))
    first.start()
    held.wait(10)
    try:
        yield release
    finally:
        release.set()
        first.join()
