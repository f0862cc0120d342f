"""Trying out what comes from elsewhere in a child with resource limits, before this process loads it.

A graph that crashes the runtime, or takes all memory or time, ends the child and nobody else. The child has no
environment and so no secrets, and may write no file.
"""

import importlib
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from shared.errors import Rejected, Unavailable

ADDRESS_BYTES: Final = 4 << 30
"""Address space of a child that is given no other."""
CPU_SECONDS: Final = 30
WALL_SECONDS: Final = 60.0
OPEN_FILES: Final = 256
_REFUSED: Final = 3
_SAID: Final = 2000
"""Exit code and longest word of a child whose input was refused."""
_FIRST_TO_GO: Final = "1000"
"""The largest `oom_score_adj`."""


def try_out(loader: Callable[[bytes], object], data: bytes, *, address_bytes: int = ADDRESS_BYTES) -> None:
    """Let a child call `loader`, a function of a module, with these bytes. Takes about a second.

    Raises:
        Rejected: The loader refused them, or the child died of them or of its limits.
        Unavailable: No child could be started.
    """
    name = f"{loader.__module__}:{loader.__name__}"
    command = [sys.executable, "-I", "-m", "shared.trial", name, str(address_bytes)]
    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            timeout=WALL_SECONDS,
            env={"OMP_NUM_THREADS": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Rejected(f"its trial took longer than {WALL_SECONDS:g} s") from error
    except OSError as error:
        raise Unavailable(f"no child for a trial could be started: {error}") from error
    if done.returncode == _REFUSED:
        raise Rejected(done.stdout.decode(errors="replace")[:_SAID])
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:300]
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise Rejected(f"its trial in a child of its own ended with {how}{f': {last}' if last else ''}")


def limit(address_bytes: int) -> None:
    """Take this process' resources away, for good, and be the first to go where the machine's memory runs out.

    A service that may not set limits (systemd's filter of system calls forbids it on some releases) tries without: it
    stands under its unit's own.
    """
    with suppress(OSError):  # a system with no such file
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
    for kind, most in (
        (resource.RLIMIT_AS, address_bytes),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(PermissionError):
            resource.setrlimit(kind, (wanted, wanted))


def main(name: str, address_bytes: str) -> int:
    """The child: load standard input by MODULE:FUNCTION."""
    limit(int(address_bytes))
    module, _, function = name.partition(":")
    loader = getattr(importlib.import_module(module), function)
    try:
        loader(sys.stdin.buffer.read())
    except Rejected as error:
        sys.stdout.write(error.reason)
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
