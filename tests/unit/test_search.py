"""A search for settings: repeatable, goes on after a kill, and its best has to win on rows that it did not see."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud.training import compare
from cloud.training import search as module
from cloud.training.candidates import fit_candidates
from cloud.training.compare import HELD
from cloud.training.learning import Learning
from cloud.training.logic import TRAIN_SHARE, Config
from cloud.training.packing import Fitted
from cloud.training.recording import Recording
from cloud.training.run import Choice, read_choice
from cloud.training.search import SEEN, SPACE, Tuned, search, searched
from cloud.training.watch import Unwatched
from industrialmind.train_watch import TellingWatch
from industrialmind.train_words import progress
from shared.artifact import unpack
from shared.clock import ManualClock
from shared.errors import Misconfigured
from tests.models import STEP_US, recording

pytest.importorskip("optuna")
ROWS = 1600
Trial = tuple[str, int, int, dict[str, float], float | None]


class Told(Unwatched):
    """Notes the trials."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []

    def trial(
        self, method: str, number: int, of: int, settings: Mapping[str, float], value: float | None, /
    ) -> None:
        self.trials.append((method, number, of, dict(settings), value))


@pytest.fixture(scope="module")
def rows() -> Recording:
    return recording(ROWS)


def choose(trials: int, *settings: str) -> Choice:
    return read_choice(["window-pca", "window-pca-long"], settings, trials)


@pytest.fixture(scope="module")
def whole(rows: Recording, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Trial], Tuned]:
    """The trials of a search that nothing breaks, and what it finds."""
    told = Told()
    found = search(choose(3), rows, tmp_path_factory.mktemp("whole") / "study.db", told)
    assert found is not None
    return told.trials, found


def test_each_trial_is_told_and_the_best_is_found(whole: tuple[list[Trial], Tuned]) -> None:
    trials, found = whole
    assert [(number, of) for _, number, of, _, _ in trials] == [(1, 3), (2, 3), (3, 3)]
    values = [value for *_, value in trials if value is not None]
    assert (found.value, found.values) == (max(values), tuple(values))
    best = next((method, settings) for method, *_, settings, value in trials if value == max(values))
    assert (found.name, found.settings) == best
    assert len({settings["window"] for *_, settings, _ in trials}) == 3


def test_one_that_was_killed_goes_on_to_what_an_unbroken_one_finds(
    tmp_path: Path, rows: Recording, whole: tuple[list[Trial], Tuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the same search finds the same, too."""
    again, fit, count = Told(), module._value, 0

    def dies(*given: Any) -> float | None:  # noqa: ANN401 - what it passes on
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return fit(*given)

    monkeypatch.setattr(module, "_value", dies)
    with pytest.raises(KeyboardInterrupt):
        search(choose(3), rows, tmp_path / "study.db", again)
    before = len(again.trials)
    found = search(choose(3), rows, tmp_path / "study.db", again)
    assert before == 1
    assert (again.trials, found) == whole
    assert count == 2 + 2  # what was done is not done again


def test_trials_that_cannot_be_read_are_begun_anew(tmp_path: Path, rows: Recording) -> None:
    (tmp_path / "study.db").write_bytes(b"no database at all" * 100)
    found = search(read_choice(["window-pca"], [], 1), rows, tmp_path / "study.db")
    assert found is not None
    assert len(found.values) == 1


def test_no_trial_sees_the_rows_that_choose(
    tmp_path: Path, rows: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []

    def noting(name: str, settings: object, choice: object, part: Recording, *_: object) -> float:
        del name, settings, choice
        lengths.append(len(part.times_us))
        return 0.5

    monkeypatch.setattr(module, "_value", noting)
    assert search(choose(2), rows, tmp_path / "study.db") is not None
    assert lengths == [int(SEEN * ROWS)] * 2
    assert 1 - (1 - TRAIN_SHARE) * HELD > SEEN


def tuned(window: int) -> Tuned:
    return Tuned("window-pca", {"window": window}, 0.5, (0.5,))


def fit_with(rows: Recording, best: Tuned) -> list[str]:
    made = fit_candidates(
        rows,
        machine="m",
        machine_type="t",
        now_us=7,
        methods=["window-pca"],
        more=[best.method(Config())],
    )
    assert made.candidates[1].method == "window-pca-tuned"
    manifest = unpack(made.candidates[1].artifact).manifest
    assert manifest.method.startswith("window-pca-tuned/")
    assert manifest.grid.window == best.settings["window"]
    assert manifest.metrics["search_trials"] == 1
    return [made.chosen.method, *(each.method for each in made.candidates)]


def test_what_is_no_better_on_the_newest_rows_is_not_chosen(rows: Recording) -> None:
    """The usual settings again: a tie."""
    assert fit_with(rows, tuned(16)) == ["window-pca", "window-pca", "window-pca-tuned"]


def test_what_is_better_there_is_chosen(rows: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = compare.judge_all

    def kinder(fitted: list[Fitted], seed: int) -> list[object]:
        panels = judge(fitted, seed)
        return [panels[0], *(replace(one, over=0.0, found=panels[0].found + 0.1) for one in panels[1:])]

    monkeypatch.setattr(compare, "judge_all", kinder)
    assert fit_with(rows, tuned(24))[0] == "window-pca-tuned"


def test_what_a_person_set_is_not_turned(tmp_path: Path, rows: Recording) -> None:
    with pytest.raises(Misconfigured, match="nothing to search"):
        search(choose(2, "window=32"), rows, tmp_path / "study.db")
    left = searched(read_choice(["window-pca", "autoencoder"], ["window=32", "batch=64"], 2))
    assert {one.name for one in left["conv-autoencoder"]} == {"learning_rate", "weight_decay"}
    assert "window-pca" not in left
    assert searched(read_choice(search=1)).keys() <= SPACE.keys()


@pytest.mark.parametrize("trials", [-1, 1001])
def test_how_many_is_bounded(trials: int) -> None:
    with pytest.raises(Misconfigured, match="from 1 to 1000"):
        read_choice(search=trials)


@pytest.mark.parametrize(
    ("value", "says"), [(None, "can't be fitted"), (-0.5, "too many false episodes"), (0.25, "25% found")]
)
def test_a_trial_is_told_in_words(value: float | None, says: str) -> None:
    told: list[Mapping[str, Any]] = []
    TellingWatch("m", told.append, ManualClock()).trial("window-pca", 2, 5, {"window": 9}, value)
    assert progress(told[0]) == f"m window-pca: settings 2 of 5: {says}"


def test_epochs_are_told_under_the_candidates_name(rows: Recording) -> None:
    pytest.importorskip("torch")
    heard: list[str] = []

    class Epochs(Unwatched):
        def epoch(self, method: str, epoch: int, of: int, figures: Mapping[str, float], /) -> None:
            del figures
            heard.append(f"{method} {epoch} of {of}")

    config = Config(learning=Learning(epochs=2))
    _, method = Tuned("conv-autoencoder", {"batch": 64}, 0.5, (0.5,)).method(config)
    method.fit(rows, config, 0, STEP_US, Epochs())
    assert heard == ["conv-autoencoder-tuned 1 of 2", "conv-autoencoder-tuned 2 of 2"]
