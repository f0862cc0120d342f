"""What TensorBoard reads of a fit."""

import sys
from pathlib import Path

import pytest

from cloud.training.tensorboard import tensorboard_watch
from shared.clock import ManualClock
from shared.errors import Misconfigured


def test_epochs_and_figures_are_points_that_tensorboard_reads(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    losses = [0.5, 0.25]
    with tensorboard_watch(tmp_path, "m", ManualClock()) as board:
        for number, method in enumerate(("window-pca", "conv-autoencoder"), 1):
            board.fitting(method, number, 2)
        for epoch, loss in enumerate(losses, 1):
            board.epoch("conv-autoencoder", epoch, 2, {"train_loss": loss})
        for method in ("window-pca", "conv-autoencoder"):
            board.judged(method, {"panel_found": 0.75, "rival.panel_found": 0.5})
    [run] = (tmp_path / "m").iterdir()
    assert {each.name for each in run.iterdir()} == {"window-pca", "conv-autoencoder"}
    read = accumulator.EventAccumulator(str(run / "conv-autoencoder"))
    read.Reload()
    assert [(each.step, each.value) for each in read.Scalars("epoch/train_loss")] == [(1, 0.5), (2, 0.25)]
    assert set(read.Tags()["scalars"]) == {"epoch/train_loss", "figure/panel_found"}
    [found] = read.Scalars("figure/panel_found")
    assert found.value == 0.75


def test_who_lacks_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(Misconfigured) as raised, tensorboard_watch(tmp_path, "m", ManualClock()):
        pass
    assert "industrialmind[tensorboard]" in (raised.value.hint or "")
