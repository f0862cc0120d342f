"""A network's training that ends in between goes on from its checkpoint, to the same weights; rubbish is told of."""

import contextlib
import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from cloud.training import checkpoints
from cloud.training.checkpoints import FILES_MAX, SUFFIX, Checkpoints, State, pack, unpack
from cloud.training.learning import Learning
from cloud.training.run import Choice
from industrialmind.train_begun import RESUMED_US, Order, begun
from industrialmind.train_words import outcome
from shared.errors import Rejected

network = pytest.importorskip("cloud.training.torch.network")
convolution = pytest.importorskip("cloud.training.torch.convolution")
LEARNING = Learning(epochs=5, patience=5)
LONG = Learning(epochs=60, patience=60)
STATE = State({"a": np.arange(6.0).reshape(2, 3), "b": np.array(3, np.int64)}, {"x": [0.1, 2]})


class Killed(BaseException):
    """The process ends here."""


def examples(seed: int = 0) -> Any:  # noqa: ANN401 - of a module that need not be there
    random = np.random.default_rng(seed)
    cells = random.normal(size=(64, 3, 16)).astype(np.float32)
    return network.Examples(cells, np.ones_like(cells), random.normal(size=(64, 3, 2)).astype(np.float32))


def train(
    keep: Checkpoints | None = None,
    *,
    dies_after: int = 0,
    seed: int = 0,
    learning: Learning = LEARNING,
    data: int = 0,
) -> tuple[dict[str, bytes], Mapping[str, tuple[float, ...]], list[int]]:
    """Weights, curves and the epochs that were told of."""
    told: list[int] = []

    def epoch(number: int, _: Mapping[str, float]) -> None:
        told.append(number)
        if number == dies_after:
            raise Killed

    with network.repeatable():
        made, curves = network.train(convolution.DESIGN, examples(data), 2, seed, learning, epoch, keep)
    return {name: value.numpy().tobytes() for name, value in made.state_dict().items()}, curves, told


@pytest.mark.parametrize("dies_after", [1, 3, 5])
def test_a_training_that_ended_goes_on_to_the_same_weights(tmp_path: Path, dies_after: int) -> None:
    whole, curves, _ = train()
    with pytest.raises(Killed):
        train(Checkpoints(tmp_path), dies_after=dies_after)
    said: list[str] = []
    again = Checkpoints(tmp_path, said.append)
    weights, gone_on, told = train(again)
    assert weights == whole
    assert gone_on == curves
    assert told == list(range(dies_after + 1, 6))
    assert said == [f"goes on from its checkpoint after epoch {dies_after}"]
    again.done()
    assert not list(tmp_path.iterdir())


def test_one_that_stopped_early_is_not_trained_again(tmp_path: Path) -> None:
    learning = replace(LEARNING, patience=0, learning_rate=0.4)
    whole, curves, _ = train(learning=learning)
    assert len(curves["train_loss"]) < 5
    train(Checkpoints(tmp_path), learning=learning)
    weights, _, told = train(Checkpoints(tmp_path), learning=learning)
    assert (weights, told) == (whole, [])


def test_another_training_has_another_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(Checkpoints(tmp_path), dies_after=2)
    others: list[dict[str, Any]] = [
        {"seed": 1},
        {"data": 1},
        {"learning": replace(LEARNING, weight_decay=0.1)},
    ]
    for other in others:
        with pytest.raises(Killed):
            train(Checkpoints(tmp_path, pytest.fail), dies_after=1, **other)
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == 4


def facts_of(state: State, **other: object) -> State:
    return replace(state, facts={**state.facts, **other})


def without(state: State, name: str) -> State:
    return replace(state, arrays={key: value for key, value in state.arrays.items() if key != name})


SPOILT: dict[str, Any] = {
    "no bytes": lambda _: b"",
    "a flipped bit": lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:],
    "half of it": lambda data: data[: len(data) // 2],
    "another network": lambda data: pack(without(unpack(data), "best.narrow.weight")),
    "another shape": lambda data: pack(
        replace(unpack(data), arrays={**unpack(data).arrays, "network.narrow.weight": np.zeros((1, 1))})
    ),
    "no random numbers": lambda data: pack(
        replace(unpack(data), arrays={**unpack(data).arrays, "random": np.zeros(5056, np.uint8)})
    ),
    "objects": lambda data: pack(replace(unpack(data), arrays={"network.x": np.array(["a"])})),
    "no curves": lambda data: pack(facts_of(unpack(data), curves={})),
    "a loss that is no number": lambda data: pack(facts_of(unpack(data), lr=float("nan"))),
    "curves too long": lambda data: pack(
        facts_of(unpack(data), curves={name: [1.0] * 6 for name in unpack(data).facts["curves"]})
    ),
}


@pytest.fixture(scope="module")
def kept() -> tuple[str, bytes, dict[str, bytes]]:
    """Name and bytes of a checkpoint, and what the training comes to."""

    class Memory(Checkpoints):
        def save(self, key: str, state: State, /) -> None:
            saved[key] = pack(state)

    saved: dict[str, bytes] = {}
    with pytest.raises(Killed):
        train(Memory(Path("/nowhere")), dies_after=2)
    [(key, data)] = saved.items()
    return key, data, train()[0]


@pytest.mark.parametrize("how", SPOILT)
def test_rubbish_is_told_and_the_training_begun_anew(
    tmp_path: Path, kept: tuple[str, bytes, dict[str, bytes]], how: str
) -> None:
    key, data, whole = kept
    (tmp_path / f"{key}{SUFFIX}").write_bytes(SPOILT[how](data))
    said: list[str] = []
    weights, _, told = train(Checkpoints(tmp_path, said.append))
    assert told == [1, 2, 3, 4, 5]
    assert weights == whole
    assert len(said) == 1
    assert "can't be used, so it begins anew: " in said[0]


def test_a_pickle_in_a_checkpoint_is_not_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "opened",)

    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array([Evil()], dtype=object), allow_pickle=True)
    body = buffer.getvalue()
    with pytest.raises(Rejected, match="can't be read"):
        unpack(hashlib.sha256(body).digest() + body)
    assert not (tmp_path / "opened").exists()


def test_states_are_bounded_in_size_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = Checkpoints(tmp_path)
    (tmp_path / f"x{SUFFIX}.part").write_bytes(b"of a killed writer")
    for number in range(FILES_MAX + 3):
        keep.save(f"k{number:02}", STATE)
    assert len(list(tmp_path.iterdir())) == FILES_MAX
    loaded = keep.load("k10")
    assert loaded is not None
    assert loaded.facts == STATE.facts
    np.testing.assert_array_equal(loaded.arrays["a"], STATE.arrays["a"])
    said: list[str] = []
    monkeypatch.setattr(checkpoints, "BYTES_MAX", 100)
    full = Checkpoints(tmp_path, said.append)
    full.save("large", STATE)
    assert full.load("k10") is None
    assert ["goes on without" in said[0], "larger than 100" in said[1]] == [True, True]
    assert not (tmp_path / f"large{SUFFIX}").exists()


def test_where_nothing_can_be_written_a_training_goes_on_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    weights, _, _ = train(Checkpoints(tmp_path / "file" / "folder", said.append))
    assert weights == train()[0]
    assert all("no checkpoint could be written" in each or "can't be used" in each for each in said)
    assert len(said) == 6


def interrupted(folder: Path, order: Order, now_us: int) -> int:
    """The now that a run had which left a checkpoint and died."""
    since: list[int] = []
    with contextlib.suppress(Killed), begun(folder, order, now_us, lambda _: None) as run:
        since.append(run.now_us)
        run.keep.save("k", STATE)
        raise Killed
    return since[0]


ORDER = Order("pump-1", Choice(), "asked", "ab")


def test_a_run_that_died_is_begun_again_with_its_now(tmp_path: Path) -> None:
    told: list[Mapping[str, Any]] = []
    for order, now_us, since_us in [
        (ORDER, 1000, 1000),
        (ORDER, 1000 + RESUMED_US, 1000),
        (replace(ORDER, choice=Choice(seed=1)), 3000, 3000),
        (ORDER, 4000, 4000),  # the other order took its place
        (ORDER, 4001 + RESUMED_US, 4001 + RESUMED_US),
        (ORDER, 5, 5),  # a clock that went back
    ]:
        assert interrupted(tmp_path, order, now_us) == since_us
    (tmp_path / "pump-1.json").write_text("[]")
    with begun(tmp_path, ORDER, 77, told.append) as run:
        assert run.now_us == 77
        run.keep.resumed("k", 3)
        assert run.keep.load("k") is not None
    assert not list(tmp_path.iterdir())
    assert [outcome(event) for event in told] == ["pump-1: goes on from its checkpoint after epoch 3"]


def test_a_run_on_rows_that_won_t_do_leaves_nothing(tmp_path: Path) -> None:
    noted: list[bytes] = []
    with contextlib.suppress(Rejected), begun(tmp_path, ORDER, 1, lambda _: None):
        noted.append((tmp_path / "pump-1.json").read_bytes())
        raise Rejected("too few rows")
    assert orjson.loads(noted[0])["now_us"] == 1
    assert not list(tmp_path.iterdir())
