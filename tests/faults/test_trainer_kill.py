"""A real trainer is killed at each of its steps: the next one makes log, MLflow and edges agree on hash and version."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from industrialmind.client import Client
from tests.agreement import Found, look
from tests.unit.front_door import RunningPlant, running_plant

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore"),  # MLflow's and SQLAlchemy's own
]
MACHINE = "pump-1"
SEED = 4
SPREAD_SECONDS = 0.03
ROWS = 2400  # enough to compare all candidates on, so that each has its steps
STEPS = (
    "fit",
    "open-mlflow",
    "log-run",
    "log-run conv-autoencoder",
    "log-run window-pca",
    "log-run window-pca-long",
    "register conv-autoencoder",
    "register window-pca",
    "register window-pca-long",
    "promote",
    "deliver",
    "mlflow-version",
    "mlflow-alias",
    "mlflow-stage",
    "mlflow-run-end",
    "reconciled",
)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlant]:
    with running_plant(tmp_path_factory.mktemp("plant") / "data", rows=ROWS) as running:
        yield running


def trainer(root: Path, *flags: str) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-m",
        "industrialmind",
        "train",
        "--data",
        str(root),
        "--json",
        "--deliver",
        *flags,
    ]
    with (root / "trainer.log").open("ab") as log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)


def killed_at(root: Path, step: str, after: float) -> bool:
    """Start a trainer and kill it `after` seconds from the moment it announces `step`; False if it never did."""
    process = trainer(root, "--machine", MACHINE)
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            event = orjson.loads(line)
            if event["event"] == "step" and step in (event["step"], f"{event['step']} {event['method']}"):
                time.sleep(after)
                process.send_signal(signal.SIGKILL)
                break
    return process.wait(60) == -signal.SIGKILL


def completed(root: Path, *flags: str) -> None:
    process = trainer(root, *flags)
    assert process.stdout is not None
    with process.stdout as lines:
        told = [orjson.loads(line) for line in lines]
    assert process.wait(60) == 0, (root / "trainer.log").read_text()[-3000:]
    assert told[-1]["event"] in ("reconciled", "delivered")


def found(plant: RunningPlant) -> Found:
    return asyncio.run(look(plant.data, plant.nats.nats_url, plant.nats.credentials("admin").userinfo))


def promote_another(plant: RunningPlant, draw: random.Random) -> None:
    """A person promotes some version, if there is one, while no trainer works."""
    with Client.of(plant.data) as client:
        models = client.get("/v1/models", machine=MACHINE)["models"]
        if models:
            body = {"machine": MACHINE, "version": draw.choice(models)["version"]}
            client.post("/v1/models/promotions", body, idempotency_key=f"{draw.random()}")


@pytest.mark.timeout(1800)
def test_all_agree_after_a_kill_at_each_step(plant: RunningPlant) -> None:
    """One plant: what a kill left behind is there at the next one too. Every third time a person promotes meanwhile."""
    draw = random.Random(SEED)
    root = plant.data.root
    completed(root, "--machine", MACHINE)
    found(plant).assert_agree()
    for number, step in enumerate(draw.sample(STEPS, len(STEPS))):
        after = draw.uniform(0, SPREAD_SECONDS)
        died = killed_at(root, step, after)
        if number % 3 == 0:
            promote_another(plant, draw)
        completed(root, "--reconcile")
        now = found(plant)
        now.assert_agree()
        sys.stdout.write(
            f"seed {SEED}: {'killed' if died else 'ended'} {after * 1000:.0f} ms after {step!r}; "
            f"{len(now.registry.models)} versions agree\n"
        )
        assert died or step == "reconciled", (
            step
        )  # the last step: the trainer may have ended before the signal
    completed(root, "--machine", MACHINE)
    found(plant).assert_agree()
