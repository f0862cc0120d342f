"""The network beside the trees: what is learnt, what is exported, and who ships."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from cloud.life.choice import choose, held_out
from cloud.life.logic import Config, LifeModel, fit
from shared.onnxcheck import check_onnx
from tests.unit.life_fleet import fleet

if TYPE_CHECKING:
    from cloud.life.torch.fit import NetworkModel

torch = pytest.importorskip("torch")
encoder = pytest.importorskip("cloud.life.torch.network")
questions = pytest.importorskip("bench.tasks.heads")
torch_fit = pytest.importorskip("cloud.life.torch.fit")
graph = pytest.importorskip("cloud.life.torch.graph")
FLEET = fleet(14)


@pytest.fixture(scope="module")
def trees() -> LifeModel:
    return fit(FLEET, Config(cap=50, folds=2, repeats=1, rows=200, rounds=5))


@pytest.fixture(scope="module")
def model(trees: LifeModel) -> "NetworkModel":
    made: NetworkModel = torch_fit.fit_network(FLEET, trees, windows=300)
    return made


def test_units_not_seen_are_told_better_than_by_no_look_at_them(model: "NetworkModel") -> None:
    truth = np.minimum(FLEET.remaining[model.held.rows], 50)
    assert np.sqrt(np.mean((model.held.life - truth) ** 2)) < 0.75 * truth.std()
    told = model.estimate(fleet(18, seed=4, cut=True))
    assert ((told.low <= told.life) & (told.life <= told.high)).all()
    assert (told.life <= 50).all()


@pytest.mark.nightly  # seconds of training or of the exporter
def test_the_same_seed_gives_the_same_network(trees: LifeModel, model: "NetworkModel") -> None:
    again = torch_fit.fit_network(FLEET, trees, windows=300)
    np.testing.assert_array_equal(again.held.life, model.held.life)


def test_one_training_teaches_three_heads() -> None:
    draws, rows = np.random.default_rng(5), 512
    worn = np.arange(rows) % 3 == 0
    mode = np.where(worn, np.arange(rows) // 3 % 2, np.nan)
    cells = np.concatenate([0.3 * draws.standard_normal((rows, 6, 2)), np.ones((rows, 6, 1))], axis=2)
    cells[:, :, 0] += 2 * worn[:, None]
    cells[:, :, 1] += np.where(worn, 4 * np.nan_to_num(mode) - 2, 0.0)[:, None]
    inputs = encoder.Inputs(cells.astype(np.float32), np.zeros((rows, 1), np.float32))
    targets = np.column_stack([np.where(worn, 0.2, 0.9), worn, mode])
    heads = questions.heads_for(torch.from_numpy(targets.astype(np.float32)), 2)
    data = inputs.dataset(targets)
    network, curves = encoder.train(data, data, 2, heads)
    said = encoder.answers(network, inputs)
    assert said.shape == (rows, 4)
    assert np.sqrt(np.mean((said[:, 0] - targets[:, 0]) ** 2)) < 0.3 * targets[:, 0].std()
    assert ((said[:, 1] > 0) == worn).mean() > 0.98
    assert (said[worn, 2:].argmax(axis=1) == mode[worn]).mean() > 0.98
    assert min(curves.validation_loss) < 0.1 * curves.validation_loss[0]


def test_later_rows_and_other_units_never_show(model: "NetworkModel") -> None:
    whole = fleet(6, seed=8)
    ends = whole.starts[:-1] + 24
    cut = whole.cut(ends)
    before, after = model.inputs(cut, cut.last), model.inputs(whole, ends)
    np.testing.assert_array_equal(before.window, after.window)
    np.testing.assert_array_equal(before.summary, after.summary)
    first = model.inputs(whole, whole.starts[3:4])
    assert first.window[0, :-1].any() == np.False_


@pytest.mark.nightly  # seconds of training or of the exporter
def test_the_graph_says_what_the_networks_say(model: "NetworkModel") -> None:
    asked = fleet(12, seed=9, cut=True)
    asked.values[::5, 2] = np.nan
    inputs = model.inputs(asked, np.arange(asked.starts[-1]))
    model = replace(model, networks=model.networks[:1])  # each costs the exporter seconds
    data = graph.to_onnx(model)
    assert check_onnx(data) < 500
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (life,) = session.run(["life"], {"window": inputs.window, "summary": inputs.summary})
    np.testing.assert_allclose(life, model.life(inputs), rtol=1e-4, atol=1e-3)
    assert life.std() > 1
    assert str(__file__).encode() not in data


def test_what_trees_say_of_held_out_units_made_their_intervals(trees: LifeModel) -> None:
    held = held_out(trees, FLEET)
    np.testing.assert_array_equal(np.sort(held.life), trees.intervals.predicted)


def test_the_network_ships_only_where_it_is_better_beyond_doubt() -> None:
    draws = np.random.default_rng(2)
    unit = np.repeat(np.arange(60), 10)
    truth = draws.uniform(0, 100, 600)
    trees = truth + 10 * draws.standard_normal(600)
    better = choose(trees, truth + 7 * draws.standard_normal(600), truth, unit)
    assert better.network_ships
    assert better.low < better.difference < better.high < 0
    assert better.trees == pytest.approx(10, rel=0.1)
    alike = choose(trees, truth + 10 * draws.standard_normal(600), truth, unit)
    assert not alike.network_ships
    assert not choose(trees, truth + 14 * draws.standard_normal(600), truth, unit).network_ships


def test_rows_of_one_unit_are_no_many_proofs() -> None:
    draws = np.random.default_rng(2)
    unit = np.repeat(np.arange(6), 200)
    truth = np.zeros(1200)
    trees, network = np.repeat(draws.normal(9, 4, 6), 200), np.repeat(draws.normal(8, 4, 6), 200)
    of_units = choose(trees, network, truth, unit)
    of_rows = choose(trees, network, truth, np.arange(1200))
    assert of_units.high - of_units.low > 5 * (of_rows.high - of_rows.low)
    assert replace(of_units, high=-1.0).network_ships
