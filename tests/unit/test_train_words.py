"""Whom a trainer trains for, and what it says."""

import pytest

from industrialmind.train_words import figures, outcome, progress
from industrialmind.trainees import choose, trainees
from shared.errors import NotFound
from tests.unit.front_door import PLANT


def test_machines_are_chosen_by_id_all_without_one() -> None:
    assert choose(PLANT.machines, []) == list(PLANT.machines)
    assert [m.id for m in choose(PLANT.machines, ["fan-1"])] == ["fan-1"]
    with pytest.raises(NotFound):
        choose(PLANT.machines, ["fan-1", "x"])


def test_a_machine_that_no_edge_is_assigned_to_is_trained_for_the_inference_service() -> None:
    made = trainees(PLANT.machines, {"fan-1": ("s1", "edge-9")})
    assert [(each.id, each.edge) for each in made] == [("pump-1", "inference"), ("fan-1", "edge-9")]


def test_a_machine_with_no_edge_is_chosen_if_the_store_knows_it() -> None:
    pump, other = choose(PLANT.machines, ["pump-1", "x"], {"x", "pump-1"})
    assert pump == PLANT.machines[0]
    assert (other.id, other.type, other.operating_sensor) == ("x", "machine", "")
    assert choose(PLANT.machines, [], {"x"}) == list(PLANT.machines)


def test_a_fit_in_words() -> None:
    candidates = [
        {"method": "window-pca", "metrics": {"panel_found": 0.8, "panel_false": 1.0}, "epochs": 0},
        {"method": "conv-autoencoder", "metrics": {}, "epochs": 40},
    ]
    fitted = {"event": "fitted", "machine": "m", "rows": 9, "seconds": 3.2, "chosen": "window-pca"}
    assert outcome({**fitted, "candidates": candidates}) == (
        "m: 9 rows in 3 s: window-pca (found 80% of a panel of faults, false 1); conv-autoencoder (40 epochs); "
        "window-pca is chosen"
    )
    assert figures({"panel_found": 1.0}) == "found 100% of a panel of faults"
    step = {"event": "step", "machine": "m", "method": "window-pca", "step": "mlflow-version"}
    assert progress(step) == "m window-pca: mlflow version"
    assert progress({**step, "machine": "", "method": "", "step": "open-mlflow"}) == "opening MLflow"
    assert (outcome(step), progress({"event": "reconciled"})) == ("", "")


def test_decisions_and_contests_in_words() -> None:
    decided = {
        "event": "decided",
        "machine": "m",
        "triage": "drift",
        "sensors": ["a", "b"],
        "reason": "so",
        "action": "train",
    }
    assert outcome(decided) == "m: drift (a, b): so: train"
    judged = {
        "event": "judged",
        "machine": "m",
        "sha256": "ab" * 32,
        "proxy": True,
        "outcome": "approve",
        "reasons": ["finds more"],
    }
    assert outcome(judged) == "m: challenger abababababab by a proxy: approve: finds more"
