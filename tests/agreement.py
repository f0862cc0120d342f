"""Whether the log, MLflow and what the edges are to run name the same models by hash and version."""

import asyncio
from dataclasses import dataclass

import orjson

from cloud.registry.app import load_registry
from cloud.registry.logic import Model, Registry
from cloud.training.mlflow.tracking import STAGES, Place, Tracking, open_tracking
from industrialmind.plant import DataDir
from industrialmind.trainer_job import read_reconciled
from shared.clock import SystemClock
from shared.eventlog import open_event_log
from shared.names import MODELS
from shared.nats import ControlPlane, open_control


@dataclass(frozen=True)
class Found:
    """The three accounts of a plant's models."""

    registry: Registry
    mlflow: dict[str, dict[int, str]]
    aliases: dict[str, dict[str, int]]
    stages: dict[str, dict[int, str]]
    desired: dict[str, tuple[int, str]]
    runs: list[dict[str, str]]
    noted: bool

    def assert_agree(self) -> None:
        """Version by version and hash by hash; no run is left open, and the end of the log is noted."""
        versions: dict[str, dict[int, str]] = {}
        aliases: dict[str, dict[str, int]] = {}
        for name, model, its in named(self.registry):
            versions.setdefault(name, {})[model.version] = model.version_hash
            aliases.setdefault(name, {}).update(dict.fromkeys(its, model.version))
        assert self.mlflow == versions
        assert self.aliases == aliases
        for name, its_aliases in aliases.items():
            staged = {its_aliases[a]: stage for a, stage in STAGES.items() if a in its_aliases}
            assert self.stages[name] == staged
        machines = {model.machine for model in self.registry.models}
        champions = {m: champion for m in machines if (champion := self.registry.champion(m)) is not None}
        assert self.desired == {m: (model.version, model.version_hash) for m, model in champions.items()}
        registered = {model.version_hash for model in (*self.registry.models, *self.registry.lives)}
        for run in self.runs:
            done = "whole" in run and run["version_hash"] in registered
            assert run["status"] == ("FINISHED" if done else "KILLED"), run
        finished = [run["version_hash"] for run in self.runs if run["status"] == "FINISHED"]
        assert sorted(finished) == sorted(registered)
        assert self.noted


def named(registry: Registry) -> list[tuple[str, Model, tuple[str, ...]]]:
    """Every version with the name that MLflow is to have of its model, and its aliases."""
    return [
        *((model.machine, model, registry.aliases(model)) for model in registry.models),
        *((f"{model.machine}.life", model, registry.life_aliases(model)) for model in registry.lives),
    ]


async def look(data: DataDir, nats_url: str, credentials: str) -> Found:
    """Read all three."""
    tracking = await asyncio.to_thread(tracking_of, data)
    async with (
        open_event_log(nats_url, credentials=credentials) as log,
        open_control(nats_url, credentials=credentials) as control,
    ):
        registry, _ = await load_registry(log)
        names = sorted({name for name, _, _ in named(registry)})
        return Found(
            registry,
            {name: tracking.versions(name) for name in names},
            {name: tracking.aliases(name) for name in names},
            {name: tracking.stages(name) for name in names},
            await _desired(data, control),
            tracking.runs(),
            dict(await log.end(MODELS)) == read_reconciled(data),
        )


def tracking_of(data: DataDir) -> Tracking:
    """MLflow's database, which no trainer may be writing."""
    return open_tracking(Place(data.mlflow_url, data.mlflow_artifacts), SystemClock())


async def _desired(data: DataDir, control: ControlPlane) -> dict[str, tuple[int, str]]:
    found = {}
    for machine in data.plant().machines:
        for key, value in (await control.desired(machine.edge)).items():
            wanted = orjson.loads(value)
            found[key] = (wanted["version"], wanted["sha256"])
    return found
