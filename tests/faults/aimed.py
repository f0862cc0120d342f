"""A child's own end in the middle of something: SIGKILL, which leaves nobody time for anything."""

import os
import random
import signal
import threading
from typing import Any

LONGEST_S = 0.01


def die_in(owner: Any, name: str, rng: random.Random, calls: int) -> None:  # noqa: ANN401 - any object's method
    """Let one of the first `calls` calls of this method be the last: a thread kills the process a moment after it began."""
    inner, left = getattr(owner, name), rng.randrange(calls)
    after = rng.uniform(0, LONGEST_S)

    def watched(*args: Any, **more: Any) -> Any:  # noqa: ANN401 - as the method has them
        nonlocal left
        if left == 0:
            os.write(1, b"aimed at " + name.encode() + b"\n")
            threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
        left -= 1
        return inner(*args, **more)

    setattr(owner, name, watched)
