"""A model as one file: a stored, deterministic zip of `model.onnx`, `manifest.json` and `probe.json`.

The sha256 of its bytes is the model's version. Nothing in it is ever unpickled, and nothing is written to disk.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import Rejected
from shared.manifest import Manifest, read_part
from shared.onnxcheck import check_onnx
from shared.windows import PREPARATION_VERSION, is_known_preparation

SIZE_MAX: Final = 20_000_000
MODEL, MANIFEST, PROBE = "model.onnx", "manifest.json", "probe.json"
_MEMBERS: Final = (MANIFEST, MODEL, PROBE)
_ENTRY_BYTES_MAX: Final = 4096  # what a zip adds beside its members' bytes
_STAMP: Final = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: bytes must not depend on the clock


class Probe(BaseModel):
    """Raw rows and what must come of them, through grid, graph and limit.

    Attributes:
        times_us: Event time of each row, strictly increasing.
        rows: A value a sensor, None = the sensor is silent.
        edges_us: Right edges of the windows that are scorable.
        scores: Their scores.
        alarms: Their decisions.
        contributions: Their contributions, one a sensor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    times_us: tuple[int, ...] = Field(min_length=1, max_length=10_000)
    rows: tuple[tuple[float | None, ...], ...] = Field(min_length=1, max_length=10_000)
    edges_us: tuple[int, ...] = Field(min_length=1)
    scores: tuple[float, ...]
    alarms: tuple[bool, ...]
    contributions: tuple[tuple[float, ...], ...]

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True)
class Artifact:
    """A model that was read and found whole. `version_hash` names it everywhere."""

    version_hash: str
    manifest: Manifest
    model: bytes
    probe: Probe


def sha256(data: bytes) -> str:
    """Lower-case hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def pack(model: bytes, manifest: Manifest, probe: Probe) -> bytes:
    """One file of the three parts; the same parts always give the same bytes.

    Raises:
        Rejected: The manifest's hashes are not those of the parts, or the file would be refused by `unpack`.
    """
    data = stored_zip({MODEL: model, MANIFEST: manifest.to_json(), PROBE: probe.to_json()})
    unpack(data)
    return data


def stored_zip(parts: Mapping[str, bytes]) -> bytes:
    """Members in order of their names, nothing compressed: the same parts always give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(parts):
            entry = zipfile.ZipInfo(name, _STAMP)
            entry.create_system = 3  # the same on every system
            archive.writestr(entry, parts[name])
    return buffer.getvalue()


def unpack(data: bytes, *, expected_hash: str | None = None) -> Artifact:
    """Read an artifact's bytes.

    Args:
        data: The whole file.
        expected_hash: The version hash that was announced, if any.

    Raises:
        Rejected: It is too large, not the announced file, half-written, has foreign members, broken JSON, parts
            that don't match the manifest's hashes, an ONNX graph that is not allowed, or was made for another
            version of the grid.
    """
    digest = check_announced(data, expected_hash)
    parts = members(data, _MEMBERS)
    _not_newer(parts[MANIFEST])
    manifest = Manifest.from_json(parts[MANIFEST])
    for name, wanted in ((MODEL, manifest.onnx_sha256), (PROBE, manifest.probe_sha256)):
        if sha256(parts[name]) != wanted:
            raise Rejected(f"{name} is not the one that the manifest names")
    if not is_known_preparation(manifest.preparation_version, manifest.preparation_sha256):
        raise Rejected(
            f"the model was made for version {manifest.preparation_version} of the grid, this is {PREPARATION_VERSION}"
        )
    check_onnx(parts[MODEL])
    return Artifact(digest, manifest, parts[MODEL], _probe(parts[PROBE], len(manifest.sensors)))


def _not_newer(data: bytes) -> None:
    """Raise Rejected for a manifest of a newer preparation, before its fields, which this release can't know, are."""
    try:
        version = orjson.loads(data)["preparation_version"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return
    if isinstance(version, int) and version > PREPARATION_VERSION:
        raise Rejected(f"the model was made for version {version} of the grid, this is {PREPARATION_VERSION}")


def check_announced(data: bytes, expected_hash: str | None) -> str:
    """The hash of an artifact's bytes. Raises Rejected (too large, not the announced file)."""
    if len(data) > SIZE_MAX:
        raise Rejected(f"the model has {len(data)} bytes, at most {SIZE_MAX} are allowed")
    digest = sha256(data)
    if expected_hash is not None and digest != expected_hash:
        raise Rejected(f"the model's hash is {digest[:12]}…, announced was {expected_hash[:12]}…")
    return digest


def members(data: bytes, wanted: Sequence[str]) -> dict[str, bytes]:
    """The members of an artifact, which must be these, in order of their names. Raises Rejected."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = tuple(sorted(entry.filename for entry in entries))
            if names != tuple(wanted):
                raise Rejected(
                    f"the model's file holds {', '.join(names)[:200] or 'nothing'}, not {', '.join(wanted)}"
                )
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                raise Rejected("the model's file is compressed or encrypted; its members must be stored")
            parts = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise Rejected(f"the model's file is broken or half-written: {error}") from error
    if len(data) > sum(map(len, parts.values())) + _ENTRY_BYTES_MAX:
        raise Rejected("the model's file has bytes that belong to no member")
    return parts


def _probe(data: bytes, sensors: int) -> Probe:
    probe = read_part(Probe, PROBE, data)
    widths = {len(row) for row in (*probe.rows, *probe.contributions)}
    answers = {len(probe.scores), len(probe.alarms), len(probe.contributions)}
    if widths != {sensors} or answers != {len(probe.edges_us)} or len(probe.rows) != len(probe.times_us):
        raise Rejected("probe.json: its rows don't fit the manifest's sensors or each other")
    return probe
