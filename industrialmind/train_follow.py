"""What follows the log's `models` topic: the edges' desired state and MLflow, for whoever holds the trainer's lock.

A run is logged whole before its model is registered; all else is derived from the log by `Followers.reconcile`, which
also makes up for whoever was killed before.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from cloud.registry.app import deliver, load_registry
from cloud.registry.logic import ANOMALY, LIFE, Registry
from cloud.training.mlflow.runs import FitRun, anomaly_run, life_run
from cloud.training.mlflow.settings import USER
from cloud.training.mlflow.tracking import Place, Tracking, Version, name_of, open_tracking
from cloud.training.trained import Candidate
from industrialmind.plant import DataDir
from industrialmind.train_settings import TrainSettings
from industrialmind.trainer_job import write_reconciled
from shared.clock import Clock
from shared.errors import lacking
from shared.eventlog import EventLog
from shared.names import MODELS
from shared.nats import ControlPlane

Tell = Callable[[Mapping[str, Any]], None]
"""Takes what the trainer does, an event at a time: `event` names the kind."""


class Followers:
    """MLflow and the edges of one plant. Calls raise Unavailable, and Misconfigured where the train extra is missing."""

    def __init__(
        self,
        data: DataDir,
        place: Place,
        events: EventLog,
        control: ControlPlane,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self._data, self._place = data, place
        self._events, self._control = events, control
        self._clock, self._tell = clock, tell
        self._tracking: Tracking | None = None

    async def begin(self) -> None:
        """Before runs are logged: what others left undone is done first, and it is noted that someone is at work."""
        if self._tracking is None:
            await self._opened()
            await self.reconcile()
        write_reconciled(self._data, None)

    async def log_run(self, fit: FitRun) -> None:
        """Log a fit, between `begin` and its model's registration."""
        self._step(fit.tags["machine"], "log-run", fit.tags["method"])
        tracking = await self._opened()
        await asyncio.to_thread(tracking.log_run, fit)

    async def reconcile(self) -> None:
        """Bring the edges' desired state and MLflow to what the log says, and note through which position."""
        tracking = await self._opened()
        while True:
            position = await deliver(self._events, self._control)
            registry, _ = await load_registry(self._events)
            versions = versions_of(registry)
            for version in await asyncio.to_thread(tracking.unlogged, versions):
                self._step(version.name, "mlflow-restore", version.method)
                artifact = await self._control.get_model(version.version_hash)
                await asyncio.to_thread(tracking.log_run, restored(registry, version, artifact))
            await asyncio.to_thread(tracking.reconcile, versions, lambda step: self._step("", step))
            if await self._events.end(MODELS) == position:
                break
        self._step("", "reconciled")
        write_reconciled(self._data, position)
        self._tell({"event": "reconciled", "position": dict(position)})

    async def _opened(self) -> Tracking:
        if self._tracking is None:
            self._step("", "open-mlflow")
            try:
                self._tracking = await asyncio.to_thread(open_tracking, self._place, self._clock)
            except ModuleNotFoundError as error:
                raise lacking(error, "train") from error
        return self._tracking

    def _step(self, machine: str, step: str, method: str = "") -> None:
        self._tell({"event": "step", "machine": machine, "step": step, "method": method})


def place_of(data: DataDir, run: Mapping[str, Any]) -> Place:
    """Where MLflow writes: its server if this plant runs one, else the database."""
    if "mlflow" in run:
        return Place(run["mlflow"], data.mlflow_artifacts, USER, data.token("mlflow"))
    data.mlflow.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Place(data.mlflow_url, data.mlflow_artifacts)


def place_on(settings: TrainSettings) -> Place:
    """The same on servers of their own."""
    password = settings.mlflow_password.get_secret_value()
    return Place(settings.mlflow_url, settings.artifacts, USER, password)


def versions_of(registry: Registry) -> list[Version]:
    """The registry's versions in MLflow's terms, each purpose's oldest first."""
    each = [(model, ANOMALY, registry.aliases(model)) for model in registry.models]
    each += [(model, LIFE, registry.life_aliases(model)) for model in registry.lives]
    return [
        Version(
            name_of(model.machine, purpose), model.version, model.version_hash, model.method, aliases, purpose
        )
        for model, purpose, aliases in each
    ]


def restored(registry: Registry, version: Version, artifact: bytes) -> FitRun:
    """The run of a registered version whose own is lost: what its manifest knows; its curves are gone."""
    models = registry.lives if version.purpose == LIFE else registry.models
    manifest = next(model.manifest for model in models if model.version_hash == version.version_hash)
    if version.purpose == LIFE:
        return life_run(artifact, manifest, restored=True)
    candidate = Candidate(version.method, artifact, {}, manifest.get("metrics", {}), {})
    return anomaly_run(candidate, restored=True)
