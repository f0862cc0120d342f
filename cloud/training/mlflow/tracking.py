"""Training runs and model versions in MLflow.

A run is whole before its model is registered in the log; all that comes after (versions, aliases, the runs' ends) is
derived from the log by `reconcile`, which whoever holds the trainer's lock may run at any time.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloud.registry.logic import ANOMALY, CHALLENGER, CHAMPION
from cloud.training.mlflow.runs import ARTIFACT_FILE, HASH, PURPOSE, FitRun
from shared.clock import Clock
from shared.errors import Unavailable
from shared.settings import set_library_environment

EXPERIMENT: Final = "industrialmind"
STAGE: Final = "stage"
STAGES: Final[Mapping[str, str]] = {CHAMPION: "Production", CHALLENGER: "Staging"}
"""The tag of a version with these aliases; MLflow itself has given up stages."""
WHOLE: Final = "whole"
"""Tag of a run that has everything logged but its end."""
RUNNING: Final = "RUNNING"
BATCH: Final = 1000  # metrics in one request, MLflow's limit

QUIET: Final[Mapping[str, str]] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",  # doubling from 2 s: as long as its server takes to come up
    "GIT_PYTHON_REFRESH": "quiet",
}
"""No network but the tracking URL's, nothing on stdout."""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where MLflow keeps what it is told: `sqlite:///…`, or a server's `http://…` with its user."""

    url: str
    artifacts: Path
    user: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version, as the log has it. `name`: of the registered model that it is a version of."""

    name: str
    number: int
    version_hash: str
    method: str
    aliases: tuple[str, ...]
    purpose: str = ANOMALY


def name_of(machine: str, purpose: str) -> str:
    """A registered model's name: each purpose counts a machine's versions by itself. No machine's id has a dot."""
    return machine if purpose == ANOMALY else f"{machine}.{purpose}"


def open_tracking(place: Place, clock: Clock) -> "Tracking":
    """Import MLflow and open its store (made if need be). Takes some 10 s. Raises Unavailable."""
    credentials = {"MLFLOW_TRACKING_USERNAME": place.user, "MLFLOW_TRACKING_PASSWORD": place.password}
    set_library_environment({**QUIET, **(credentials if place.user else {})})
    from mlflow.tracking import MlflowClient  # noqa: PLC0415 - seconds, and only after its environment is set

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with _mapped(place.url):
        client = MlflowClient(tracking_uri=place.url, registry_uri=place.url)
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            location = place.artifacts.resolve().as_uri()
            experiment = client.create_experiment(EXPERIMENT, artifact_location=location)
        else:
            experiment = found.experiment_id
    return Tracking(client, str(experiment), place.url, clock)


class Tracking:
    """The runs and versions of one plant. Calls block; each raises Unavailable."""

    def __init__(self, client: Any, experiment: str, url: str, clock: Clock) -> None:  # noqa: ANN401 - untyped library
        self._client, self._experiment, self._url, self._clock = client, experiment, url, clock

    def log_run(self, fit: FitRun) -> str:
        """Log a fit whole and leave its run open; returns the run's id.

        A trainer that goes on after it was killed makes the same artifact again: its run is the one that there is.
        """
        now_ms = self._clock.now_us() // 1000
        with _mapped(self._url):
            held = self._run_of(fit.version_hash)
            if held is not None:
                self._client.update_run(held.info.run_id, status=RUNNING)
                return str(held.info.run_id)
            tags = {HASH: fit.version_hash, **fit.tags}
            run = self._client.create_run(self._experiment, run_name=fit.name, tags=tags)
            run_id: str = run.info.run_id
            self._log_figures(run_id, fit, now_ms)
            with tempfile.TemporaryDirectory() as folder:
                for file, data in fit.files.items():
                    path = Path(folder) / file
                    path.write_bytes(data)
                    self._client.log_artifact(run_id, str(path))
            self._client.set_tag(run_id, WHOLE, "true")
        return run_id

    def unlogged(self, versions: Iterable[Version]) -> list[Version]:
        """Those that MLflow is to be given a version for and that have no whole run; one of those that share an artifact."""
        with _mapped(self._url):
            found = {
                version.version_hash: version
                for name, its in by_name(versions).items()
                for version in self._missing(name, its)
            }
            return [version for version in found.values() if self._run_of(version.version_hash) is None]

    def reconcile(self, versions: Sequence[Version], step: Step = lambda _: None) -> None:
        """Make MLflow's versions, their aliases and the runs' ends what `versions`, in the log's order, say.

        Every version has a whole run (`unlogged`). A registered model whose versions are not those of the log (the
        store was lost in part, or somebody wrote into it) has them made anew. Raises Unavailable.
        """
        with _mapped(self._url):
            for name, its in by_name(versions).items():
                self._reconcile_versions(name, its, step)
                self._reconcile_aliases(name, its, step)
                self._reconcile_stages(name, its, step)
            self._end_runs({version.version_hash for version in versions}, step)

    def versions(self, name: str) -> dict[int, str]:
        """A registered model's version numbers and their hashes."""
        with _mapped(self._url):
            return self._held(name)

    def aliases(self, name: str) -> dict[str, int]:
        """Its aliases and the versions they name."""
        with _mapped(self._url):
            found = self._client.get_registered_model(name).aliases
            return {alias: int(number) for alias, number in found.items()}

    def stages(self, name: str) -> dict[int, str]:
        """The version numbers that have a stage, and which."""
        with _mapped(self._url):
            return self._stages(name)

    def runs(self) -> list[dict[str, str]]:
        """Status and tags of every run, the newest first."""
        with _mapped(self._url):
            return [{"status": run.info.status, **run.data.tags} for run in self._search("")]

    def _log_figures(self, run_id: str, fit: FitRun, now_ms: int) -> None:
        from mlflow.entities import Metric, Param  # noqa: PLC0415 - as `open_tracking`

        params = [Param(name, str(value)) for name, value in sorted(fit.parameters.items())]
        metrics = [Metric(name, float(value), now_ms, 0) for name, value in sorted(fit.metrics.items())]
        for name, values in sorted(fit.curves.items()):
            curve = f"epoch/{name}"  # a figure of the same name is the fit's, not its last epoch's
            metrics += [Metric(curve, float(value), now_ms, epoch) for epoch, value in enumerate(values)]
        self._client.log_batch(run_id, params=params)
        for begin in range(0, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[begin : begin + BATCH])

    def _reconcile_versions(self, name: str, versions: Sequence[Version], step: Step) -> None:
        missing = self._missing(name, versions)
        follow = len(missing) < len(versions) or not self._held(name)
        if follow and all(self._add_version(version, step) for version in missing):
            return
        step("mlflow-rebuild")
        self._client.delete_registered_model(name)
        if not all(self._add_version(version, step) for version in versions):
            raise Unavailable(f"MLflow at {self._url} numbers the versions of {name} in a way of its own")

    def _missing(self, name: str, versions: Sequence[Version]) -> Sequence[Version]:
        """The versions that are to be added; all, if those that MLflow holds are not the log's first ones."""
        held = self._held(name)
        first = {version.number: version.version_hash for version in versions[: len(held)]}
        return versions[len(held) :] if held == first else versions

    def _add_version(self, version: Version, step: Step) -> bool:
        """Whether MLflow gave it the number that the log has."""
        run = self._run_of(version.version_hash)
        if run is None:
            raise Unavailable(f"the run of {version.name} v{version.number} vanished from MLflow")
        step("mlflow-version")
        if not self._client.search_registered_models(f"name = '{version.name}'"):
            self._client.create_registered_model(version.name)
        made = self._client.create_model_version(
            version.name,
            source=f"{run.info.artifact_uri}/{ARTIFACT_FILE}",
            run_id=run.info.run_id,
            tags={HASH: version.version_hash, "method": version.method, PURPOSE: version.purpose},
        )
        return int(made.version) == version.number

    def _reconcile_aliases(self, name: str, versions: Sequence[Version], step: Step) -> None:
        wanted = {alias: version.number for version in versions for alias in version.aliases}
        held = self.aliases(name)
        for alias in held.keys() - wanted.keys():
            self._client.delete_registered_model_alias(name, alias)
        for alias, number in wanted.items():
            if held.get(alias) != number:
                step("mlflow-alias")
                self._client.set_registered_model_alias(name, alias, str(number))

    def _reconcile_stages(self, name: str, versions: Sequence[Version], step: Step) -> None:
        held = self._stages(name)
        for version in versions:
            wanted = next((STAGES[alias] for alias in version.aliases if alias in STAGES), None)
            if wanted == held.get(version.number):
                continue
            step("mlflow-stage")
            if wanted is None:
                self._client.delete_model_version_tag(name, str(version.number), STAGE)
            else:
                self._client.set_model_version_tag(name, str(version.number), STAGE, wanted)

    def _stages(self, name: str) -> dict[int, str]:
        found = self._client.search_model_versions(f"name = '{name}'", max_results=10_000)
        return {int(one.version): one.tags[STAGE] for one in found if STAGE in one.tags}

    def _end_runs(self, registered: set[str], step: Step) -> None:
        for run in self._search(f"attributes.status = '{RUNNING}'"):
            tags = run.data.tags
            done = WHOLE in tags and tags.get(HASH) in registered
            step("mlflow-run-end")
            self._client.set_terminated(run.info.run_id, "FINISHED" if done else "KILLED")

    def _held(self, name: str) -> dict[int, str]:
        found = self._client.search_model_versions(f"name = '{name}'", max_results=10_000)
        return {int(version.version): version.tags.get(HASH, "") for version in found}

    def _run_of(self, version_hash: str) -> Any:  # noqa: ANN401 - untyped library
        found = self._search(f"tags.{HASH} = '{version_hash}' AND tags.{WHOLE} = 'true'")
        return found[0] if found else None

    def _search(self, query: str) -> list[Any]:
        return list(self._client.search_runs([self._experiment], query, max_results=10_000))


def by_name(versions: Iterable[Version]) -> dict[str, list[Version]]:
    """Each registered model's versions, in their order."""
    found: dict[str, list[Version]] = {}
    for version in versions:
        found.setdefault(version.name, []).append(version)
    return found


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    """MLflow's errors, its database's and the network's as Unavailable."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - as `open_tracking`
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - MLflow lets some of its errors through

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        said = str(error).partition("\n")[0][:300]
        raise Unavailable(f"MLflow at {url} can't be used: {said}") from error
