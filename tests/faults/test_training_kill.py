"""A network's training is killed by `kill -9`, and goes on in another process."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.training.checkpoints import SUFFIX, Checkpoints
from tests.parts import ROOT
from tests.unit import test_checkpoints as parts

pytestmark = pytest.mark.real
CHILD = """
import sys
from pathlib import Path
from cloud.training.checkpoints import Checkpoints
from tests.unit import test_checkpoints as parts

class Told(Checkpoints):
    def save(self, key, state, /):
        super().save(key, state)
        print(len(state.facts["curves"]["train_loss"]), flush=True)

parts.train(Told(Path(sys.argv[1])), learning=parts.LONG)
"""


def test_what_was_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "20":
                break
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == 1
    said: list[str] = []
    weights, curves, told = parts.train(Checkpoints(tmp_path, said.append), learning=parts.LONG)
    assert told[0] > 20
    assert said == [f"goes on from its checkpoint after epoch {told[0] - 1}"]
    whole, unbroken, _ = parts.train(learning=parts.LONG)
    assert (weights, curves) == (whole, unbroken)
