"""A process that reads the embedded store for another one: queries come in on standard input, a socket; answers go out on it.

    python -m cloud.telemetry.sqlite_worker PATH

It ends when its socket does, so it never outlives its owner. Both ends are one release's, of one user: they speak pickle.
"""

import pickle
import signal
import socket
import sqlite3
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from cloud.telemetry.sqlite_schema import connect_reader

HEAD: Final = struct.Struct("!Q")
"""Before each message: its bytes."""
HELLO: Final = b"ready"

P = ParamSpec("P")
T = TypeVar("T")


def in_one_state(
    db: sqlite3.Connection,
    call: Callable[Concatenate[sqlite3.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """A query that sees one state of the store, however many statements it has: its content may be replaced any time."""
    if db.in_transaction:
        return call(db, *args, **kwargs)
    db.execute("BEGIN")
    try:
        return call(db, *args, **kwargs)
    finally:
        db.execute("COMMIT")


def framed(message: bytes) -> bytes:
    """With its length before it."""
    return HEAD.pack(len(message)) + message


def serve(path: Path, channel: socket.socket) -> None:
    """Answer (function, arguments, named arguments) by (value, error), one after the other, until the other end is gone."""
    db = connect_reader(path)
    try:
        channel.sendall(framed(HELLO))
        with channel.makefile("rb") as queries:
            while len(head := queries.read(HEAD.size)) == HEAD.size:
                call, args, kwargs = pickle.loads(queries.read(*HEAD.unpack(head)))  # noqa: S301 - its owner's
                channel.sendall(framed(pickle.dumps(_answer(db, call, args, kwargs), 5)))
    except (BrokenPipeError, ConnectionResetError):
        pass  # nobody waits for the answer any more
    finally:
        db.close()


def _answer(
    db: sqlite3.Connection, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Exception | None]:
    try:
        return in_one_state(db, call, *args, **kwargs), None
    except Exception as error:  # noqa: BLE001 - it is raised where the query was asked
        return None, error


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the owner, which drains first
    serve(Path(sys.argv[1]), socket.socket(fileno=sys.stdin.fileno()))
