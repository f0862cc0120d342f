"""The outbox as the agent uses it: one writer thread, group commit, no timer.

Whatever was asked while the last transaction was being written goes into the next one together: appends, cuts and
frees. So a lone reading is durable after one write to disk, and a thousand at once cost one write as well.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from edge.outbox_file import FrameRef, OutboxFile
from shared.clock import Clock
from shared.errors import Unavailable
from shared.packing import Item, Piece, pieces
from shared.ranges import Range

DEFAULT_MAX_BYTES: Final = 1024**3
MAX_BATCH: Final = 256  # commands a transaction
MAX_QUEUED: Final = 4096  # commands that may wait for the writer

T = TypeVar("T")
NewFrames = Callable[[list[FrameRef]], None]


@dataclass(frozen=True, slots=True)
class Usage:
    """Rows kept (waiting and framed), bytes used, and rows that were set aside because they were damaged."""

    rows: int
    bytes: int
    damaged: int


@dataclass(slots=True)
class _Command:
    work: Callable[[OutboxFile], Any]
    done: "asyncio.Future[Any]"
    alone: bool = False
    """Outside the transaction, after it."""
    result: Any = None
    error: Unavailable | None = None


class Outbox:
    """Rows that are durable here and not yet in the event log. Raises Unavailable where the disk fails or is full."""

    def __init__(self, file: OutboxFile) -> None:
        self._file = file
        self._queue: queue.Queue[_Command | None] = queue.Queue(MAX_QUEUED)
        self._loop = asyncio.get_running_loop()
        self._listener: NewFrames | None = None
        self._thread = threading.Thread(target=self._write, name="outbox")
        self._thread.start()

    def listen(self, listener: NewFrames) -> None:
        """Call `listener`, in the event loop, with frames as they are cut."""
        self._listener = listener

    async def append(self, items: Iterable[Item], state: Mapping[str, bytes] | None = None) -> int:
        """Return once the rows, and `state` with them, are durable; how many rows they were.

        Raises:
            Unavailable: The byte cap is reached or the disk fails. Nothing was kept: don't ack the device.
            Rejected: One row is too large for a frame.
        """
        arriving = pieces(items)
        await self._do(lambda file: _append(file, arriving, state), announce=True)
        return sum(piece.rows for piece in arriving)

    async def cut(self, *, partial: bool) -> list[FrameRef]:
        """Number and frame what waits; without `partial` only what fills a frame."""
        return await self._do(lambda file: file.cut(partial=partial), announce=True)

    async def free(self, ranges: Iterable[Range]) -> list[int]:
        """Merge ranges that the event log confirmed; the first rows of the frames that are now gone."""
        acked = tuple(ranges)
        return await self._do(lambda file: file.free(acked))

    async def data(self, first: int) -> bytes | None:
        """The bytes of a frame, None if it was freed, or damaged and set aside."""
        return await self._do(lambda file: file.data(first))

    async def state(self, key: str) -> bytes | None:
        """A state that `append` saved."""
        return await self._do(lambda file: file.state(key))

    async def frames(self) -> list[FrameRef]:
        """Every frame that is kept."""
        return await self._do(lambda file: file.frames())

    async def report(self) -> dict[str, Any]:
        """What the ledger is told; see `OutboxFile.report`."""
        return await self._do(lambda file: file.report())

    async def copy(self, path: Path) -> None:
        """Write the file as it is now, compact, to `path`. What is asked meanwhile waits: about 2 s a GB that it holds."""
        await self._do(lambda file: file.copy(path), alone=True)

    @property
    def epoch(self) -> bytes:
        """The 16 random bytes made with the file."""
        return self._file.epoch

    @property
    def set_aside(self) -> Path | None:
        """Where a damaged file was moved when this one was opened."""
        return self._file.set_aside

    async def usage(self) -> Usage:
        """What it holds now."""
        return await self._do(lambda file: Usage(file.kept_rows, file.used(), file.damaged_rows))

    async def close(self) -> None:
        """Write what is queued, then close the file."""
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._thread.join)

    async def _do(self, work: Callable[[OutboxFile], T], *, announce: bool = False, alone: bool = False) -> T:
        command = _Command(work, self._loop.create_future(), alone)
        try:
            self._queue.put_nowait(command)
        except queue.Full as error:
            raise Unavailable("the outbox's writer is behind", retry_after=0.1) from error
        result: T = await asyncio.shield(command.done)
        if announce and result and self._listener is not None:
            self._listener(result)  # type: ignore[arg-type]
        return result

    def _write(self) -> None:
        """The writer thread."""
        ended = False
        while not ended:
            batch = [self._queue.get()]
            while len(batch) < MAX_BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            ended = None in batch
            commands = [command for command in batch if command is not None and not command.alone]
            failure: BaseException | None = None
            try:
                with self._file.transaction():
                    for command in commands:
                        try:
                            command.result = command.work(self._file)
                        except Unavailable as error:  # raised before it wrote anything: the others go on
                            command.error = error
            except BaseException as error:  # noqa: BLE001 - whoever asked gets it; nothing of the batch was kept
                failure = error
            self._loop.call_soon_threadsafe(_answer, commands, failure)
            for each in batch:
                if each is not None and each.alone:
                    self._run_alone(each)
        self._file.close()

    def _run_alone(self, command: _Command) -> None:
        failure: BaseException | None = None
        try:
            command.result = command.work(self._file)
        except BaseException as error:  # noqa: BLE001 - whoever asked gets it
            failure = error
        self._loop.call_soon_threadsafe(_answer, [command], failure)


def _append(file: OutboxFile, arriving: list[Piece], state: Mapping[str, bytes] | None) -> list[FrameRef]:
    file.check_room(arriving)
    return file.append(arriving, state)


def _answer(commands: list[_Command], failure: BaseException | None) -> None:
    for command in commands:
        if command.done.done():
            continue
        error = failure or command.error
        if error is None:
            command.done.set_result(command.result)
        else:
            command.done.set_exception(error)


@asynccontextmanager
async def open_outbox(
    path: Path, *, site: str, edge: str, clock: Clock, max_bytes: int = DEFAULT_MAX_BYTES
) -> AsyncIterator[Outbox]:
    """Open or make the outbox at `path`.

    The byte cap is hard: when it is reached, appends raise Unavailable and device messages stay unacknowledged in
    their broker. Thinning old rows to aggregates instead (promise 2) comes with a later release.

    Raises:
        Misconfigured: The place can't be written, another process has the file, or a newer release wrote it.
    """
    file = await asyncio.to_thread(OutboxFile, path, site=site, edge=edge, max_bytes=max_bytes, clock=clock)
    outbox = Outbox(file)
    try:
        yield outbox
    finally:
        await outbox.close()
