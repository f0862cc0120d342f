"""What a run in MLflow says of a fit, as plain values: of a model of anomalies, and of one of remaining life."""

import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any, Final

import orjson

from cloud.telemetry.facts import HOUR_US
from cloud.training.confusion import CHAMPION, confusion_of, confusion_on_labels, said_of_labels
from cloud.training.trained import Candidate
from shared.artifact import sha256, unpack
from shared.manifest import Manifest

ARTIFACT_FILE: Final = "model.zip"
MANIFEST_FILE: Final = "manifest.json"
RUN_FILE: Final = "run.json"
CONFUSION_FILE: Final = "confusion.json"
LABELS_FILE: Final = "confusion-labels.json"
HASH: Final = "version_hash"
PURPOSE: Final = "purpose"
ENVIRONMENT: Final = ("numpy", "onnx", "onnxruntime", "scikit-learn", "torch")

Parameter = str | int | float


@dataclass(frozen=True, slots=True)
class FitRun:
    """A fit in a run's terms.

    Attributes:
        name: Of the run.
        version_hash: Of the artifact that came of it.
        tags: Beside the hash, which is one too.
        parameters: What it was made with, and of.
        metrics: Figures.
        curves: Values by epoch.
        files: By name.
    """

    name: str
    version_hash: str
    tags: Mapping[str, str]
    parameters: Mapping[str, Parameter]
    metrics: Mapping[str, float]
    files: Mapping[str, bytes]
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def anomaly_run(candidate: Candidate, *, restored: bool = False) -> FitRun:
    """Of a fitted candidate. `restored`: made again from a registered artifact, whose first run is lost. Raises Rejected."""
    artifact = unpack(candidate.artifact)
    manifest = artifact.manifest
    tags = {
        PURPOSE: manifest.purpose,
        "machine": manifest.machines[0],
        "method": candidate.method,
        "rows_sha256": manifest.training.sha256,
        "mlflow.user": manifest.author,
        **({"run_sha256": sha256(candidate.run.encode())} if candidate.run else {}),
        **_made_by(restored=restored),
    }
    return FitRun(
        f"{manifest.machines[0]}/{candidate.method}",
        artifact.version_hash,
        tags,
        {**candidate.parameters, **_data_of(manifest)},
        candidate.metrics,
        {ARTIFACT_FILE: candidate.artifact, MANIFEST_FILE: manifest.to_json(), **tables_of(candidate)},
        candidate.curves,
    )


def life_run(
    artifact: bytes,
    manifest: Mapping[str, Any],
    parameters: Mapping[str, Parameter] | None = None,
    *,
    restored: bool = False,
) -> FitRun:
    """Of a life model: one run, however many machines it is for. `manifest` is the artifact's, as JSON-ready values.

    `parameters`: what the manifest does not say, the fit's settings and the lives that it saw; they are lost with the first run.
    """
    method, _, configuration = manifest["method"].partition("/")
    first, *others = manifest["machines"]
    tags = {
        PURPOSE: manifest["purpose"],
        "machine": ",".join([first, *others]),
        "method": method,
        "rows_sha256": manifest["rows_sha256"],
        "mlflow.user": manifest["author"],
        **_made_by(restored=restored),
    }
    return FitRun(
        f"{first}+{len(others)}/{method}" if others else f"{first}/{method}",
        sha256(artifact),
        tags,
        {**(parameters or {}), **_terms_of(manifest), "configuration": configuration},
        manifest["metrics"],
        {ARTIFACT_FILE: artifact, MANIFEST_FILE: orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)},
    )


def environment() -> dict[str, str]:
    """What a fit ran with, for a run's tags: those of it that are installed."""
    found = {"environment.python": platform.python_version(), "environment.machine": platform.machine()}
    for name in ENVIRONMENT:
        with suppress(PackageNotFoundError):
            found[f"environment.{name}"] = version_of(name)
    return found


def tables_of(candidate: Candidate) -> dict[str, bytes]:
    """Files of a run beside the artifact: what it is, and how its alarms met the panel's faults and people's labels."""
    files = {RUN_FILE: candidate.run.encode()} if candidate.run else {}
    if confusion := confusion_of(candidate.metrics):
        files[CONFUSION_FILE] = orjson.dumps(confusion)
    if said := said_of_labels(candidate.metrics):
        told = {
            "version": confusion_on_labels(candidate.metrics),
            "champion": confusion_on_labels(candidate.metrics, CHAMPION) or None,
            "statement": said,
        }
        files[LABELS_FILE] = orjson.dumps(told)
    return files


def _made_by(*, restored: bool) -> dict[str, str]:
    """Whoever makes a run again did not fit it."""
    return {"restored": "true"} if restored else environment()


def _data_of(manifest: Manifest) -> dict[str, Parameter]:
    """What the model was made of and with, beside the method's own parameters."""
    training = manifest.training
    return {
        "data.first_us": training.first_us,
        "data.last_us": training.last_us,
        "data.rows": training.rows,
        "data.windows": training.windows,
        "data.sha256": training.sha256,
        "grid.step_us": manifest.grid.step_us,
        "grid.window": manifest.grid.window,
        "limit": manifest.limit,
        "configuration": manifest.method.partition("/")[2],
        "seed": manifest.seed,
    }


def _terms_of(manifest: Mapping[str, Any]) -> dict[str, Parameter]:
    """The same of a life model: what it was made of, and what its figures mean."""
    hours, knee, running = manifest["cycle_us"] / HOUR_US, manifest["knee"], manifest.get("running")
    return {
        "data.units": manifest["units"],
        "data.running_units": manifest.get("running_units", 0),
        "data.rows": manifest["rows"],
        "data.row_hours": manifest["step"] * hours,
        "data.sensors": len(manifest["sensors"]),
        "data.sha256": manifest["rows_sha256"],
        "failure_criterion": manifest["failure_criterion"],
        "load_assumption": manifest["load_assumption"],
        "running": f"{running['sensor']} > {running['off']:g}" if running else "any sensor speaks",
        "cycle_hours": hours,
        "knee_hours": "none" if knee is None else knee * hours,
        "interval_method": manifest["interval_method"],
        "provisional": str(manifest["provisional"]).lower(),
        "seed": manifest["seed"],
        "code_sha": manifest.get("code_sha") or "not told",
        "lock_sha256": manifest.get("lock_sha256") or "not told",
    }
