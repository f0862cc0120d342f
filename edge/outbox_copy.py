"""A copy of the outbox on request, by its own process, which alone may open the file.

Whoever may write into the edge's folder asks by a file that holds a name; the copy, whole, then lies beside the
outbox under that name. Nothing else is touched.
"""

from pathlib import Path
from typing import Final

import structlog

from edge.outbox import Outbox
from shared.clock import Clock
from shared.errors import Unavailable

log = structlog.get_logger()

COPIES: Final = ".copy"
"""What request and copies have in their names."""
_LOOK_SECONDS: Final = 0.25
_NAME: Final = 64


def request_of(outbox: Path) -> Path:
    """The file that asks for a copy."""
    return outbox.with_name(f"{outbox.name}{COPIES}-wanted")


def answer_of(outbox: Path, name: str) -> Path:
    """Where the copy lies once it is whole."""
    return outbox.with_name(f"{outbox.name}{COPIES}-{name}")


async def copy_on_request(outbox: Outbox, path: Path, clock: Clock) -> None:
    """For ever: make the copy that is asked for, once a name."""
    done = ""
    while True:
        name = _asked(path)
        if name and name != done:
            made = path.with_name(f"{path.name}{COPIES}.new")
            try:
                await outbox.copy(made)
                made.rename(answer_of(path, name))
            except (Unavailable, OSError) as error:
                log.warning("the outbox can't be copied", why=str(error))
            else:
                done = name
        await clock.sleep(_LOOK_SECONDS)


def _asked(path: Path) -> str:
    """The name asked for; empty for none, and for what is no name."""
    try:
        with request_of(path).open(encoding="ascii") as file:
            name = file.read(_NAME)
    except (OSError, UnicodeDecodeError):
        return ""
    return name if name.isalnum() else ""
