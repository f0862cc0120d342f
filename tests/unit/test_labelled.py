"""How versions do on what people confirmed, from the replay of each stretch to the card."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import orjson
import pytest

from cloud.training.candidates import LONG, fit_candidates
from cloud.training.confusion import CHAMPION, confusion_on_labels, said_of_labels
from cloud.training.history import Judged
from cloud.training.labelled import Labelled, figures, labelled
from cloud.training.mlflow.runs import LABELS_FILE, tables_of
from cloud.training.recording import LeftOut, Recording
from cloud.training.trained import Trained
from industrialmind.model_card import model_card
from shared.artifact import unpack
from shared.event import at
from tests.models import SENSORS, STEP_US, UNITS, healthy, packed, recording

ROWS, SHIFT, GAP = 1600, slice(400, 500), slice(800, 950)
RUN = "a" * 64


def rows() -> Recording:
    """Healthy but for a shift of the flow, and a hole."""
    table = healthy(ROWS, seed=3)
    table[SHIFT, 1] += 4.0
    times = np.arange(1, ROWS + 1) * STEP_US
    there = np.ones(ROWS, np.bool_)
    there[GAP] = False
    return Recording(times[there], SENSORS, UNITS, table[there])


def word(kind: str, begin: int, end: int, *, confirmed: bool = True) -> Judged:
    return Judged(kind, at(begin * STEP_US), at(end * STEP_US), confirmed)


def test_each_confirmed_stretch_is_found_or_missed_and_counts_once() -> None:
    said = [
        word("fault", 405, 480),
        word("fault", 450, 490),  # the same fault, by somebody else
        word("fault", 1200, 1250),  # nothing shows
        word("normal", 600, 700),
        word("operation", 1400, 1500),
        word("normal", 850, 900),  # no rows
        word("normal", 480, 520),  # overlaps a fault: people don't agree
        word("fault", 1000, 1100, confirmed=False),
        word("sensor-fault", 1300, 1350),
        word("unsure", 1300, 1350),
    ]
    found = figures(packed, labelled(rows(), said))
    assert confusion_on_labels(found) == {
        "true_positive": 1, "false_negative": 1, "false_positive": 0, "true_negative": 2,
    }  # fmt: skip
    assert found["labels_unseen"] == 1
    assert confusion_on_labels(found, CHAMPION) == {}
    told = said_of_labels(found)
    assert told.startswith("Confirmed: 2 faults, 2 healthy stretches. 1 more had no rows")
    assert "too few to go by" in told


def test_an_anomaly_in_what_is_healthy_is_a_false_one() -> None:
    found = figures(packed, labelled(rows(), [word("operation", 410, 480)]))
    assert confusion_on_labels(found) == {
        "true_positive": 0, "false_negative": 0, "false_positive": 1, "true_negative": 0,
    }  # fmt: skip


def test_time_that_was_thinned_is_no_ground_to_judge_on() -> None:
    thinned = [LeftOut("degraded", 300 * STEP_US, 600 * STEP_US), LeftOut("fault", 0, ROWS * STEP_US)]
    found = figures(packed, labelled(rows(), [word("fault", 410, 480)], thinned))
    assert (found["labels_faults"], found["labels_unseen"]) == (0, 1)


def test_what_a_matrix_is_worth_is_said() -> None:
    enough = {
        "labels_faults": 5.0, "labels_found": 4.0, "labels_healthy": 9.0, "labels_false": 1.0, "labels_unseen": 0.0,
    }  # fmt: skip
    assert said_of_labels(enough) == "Confirmed: 5 faults, 9 healthy stretches."
    assert "too few" in said_of_labels({**enough, "labels_faults": 4.0})
    assert "too few" in said_of_labels({**enough, "labels_healthy": 4.0})
    nothing = dict.fromkeys(enough, 0.0)
    assert said_of_labels(nothing).startswith("Nothing of this machine's time")
    assert said_of_labels({}) == ""


@cache
def trained() -> Trained:
    said = [word("fault", 405, 480), word("normal", 600, 700)]
    return fit_candidates(
        recording(),
        machine="m",
        machine_type="t",
        now_us=7,
        methods=("window-pca", LONG),
        labels_as_of_us=5,
        run_sha256=RUN,
        evidence=labelled(rows(), said, champion=packed()),
    )


def test_candidates_carry_their_own_figures_and_the_champion_s() -> None:
    for each in trained().candidates:
        manifest = unpack(each.artifact).manifest
        assert manifest.metrics == each.metrics
        assert manifest.run_sha256 == RUN
        assert confusion_on_labels(each.metrics, CHAMPION)["true_positive"] == 1
        assert sum(confusion_on_labels(each.metrics).values()) == 2
    assert confusion_on_labels(trained().candidates[0].metrics)["true_positive"] == 1


def test_what_judges_changes_no_model() -> None:
    alone = fit_candidates(
        recording(), machine="m", machine_type="t", now_us=7, methods=("window-pca", LONG), labels_as_of_us=5
    )
    assert alone.best == trained().best
    graphs = [[unpack(each.artifact).model for each in run.candidates] for run in (alone, trained())]
    assert graphs[0] == graphs[1]
    assert b"run_sha256" not in unpack(alone.chosen.artifact).manifest.to_json()


def test_a_champion_that_these_rows_can_t_feed_leaves_no_figures() -> None:
    given = rows()
    part = Recording(given.times_us, given.sensors[:3], given.units[:3], given.values[:, :3])
    own = recording()
    less = Recording(own.times_us, own.sensors[:3], own.units[:3], own.values[:, :3])
    evidence = Labelled(part, (LeftOut("fault", 405 * STEP_US, 480 * STEP_US),), (), packed())
    made = fit_candidates(
        less, machine="m", machine_type="t", now_us=7, methods=("window-pca",), evidence=evidence
    )
    assert not confusion_on_labels(made.chosen.metrics, CHAMPION)
    assert made.chosen.metrics["labels_faults"] == 1


def shown(metrics: Mapping[str, float]) -> str:
    manifest = orjson.loads(unpack(trained().chosen.artifact).manifest.to_json())
    manifest["metrics"] = dict(metrics)
    model: dict[str, Any] = {
        "name": "m", "version": 2, "version_hash": "b" * 64, "aliases": [], "registered_at": "then",
        "manifest": manifest, "provisional": False, "promoted_to": [], "running_on": [], "refused": {},
    }  # fmt: skip
    return model_card(model)


def test_the_card_shows_both_and_says_when_there_is_too_little() -> None:
    card = shown(trained().candidates[0].metrics)
    assert (
        "## Confusion on confirmed labels\n\nConfirmed: 1 fault, 1 healthy stretch. That is too few" in card
    )
    assert "| a fault, this version | 1 | 0 |" in card
    assert "| a fault, the champion then | 1 | 0 |" in card
    assert "| none, the champion then | 0 | 1 |" in card
    assert f"| run | `{RUN}` |" in card
    empty = {name: 0.0 for name in trained().chosen.metrics if name.startswith("labels_")}
    assert "confirmed yet" in shown(empty)
    assert "| a fault, this version" not in shown(empty)
    assert "## Confusion on confirmed labels" not in shown({})


def test_mlflow_is_given_the_matrix_as_a_file() -> None:
    told = orjson.loads(tables_of(trained().candidates[0])[LABELS_FILE])
    assert told["version"]["true_positive"] == told["champion"]["true_positive"] == 1
    assert "too few" in told["statement"]
    first = {name: value for name, value in trained().candidates[0].metrics.items() if CHAMPION not in name}
    told = orjson.loads(tables_of(replace(trained().candidates[0], metrics=first))[LABELS_FILE])
    assert told["champion"] is None


@pytest.mark.parametrize("wrong", ["x", "A" * 64])
def test_a_run_s_hash_is_a_hash(wrong: str) -> None:
    manifest = unpack(packed()).manifest
    with pytest.raises(ValueError, match="run_sha256"):
        type(manifest).model_validate({**manifest.model_dump(), "run_sha256": wrong})
