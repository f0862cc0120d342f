"""The gateway's event loop: uvloop's where it is installed (not on Windows), else asyncio's own."""

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop; None: asyncio's default."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - an extra that may be absent
    except ImportError:
        return None
    return new_event_loop
