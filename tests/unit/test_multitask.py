"""Three heads on one encoder: what each loss is and whom it teaches; machines that run to failure; who is called better."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.tasks.fleet import SEVERITY, Fleet, simulate_fleet
from shared.windows import Floats

if TYPE_CHECKING:
    from torch import nn

    from bench.tasks.contest import Case
    from cloud.life.torch.heads import Head
    from cloud.life.torch.network import Inputs

torch = pytest.importorskip("torch")
questions = pytest.importorskip("bench.tasks.heads")
encoder = pytest.importorskip("cloud.life.torch.network")
figures = pytest.importorskip("bench.tasks.figures")
contest = pytest.importorskip("bench.tasks.contest")
summed = pytest.importorskip("cloud.life.torch.heads")

ROWS = 96
WORN = np.arange(ROWS) % 3 == 0
MODE = np.where(WORN, np.arange(ROWS) // 3 % 2, np.nan)
TARGETS = np.column_stack([np.where(WORN, 0.2, 0.9), WORN, MODE])


def three() -> "tuple[Head, ...]":
    made: tuple[Head, ...] = questions.heads_for(torch.from_numpy(TARGETS.astype(np.float32)), 2)
    return made


def shown() -> "Inputs":
    """Wear in the first channel, its mode by the second's sign."""
    cells = 0.3 * np.random.default_rng(5).standard_normal((ROWS, 6, 2))
    cells[:, :, 0] += 2 * WORN[:, None]
    cells[:, :, 1] += np.where(WORN, 4 * np.nan_to_num(MODE) - 2, 0.0)[:, None]
    window = np.concatenate([cells, np.ones((ROWS, 6, 1))], axis=2)
    made: Inputs = encoder.Inputs(window.astype(np.float32), np.zeros((ROWS, 1), np.float32))
    return made


def gradients(weights: tuple[float, float, float], targets: Floats = TARGETS) -> list[float]:
    """How strongly each head, and last the encoder, is taught."""
    torch.manual_seed(1)
    heads = [
        summed.Head(head.name, head.outputs, head.loss, weight)
        for head, weight in zip(three(), weights, strict=True)
    ]
    network = encoder.TransformerLstm(3, 6, 1, heads).eval()
    window, summary, true = shown().dataset(targets).tensors
    summed.weighted(heads, network(window, summary), true).backward()

    def norm(module: "nn.Module") -> float:
        return float(sum(each.grad.abs().sum() for each in module.parameters() if each.grad is not None))

    return [*(norm(head) for head in network.heads), norm(network.embed)]


def test_the_losses_are_summed_by_weight_over_what_is_known() -> None:
    said = torch.tensor([[0.5, 2.0, 0.0, 1.0], [0.1, -1.0, 3.0, 0.0], [0.7, 0.5, 1.0, 1.0]])
    true = torch.tensor([[0.0, 1.0, 1.0], [0.3, 0.0, np.nan], [np.nan, 1.0, 0.0]])
    heads = [
        summed.Head("life", 1, summed.squared, 2.0),
        summed.Head("anomaly", 1, questions.crossed, 3.0),
        summed.Head("mode", 2, questions.focal, 5.0),
    ]
    squared = (0.5**2 + 0.2**2) / 2
    p = 1 / (1 + np.exp(-np.array([2.0, 1.0, 0.5])))  # that it is as it was
    sure = np.array([np.e / (1 + np.e), 0.5])
    focal = float(np.mean(-((1 - sure) ** 2) * np.log(sure)))
    wanted = 2 * squared + 3 * float(np.mean(-np.log(p))) + 5 * focal
    assert summed.weighted(heads, said, true).item() == pytest.approx(wanted, rel=1e-5)


def test_each_head_is_taught_by_its_own_loss_and_the_encoder_by_all() -> None:
    every = gradients((1.0, 1.0, 1.0))
    assert min(every) > 0
    for number in range(3):
        weights = [0.0, 0.0, 0.0]
        weights[number] = 1.0
        own = gradients((weights[0], weights[1], weights[2]))
        assert own[number] == pytest.approx(every[number], rel=1e-4)
        assert own[3] > 0
        assert [own[other] for other in range(3) if other != number] == [0.0, 0.0]


def test_what_nobody_knows_teaches_nothing() -> None:
    unknown = TARGETS.copy()
    unknown[:, 2] = np.nan
    life, anomaly, mode, _ = gradients((1.0, 1.0, 1.0), unknown)
    assert mode == 0
    assert min(life, anomaly) > 0


def test_losses_weigh_alike_where_only_the_mean_is_known() -> None:
    life, anomaly, mode = three()
    share = WORN.mean()
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert life.weight == 1
    assert anomaly.weight == pytest.approx(TARGETS[:, 0].var() / entropy, rel=1e-3)
    assert mode.weight == pytest.approx(TARGETS[:, 0].var() / (0.25 * np.log(2)), rel=1e-3)


@pytest.fixture(scope="module")
def pumps() -> Fleet:
    return simulate_fleet("centrifugal-pump", 5, 3)


def test_machines_wear_by_one_known_fault_until_they_fail(pumps: Fleet) -> None:
    assert sorted(life.mode for life in pumps.lives) == list(range(5))
    for number, rows in enumerate(pumps.runs.rows()):
        life, hours = pumps.lives[number], pumps.runs.cycles[rows]
        assert len(life.values) == 60 * len(hours)
        assert contest.FIT_H < life.begins_h < hours[-1]
        np.testing.assert_array_equal(pumps.degraded[rows], hours > life.begins_h)
        assert set(pumps.mode[rows][hours > life.begins_h]) == {life.mode}
        assert np.isnan(pumps.mode[rows][hours <= life.begins_h]).all()
        gains = list(pumps.kind.faults.values())[life.mode].gains
        column = pumps.kind.sensor_names.index("vibration" if "vibration" in gains else "flow")
        sigma = pumps.kind.sensors[column].sigma
        shift = np.median(life.values[-60:, column]) - np.median(life.values[: 60 * contest.FIT_H, column])
        assert abs(shift) > 0.5 * SEVERITY[0] * sigma


def test_a_fleet_is_its_seed() -> None:
    one, again, other = (simulate_fleet("extraction-fan", 1, seed).runs for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.values, again.values)
    assert one.values.tobytes() != other.values.tobytes()


def test_machines_of_other_seeds_are_others_and_engines_are_the_same(pumps: Fleet) -> None:
    def case(fleet: Fleet | None, seed: int) -> "Case":
        made: Case = contest.Case("", pumps.runs, pumps.degraded, None, 0, fleet, seed)
        return made

    assert [case(pumps, seed).engines for seed in range(3)] == [0, 5, 10]
    assert [case(None, seed).engines for seed in range(3)] == [0, 0, 0]


def test_better_is_only_what_units_leave_no_doubt_of() -> None:
    draws = np.random.default_rng(2)
    unit = np.repeat(np.arange(25), 8)
    life = draws.uniform(0, 100, 200)
    worn = (life < 40).astype(float)
    off = draws.standard_normal((4, 200))
    mode = np.where(worn > 0, 1.0, np.nan)
    said = {
        "life": {"multi-task": life + 5 * off[0], "bad": life + 9 * off[1], "good": life + 3 * off[2]},
        "anomaly": {"multi-task": -life + 20 * off[0], "bad": off[1], "same": -life + 20 * off[3]},
        "mode": {"multi-task": np.ones(200), "bad": np.zeros(200)},
    }
    found = figures.compare(contest.Told(unit, {"life": life, "anomaly": worn, "mode": mode}, said))
    verdicts = {(each.task, each.rival): each.verdict for each in found}
    assert verdicts == {
        ("life", "bad"): "better",
        ("life", "good"): "worse",
        ("anomaly", "bad"): "better",
        ("anomaly", "same"): "alike",
        ("mode", "bad"): "better",
    }
    assert all(each.low <= each.gain <= each.high for each in found)
    few = unit < 2
    one = contest.Told(
        unit[few], {"life": life[few]}, {"life": {who: it[few] for who, it in said["life"].items()}}
    )
    assert figures.compare(one)[0].units == 2
