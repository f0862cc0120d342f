"""Processes that read the embedded store for this one.

SQLite's driver gives Python's interpreter lock up and takes it back for each row. In a thread beside a busy event loop
every one of these is a wait, which costs a query several times its own work; in a process of its own none is.
"""

import asyncio
import pickle
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import structlog

from cloud.telemetry.sqlite_worker import HEAD, HELLO, framed
from shared.errors import Unavailable

log = structlog.get_logger()

AGAIN_SECONDS: Final = 1.0
"""Between a process's end and the next one's start."""

MOST_WAITING: Final = 1000
"""Queries in line; one more is refused."""

Answer = asyncio.Future[Any]


class NoReader(Exception):  # noqa: N818 - named by what the caller meets
    """No process is up, or the one that was asked has ended: ask somebody else, a query changes nothing."""


class Readers:
    """Each process answers one query at a time; whatever finds none of them idle waits in line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[_Process] = []
        self._up: set[_Process] = set()
        self._line: deque[tuple[bytes, Answer]] = deque()

    async def ask(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the query's own
        """What a module's function of a connection returns or raises there. Raises NoReader, Unavailable (too many ask)."""
        if not self._up:
            raise NoReader
        if len(self._line) >= MOST_WAITING:
            raise Unavailable(f"{MOST_WAITING} queries wait for the store already: ask again later")
        message = framed(pickle.dumps((call, args, kwargs), 5))
        answer: Answer = asyncio.get_running_loop().create_future()
        if self._idle:
            self._idle.pop().ask(message, answer)
        else:
            self._line.append((message, answer))
        value, error = await answer
        if error is not None:
            raise error
        return value

    async def keep(self) -> None:
        """Have a process, and another one after it, until cancelled."""
        while True:
            await self._one()
            log.warning("a process that reads the store ended, another one follows")
            await asyncio.sleep(AGAIN_SECONDS)

    async def _one(self) -> None:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                command = (sys.executable, "-m", "cloud.telemetry.sqlite_worker", str(self._path))
                child = await asyncio.create_subprocess_exec(*command, stdin=theirs.fileno())
            try:
                loop = asyncio.get_running_loop()
                transport, process = await loop.create_unix_connection(
                    lambda: _Process(self), sock=ours.dup()
                )
                try:
                    await process.gone
                finally:
                    transport.close()
            finally:
                with suppress(ProcessLookupError):
                    child.terminate()  # a long query has nobody left to answer
                await child.wait()

    def free(self, process: "_Process") -> None:
        """It is up, and idle: the next query in line is its."""
        self._up.add(process)
        while self._line:
            message, answer = self._line.popleft()
            if not answer.done():
                process.ask(message, answer)
                return
        self._idle.append(process)

    def lose(self, process: "_Process") -> None:
        """It is up no more."""
        self._up.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        while self._line and not self._up:
            _, answer = self._line.popleft()
            if not answer.done():
                answer.set_exception(NoReader())


class _Process(asyncio.Protocol):
    """This side of a process's socket."""

    def __init__(self, readers: Readers) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers = readers
        self._buffer = bytearray()
        self._answer: Answer | None = None
        self._transport: Any = None

    def ask(self, message: bytes, answer: Answer) -> None:
        self._answer = answer
        self._transport.write(message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < HEAD.size:
            return
        end = HEAD.size + HEAD.unpack_from(self._buffer)[0]
        if len(self._buffer) < end:
            return
        message = bytes(memoryview(self._buffer)[HEAD.size : end])
        self._buffer.clear()  # one query, one answer: nothing follows it
        answer, self._answer = self._answer, None
        if message != HELLO and answer is not None and not answer.done():
            answer.set_result(pickle.loads(message))  # noqa: S301 - our own child's
        self._readers.free(self)

    def connection_lost(self, _: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoReader())
        self._readers.lose(self)
        if not self.gone.done():
            self.gone.set_result(None)


@asynccontextmanager
async def reader_processes(path: Path, count: int) -> AsyncIterator[Readers]:
    """So many processes over the file, on their way up when this returns and ended when the block is."""
    readers = Readers(path)
    keeping = [asyncio.create_task(readers.keep(), name="store reader") for _ in range(count)]
    try:
        yield readers
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
