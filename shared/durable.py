"""Replacing a file so that, whatever happens, the old or the new one is there, whole."""

import os
from pathlib import Path
from typing import Final

PART: Final = ".part"
"""Ends the name of a file that is being written; one that is left over from a killed process is no use."""


def replace(path: Path, data: bytes) -> None:
    """Write the file by rename, durable when this returns. Raises OSError."""
    temporary = path.with_name(path.name + PART)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
