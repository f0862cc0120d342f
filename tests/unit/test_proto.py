"""The committed protobuf module is what its source generates."""

import difflib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_generated_modules_are_those_committed(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="the protobuf compiler comes with the dev extra")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{ROOT}",
            f"--python_out={tmp_path}",
            f"--pyi_out={tmp_path}",
            "shared/frame.proto",
            "shared/sparkplug/sparkplug_b.proto",
        ],
        check=True,
        cwd=ROOT,
    )
    for name in (
        f"{each}{end}" for each in ("frame_pb2", "sparkplug/sparkplug_b_pb2") for end in (".py", ".pyi")
    ):
        made = (tmp_path / "shared" / name).read_text(encoding="utf-8")
        committed = (ROOT / "shared" / name).read_text(encoding="utf-8")
        difference = "\n".join(difflib.unified_diff(committed.splitlines(), made.splitlines(), lineterm=""))
        assert not difference, f"run `make proto` and commit {name}:\n{difference}"
