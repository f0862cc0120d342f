"""The exported trees say what the fitted ones say, and the edge's check lets them pass."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from cloud.life.logic import Config, LifeModel, fit
from cloud.life.onnx import to_onnx
from shared.errors import Rejected
from shared.onnxcheck import check_onnx
from tests.unit.life_fleet import fleet


@pytest.fixture(scope="module", params=[50.0, 0.0])
def model(request: pytest.FixtureRequest) -> LifeModel:
    return fit(fleet(12), Config(cap=request.param, folds=3, repeats=1, rows=400, rounds=20))


def test_the_graph_says_what_the_model_says(model: LifeModel) -> None:
    asked = fleet(12, seed=9)
    asked.values[::5, 2] = np.nan
    rows = model.features(asked)
    rows[::3, ::2] = np.nan
    data = to_onnx(model.trees, model.far, rows.shape[1], model.knee)
    assert check_onnx(data) == 4
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    life, far = session.run(["life", "far"], {"features": rows})
    np.testing.assert_allclose(life, model.life(rows), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(far, np.mean([each.predict(rows) for each in model.far], axis=0), rtol=1e-6)
    assert data == to_onnx(model.trees, model.far, rows.shape[1], model.knee)


def test_a_threshold_divides_there_as_here(model: LifeModel) -> None:
    trees = model.trees[0]
    inner = np.flatnonzero(trees.feature >= 0)
    rows = np.tile(np.nanmean(model.features(fleet(12)), axis=0), (3 * len(inner), 1))
    for at, node in enumerate(inner.tolist()):
        edge = trees.threshold[node]
        rows[3 * at : 3 * at + 3, trees.feature[node]] = [
            np.nextafter(edge, -np.inf),
            edge,
            np.nextafter(edge, np.inf),
        ]
    alone = replace(model, trees=(trees,))
    session = onnxruntime.InferenceSession(to_onnx((trees,), model.far, rows.shape[1], model.knee))
    (life,) = session.run(["life"], {"features": rows})
    np.testing.assert_allclose(life, alone.life(rows), rtol=1e-6, atol=1e-5)


def test_no_trees_are_no_model(model: LifeModel) -> None:
    with pytest.raises(Rejected, match="no trees"):
        to_onnx((), model.far, 3, model.knee)
