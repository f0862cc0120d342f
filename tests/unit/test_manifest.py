import numpy as np
import orjson
import pytest
from pydantic import ValidationError

from cloud.training.logic import Config, fit
from shared.artifact import unpack
from shared.errors import Rejected
from shared.grid import grid_frame
from shared.manifest import Manifest
from shared.onnxruntime import Scorer
from shared.windows import Operating, preparation_hash
from tests.models import STEP_US, artifact, healthy, packed, recording


def test_its_json_is_canonical_and_reads_back() -> None:
    manifest = artifact().manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json()).to_json() == manifest.to_json()


def test_one_from_before_calm_windows_were_counted_reads_and_writes_as_it_was() -> None:
    plain = orjson.loads(artifact().manifest.to_json())
    assert plain["calibration"].pop("calm_windows") == 64
    assert plain["calibration"].pop("calm_level") == 0.8
    old = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    assert Manifest.from_json(old).to_json() == old  # an edge of an earlier release takes it


def test_a_range_from_before_it_had_a_margin_reads_writes_and_judges_as_it_did() -> None:
    manifest = unpack(packed("speed")).manifest
    assert (manifest.preparation_version, manifest.operating is not None) == (3, True)
    plain = orjson.loads(manifest.to_json())
    assert {"below", "above", "leave"} < plain["operating"].keys()
    plain["operating"] = {"sensor": "speed", "low": 990.0, "high": 1610.0, "settle": 600}
    plain |= {"preparation_version": 1, "preparation_sha256": preparation_hash(1)}
    old = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    made = Manifest.from_json(old)
    assert made.to_json() == old
    point = made.grid_spec().operating
    assert point == Operating("speed", 990.0, 1610.0, 600, below=0.0, above=0.0, leave=1)
    for changes in ({"below": 1.0}, {"above": 1.0}, {"leave": 3}):
        with pytest.raises(Rejected, match="only from version 3"):
            Manifest.from_json(orjson.dumps(plain | {"operating": plain["operating"] | changes}))


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


def test_a_model_may_learn_set_points_by_their_clusters_and_is_silent_elsewhere() -> None:
    data = fit(
        recording(),
        machine="pump-1",
        machine_type="pump",
        now_us=7,
        config=Config(settle_s=5),
        operating_sensor="speed",
        clusters=True,
    )
    made = unpack(data)
    manifest = made.manifest
    assert (manifest.preparation_version, manifest.operating) == (2, None)
    assert manifest.states is not None
    assert [round(sum(level) / 200) * 100 for level in manifest.states.levels] == [1000, 1200, 1400, 1600]
    Scorer(made).self_test()
    table = healthy(120, seed=3)
    table[60:, 0] += 100  # between two set-points
    cells = grid_frame(manifest.grid_spec(), np.arange(1, 121) * STEP_US, table)
    (windows,) = cells.windows()
    assert windows.scorable[16:37].all()
    assert not windows.scorable[37:57].any()  # another set-point settles first
    assert not windows.scorable[60:].any()
    # Whoever uses no new rule needs no new release.
    assert artifact().manifest.preparation_version == 1
    assert "states" not in orjson.loads(artifact().manifest.to_json())
    wrong = manifest.model_dump(mode="json")
    for changes in (
        {"preparation_version": 1},
        {"states": wrong["states"] | {"sensor": "x"}},
        {"states": wrong["states"] | {"levels": [[3, 2]]}},
    ):
        with pytest.raises(Rejected, match="manifest"):
            Manifest.from_json(orjson.dumps(wrong | changes))
