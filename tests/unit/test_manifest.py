import pytest
from pydantic import ValidationError

from shared.artifact import unpack
from shared.errors import Rejected
from shared.manifest import Manifest
from shared.windows import Operating
from tests.models import artifact, packed


def test_its_json_is_canonical_and_reads_back() -> None:
    manifest = artifact().manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json()).to_json() == manifest.to_json()


def test_it_is_frozen_and_takes_no_unknown_field() -> None:
    manifest = artifact().manifest
    with pytest.raises(ValidationError):
        manifest.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra"):
        Manifest.model_validate({**manifest.model_dump(), "extra": 1})


def test_sensors_must_differ_and_include_the_operating_one() -> None:
    manifest = artifact().manifest
    plain = manifest.model_dump()
    with pytest.raises(ValidationError, match="same name"):
        Manifest.model_validate({**plain, "sensors": [plain["sensors"][0]] * 2})
    with pytest.raises(ValidationError, match="operating sensor"):
        Manifest.model_validate({**plain, "operating": {"sensor": "no", "low": 0, "high": 1, "settle": 0}})


def test_the_grid_follows_from_it() -> None:
    manifest = artifact().manifest
    spec = manifest.grid_spec()
    assert (spec.sensors, spec.step_us, spec.window) == (manifest.sensor_names, 1_000_000, 16)
    assert spec.operating is None
    operating = unpack(packed("speed")).manifest.grid_spec().operating
    assert isinstance(operating, Operating)
    assert operating.sensor == "speed"
    assert operating.low < 1000
    assert operating.high > 1600


def test_a_broken_one_names_the_field() -> None:
    text = artifact().manifest.to_json().replace(b'"window":16', b'"window":-1')
    with pytest.raises(Rejected, match=r"manifest: grid\.window"):
        Manifest.from_json(text)
