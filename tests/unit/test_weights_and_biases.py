"""What Weights & Biases' own writer leaves of a fit, with no network."""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.training.weights_and_biases import wandb_watch
from shared.errors import Misconfigured


def records_of(data: bytes) -> Iterator[bytes]:
    """The records of a run's file: LevelDB's log of blocks of 32 KiB, after a head of seven bytes."""
    place, whole = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            yield whole
            whole = b""


def test_each_method_has_an_offline_run_and_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    records = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # whoever asked it would fail
    with wandb_watch(tmp_path, "pump") as watch:
        for epoch in (1, 2, 3):
            watch.epoch("autoencoder", epoch, 3, {"train_loss": 1 / epoch})
        for method in ("window-pca", "autoencoder"):
            watch.judged(method, {"panel_found": 0.5, "rival.panel_found": 0.25})
    wandb.teardown()  # as at the end of the process: its writer, a process of its own, has ended
    losses: dict[str, list[tuple[str, float]]] = {}
    figures: dict[str, dict[str, str]] = {}
    for file in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb"):
        found = [records.Record.FromString(data) for data in records_of(file.read_bytes())]
        name = next(one.run.display_name for one in found if one.run.display_name)
        losses[name], figures[name] = [], {}
        for one in found:
            if one.WhichOneof("record_type") == "history":
                item = {each.key or "/".join(each.nested_key): each.value_json for each in one.history.item}
                losses[name].append((item["_step"], float(item["train_loss"])))
            for each in one.summary.update:
                figures[name][each.key or "/".join(each.nested_key)] = each.value_json
    assert losses == {
        "pump window-pca": [],
        "pump autoencoder": [("1", 1.0), ("2", 0.5), ("3", pytest.approx(1 / 3))],
    }
    for each in figures.values():
        assert float(each["panel_found"]) == 0.5
        assert "rival.panel_found" not in each


def test_who_lacks_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(Misconfigured) as raised, wandb_watch(tmp_path, "pump"):
        pass
    assert "industrialmind[wandb]" in (raised.value.hint or "")


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="can't be written"), wandb_watch(tmp_path / "file", "pump"):
        pass
