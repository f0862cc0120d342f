"""A life model as one file: a stored, deterministic zip of its graph, manifest, preparation and probe.

As `shared.artifact` has it for models of anomalies: the sha256 of the bytes is the version, nothing is unpickled. What
is loaded has passed its own test: the probe's raw histories through features, graph and intervals.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field

from cloud.life.manifest import LifeManifest
from cloud.life.onnxruntime import Graph
from cloud.life.preparation import Preparation
from cloud.life.runs import Runs, make_runs
from cloud.life.told import Told, tell
from shared.artifact import MANIFEST, MODEL, PROBE, check_announced, members, sha256, stored_zip
from shared.errors import Rejected
from shared.manifest import read_part
from shared.onnxcheck import check_onnx
from shared.trial import try_out

PREPARATION: Final = "preparation.json"
PARITY: Final = 1e-4  # of the figure, or of a cycle, between training's arithmetic and the graph's
_MEMBERS: Final = tuple(sorted((MANIFEST, MODEL, PREPARATION, PROBE)))


class LifeProbe(BaseModel):
    """Raw histories and what must come of them, through features, graph and intervals."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    units: tuple[str, ...] = Field(min_length=1, max_length=50_000)
    cycles: tuple[float, ...]
    rows: tuple[tuple[float | None, ...], ...]
    life: tuple[float, ...] = Field(description="of each unit at its newest row: the median")
    low: tuple[float, ...] = Field(description="lower end of its 90 % interval")
    high: tuple[float, ...]
    evidence: tuple[bool, ...]

    def runs(self, columns: tuple[str, ...]) -> Runs:
        """The histories. Raises Rejected."""
        if len({len(self.units), len(self.cycles), len(self.rows)}) > 1 or {
            len(row) for row in self.rows
        } != {len(columns)}:
            raise Rejected("probe.json: its rows don't fit the manifest's sensors or each other")
        return make_runs(self.units, np.array(self.cycles), np.array(self.rows, dtype=np.float64), columns)


@dataclass(frozen=True)
class LifeArtifact:
    """A life model that was read, found whole, loaded and tested."""

    version_hash: str
    manifest: LifeManifest
    preparation: Preparation
    graph: Graph

    def tell(
        self, runs: Runs, rows: "np.ndarray[tuple[int], np.dtype[np.int64]] | None" = None
    ) -> list[Told]:
        """Remaining life at these rows, or each unit's newest. Raises Rejected."""
        return tell(self.preparation, self.graph, runs, runs.last if rows is None else rows)


def pack_life(model: bytes, manifest: LifeManifest, preparation: bytes, probe: LifeProbe) -> bytes:
    """One file of the parts; the same parts always give the same bytes. Raises Rejected where `load_life` would."""
    told = orjson.dumps(probe.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    whole = manifest.model_copy(
        update={
            "onnx_sha256": sha256(model),
            "preparation_sha256": sha256(preparation),
            "probe_sha256": sha256(told),
        }
    )
    data = stored_zip({MODEL: model, MANIFEST: whole.to_json(), PREPARATION: preparation, PROBE: told})
    load_life(data)
    return data


def load_tried(data: bytes, *, expected_hash: str) -> LifeArtifact:
    """The same of bytes from elsewhere: a child with resource limits loads and tests them first. Raises Rejected, Unavailable."""
    check_announced(data, expected_hash)
    try_out(load_life, data)
    return load_life(data, expected_hash=expected_hash)


def load_life(data: bytes, *, expected_hash: str | None = None) -> LifeArtifact:
    """Read, check, load and test a life model's bytes. Takes some ms. Raises Rejected."""
    digest = check_announced(data, expected_hash)
    parts = members(data, _MEMBERS)
    manifest = LifeManifest.from_json(parts[MANIFEST])
    for name, wanted in (
        (MODEL, manifest.onnx_sha256),
        (PREPARATION, manifest.preparation_sha256),
        (PROBE, manifest.probe_sha256),
    ):
        if sha256(parts[name]) != wanted:
            raise Rejected(f"{name} is not the one that the manifest names")
    check_onnx(parts[MODEL])
    preparation = Preparation.from_json(parts[PREPARATION])
    if preparation.columns != manifest.sensors:
        raise Rejected("the preparation's columns are not the manifest's sensors")
    probe = read_part(LifeProbe, PROBE, parts[PROBE])
    artifact = LifeArtifact(digest, manifest, preparation, Graph(parts[MODEL]))
    _self_test(artifact, probe)
    return artifact


def _self_test(artifact: LifeArtifact, probe: LifeProbe) -> None:
    told = artifact.tell(probe.runs(artifact.manifest.sensors))
    if [each.enough for each in told] != list(probe.evidence):
        raise Rejected("self-test: what counts as evidence differs from what training recorded")
    if not len(told) == len(probe.life) == len(probe.low) == len(probe.high):
        raise Rejected("self-test: training recorded another number of units")
    said = np.array([(each.median, *each.ends[90]) for each in told])
    wanted = np.column_stack([probe.life, probe.low, probe.high])
    if not (np.abs(said - wanted) <= PARITY * np.maximum(np.abs(wanted), 1.0)).all():
        raise Rejected("self-test: a figure differs from the one that training recorded")
