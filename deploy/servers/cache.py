"""The folder with what was installed: each thing made once, by one process, and seen only when it is whole."""

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.settings import servers_cache_dir


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The cache's folder `name` (with its version), filled by `make` the first time.

    Processes that ask at once wait for one that makes it. A making that fails or is killed leaves nothing that
    looks finished: the folder gets its name when `make` has returned.
    """
    root = servers_cache_dir()
    folder = root / name
    if folder.is_dir():
        return folder
    with locked(name):
        if folder.is_dir():
            return folder
        for left in root.glob(f".{name}-*"):
            shutil.rmtree(left, ignore_errors=True)  # of a making that was killed; we hold its lock now
        temporary = Path(tempfile.mkdtemp(dir=root, prefix=f".{name}-"))
        try:
            make(temporary)
            temporary.chmod(0o755)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache's lock `name`, alone among all processes; it goes with the process that holds it."""
    root = servers_cache_dir()
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
