"""What TensorBoard reads of a fit."""

import sys
from pathlib import Path

import pytest

from cloud.training.candidates import fit_candidates
from cloud.training.run import read_choice
from cloud.training.tensorboard import tensorboard_watch
from cloud.training.watch import Together, Unwatched
from shared.clock import ManualClock
from shared.errors import Misconfigured
from tests.models import recording


def test_epochs_and_figures_are_points_that_tensorboard_reads(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("torch")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    choice = read_choice(["window-pca", "autoencoder"], ["epochs=2"])
    with tensorboard_watch(tmp_path, "m", ManualClock()) as board:
        trained = fit_candidates(
            recording(1600),
            machine="m",
            machine_type="t",
            now_us=7,
            methods=choice.methods,
            config=choice.config,
            watch=Together([Unwatched(), board]),
        )
    network = trained.candidates[1]
    [run] = (tmp_path / "m").iterdir()
    assert {each.name for each in run.iterdir()} == {"window-pca", "conv-autoencoder"}
    read = EventAccumulator(str(run / "conv-autoencoder"))
    read.Reload()
    losses = read.Scalars("epoch/train_loss")
    assert [each.step for each in losses] == [1, 2]
    assert [each.value for each in losses] == pytest.approx(network.curves["train_loss"], rel=1e-6)
    [found] = read.Scalars("figure/panel_found")
    assert found.value == pytest.approx(network.metrics["panel_found"])


def test_who_lacks_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(Misconfigured) as raised, tensorboard_watch(tmp_path, "m", ManualClock()):
        pass
    assert "industrialmind[tensorboard]" in (raised.value.hint or "")
