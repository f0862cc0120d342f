"""The description of a run, and what `--model` and `--set` make of it."""

from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, replace

import pytest

from cloud.training.candidates import DEFAULT, METHODS, fit_candidates
from cloud.training.confusion import confusion_of
from cloud.training.learning import Learning, Transformer
from cloud.training.logic import Config
from cloud.training.run import SETTINGS, Choice, Run, read_choice
from industrialmind.train_watch import TellingWatch
from industrialmind.train_words import progress
from shared.artifact import unpack
from shared.clock import ManualClock
from shared.errors import Misconfigured
from tests.models import recording

RUN = Run("pump-1", "pump", Choice(), 0, 10)


def test_nothing_chosen_is_what_is_fitted_unasked() -> None:
    assert read_choice() == Choice(DEFAULT, Config(), 0, None)


def test_settings_reach_the_part_that_they_are_of() -> None:
    given = ["window=64", "epochs=3", "learning_rate=1e-3", "n=9", "m=4", "step=0.5", "seed=7"]
    choice = read_choice(["autoencoder", "window-pca", "conv-autoencoder"], given)
    assert choice.methods == ("conv-autoencoder", "window-pca")
    assert (choice.config.window, choice.config.budget.m, choice.config.budget.n) == (64, 4, 9)
    assert choice.config.learning == replace(Learning(), epochs=3, learning_rate=1e-3)
    assert (choice.seed, choice.step_us) == (7, 500_000)
    sized = read_choice(["transformer"], ["width=24", "heads=3", "patch=2", "layers=1"])
    assert sized.methods == ("transformer-autoencoder",)
    assert sized.config == Config(transformer=Transformer(patch=2, width=24, heads=3, layers=1))


@pytest.mark.parametrize(
    ("models", "settings", "said", "hint"),
    [
        (["pca"], [], "no model 'pca'", "isolation-forest"),
        ([], ["windows=64"], "no setting 'windows'", "window, step"),
        ([], ["window"], "not NAME=VALUE", "window, step"),
        ([], ["window=3"], "a whole number from 4 to 256, not '3'", "cells"),
        ([], ["window=16.5"], "a whole number from 4 to 256", "cells"),
        ([], ["mask_limit=nan"], "a number from 0 to 0.9, not 'nan'", "empty"),
        ([], ["learning_rate=inf"], "a number from 1e-06 to 1", "network"),
        ([], ["epochs=2", "epochs=3"], "given twice", ""),
        ([], ["m=6"], "m=6 is more than n=5", "episode"),
        ([], ["heads=3"], "width=16 is no multiple of heads=3", "multiple"),
    ],
)
def test_what_can_t_be_is_refused_and_what_can_be_named(
    models: Sequence[str], settings: Sequence[str], said: str, hint: str
) -> None:
    with pytest.raises(Misconfigured, match=said) as raised:
        read_choice(models, settings)
    assert hint in (raised.value.hint or "")


def test_the_ends_of_every_range_are_allowed() -> None:
    for name, setting in SETTINGS.items():
        for end in (setting.least, setting.most):
            others = ["n=100"] if name == "m" else []
            others += ["m=1"] if name == "n" else []
            read_choice((), [f"{name}={setting.kind(end)}", *others])


def test_a_run_s_hash_is_that_of_all_its_parts() -> None:
    assert RUN.sha256() == replace(RUN).sha256()
    others = [
        replace(RUN, machine="pump-2"),
        replace(RUN, from_us=1),
        replace(RUN, labels_as_of_us=3),
        replace(RUN, choice=read_choice((), ["epochs=3"])),
        replace(RUN, choice=read_choice((), ["seed=3"])),
        replace(RUN, choice=read_choice(["window-pca"])),
    ]
    assert len({run.sha256() for run in [RUN, *others]}) == 7
    with pytest.raises(FrozenInstanceError):
        RUN.machine = "x"  # type: ignore[misc]


def test_how_networks_are_trained_is_no_part_of_the_other_methods_hash() -> None:
    turned = read_choice((), ["epochs=3"]).config
    assert turned.sha256() == Config().sha256()
    assert read_choice((), ["window=32"]).config.sha256() != Config().sha256()


def test_a_set_window_is_fitted_and_each_candidate_told_of() -> None:
    told: list[Mapping[str, object]] = []
    choice = read_choice(["window-pca", "window-pca-long"], ["window=8"])
    trained = fit_candidates(
        recording(),
        machine="m",
        machine_type="t",
        now_us=7,
        methods=choice.methods,
        config=choice.config,
        watch=TellingWatch("m", told.append, ManualClock()),
    )
    assert unpack(trained.candidates[0].artifact).manifest.grid.window == 8
    assert [(event["method"], event["number"], event["of"]) for event in told] == [
        ("window-pca", 1, 2),
        ("window-pca-long", 2, 2),
    ]
    assert progress(told[1]) == "m window-pca-long: fitting, 2 of 2"


def test_a_network_stops_after_the_epochs_that_were_set_and_tells_of_each() -> None:
    pytest.importorskip("torch")
    told: list[Mapping[str, object]] = []
    choice = read_choice(["autoencoder"], ["epochs=2"])
    made = METHODS["conv-autoencoder"].fit(
        recording(), choice.config, choice.seed, 1_000_000, TellingWatch("m", told.append, ManualClock())
    )
    assert [(event["event"], event["epoch"], event["of"]) for event in told] == [
        ("epoch", 1, 2),
        ("epoch", 2, 2),
    ]
    assert len(made.curves["train_loss"]) == 2
    assert made.parameters["epochs_max"] == 2
    assert "epoch 2 of 2, validation loss " in progress(told[1])


def test_a_panel_is_a_confusion_matrix_without_quiet_time() -> None:
    metrics = {"panel_found": 0.75, "panel_faults": 40.0, "panel_false": 2.0}
    assert confusion_of(metrics) == {"true_positive": 30, "false_negative": 10, "false_positive": 2}
    assert confusion_of({"panel_found": 0.75}) == {}
