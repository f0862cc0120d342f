"""Trials in a child of its own: what is refused there, what it dies of, and what it may not do."""

import os
import signal
from pathlib import Path

import pytest

from shared import trial
from shared.errors import Rejected


def accept(data: bytes) -> None:
    assert data == b"good"


def refuse(data: bytes) -> None:
    raise Rejected(f"not {data.decode()}")


def crash(_data: bytes) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def eat(_data: bytes) -> None:
    held = bytearray(trial.ADDRESS_BYTES)
    assert held


def write(data: bytes) -> None:
    with Path(data.decode()).open("w", encoding="utf-8") as file:
        file.write("a secret")


def look(_data: bytes) -> None:
    assert Path("/proc/self/oom_score_adj").read_text(encoding="ascii") == "1000\n"
    assert not {name for name in os.environ if name.startswith(("IM_", "PYTHON"))}


def test_a_child_says_yes_or_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IM_SECRET", "x")
    trial.try_out(accept, b"good")
    trial.try_out(look, b"")
    with pytest.raises(Rejected, match=r"^not this$"):
        trial.try_out(refuse, b"this")
    with pytest.raises(Rejected, match="signal 11"):
        trial.try_out(crash, b"")
    with pytest.raises(Rejected, match="MemoryError"):
        trial.try_out(eat, b"")
    kept = tmp_path / "kept"
    with pytest.raises(Rejected, match=r"signal 25|File too large"):
        trial.try_out(write, str(kept).encode())
    assert kept.read_bytes() == b""
