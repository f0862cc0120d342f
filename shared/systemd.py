"""Telling systemd how a service is (sd_notify): a datagram to the socket that it names. Elsewhere nothing happens."""

import asyncio
import socket
from collections.abc import Callable

import structlog

from shared.service import wait_or_stop
from shared.settings import notify_socket, watchdog_seconds

log = structlog.get_logger()


def notify(*lines: str) -> None:
    """Send `READY=1` and the like. A socket that is not there is logged: systemd will judge by its time-outs."""
    name = notify_socket()
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name  # @: Linux's abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.connect(address)
            to.sendall("\n".join(lines).encode())
    except OSError as error:
        log.warning("systemd can't be told", lines=lines, why=str(error))


async def keep_watchdog(stop: asyncio.Event, status: Callable[[], str]) -> None:
    """Say that we are ready, then at a third of the watchdog's time that we live, until `stop`; then that we end.

    It runs on the event loop that everything else runs on: when that hangs, nothing is said and systemd restarts us. A disk or a
    broker that hangs is no reason to: a restart would not mend them.
    """
    notify("READY=1", f"STATUS={status()}")
    every = watchdog_seconds()
    while not await wait_or_stop(stop, 3600.0 if every is None else every / 3):
        notify("WATCHDOG=1", f"STATUS={status()}")
    notify("STOPPING=1")
