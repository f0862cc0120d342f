"""The outbox as the agent uses it: one writer thread, group commit, no timer.

Whatever was asked while the last transaction was being written goes into the next one together: appends, cuts and
frees. So a lone reading is durable after one write to disk, and a thousand at once cost one write as well. An outbox
that gets full is thinned beside that, a step at a time, whenever nothing is asked.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from edge.outbox_file import OutboxFile
from edge.outbox_frames import FrameRef, Level
from edge.outbox_spans import Span, anomaly_windows
from edge.outbox_thin import Thinned
from shared.clock import MICROSECONDS, Clock
from shared.errors import Unavailable
from shared.packing import Item, Piece, pieces
from shared.ranges import Range

DEFAULT_MAX_BYTES: Final = 1024**3
MAX_BATCH: Final = 256  # commands a transaction
STEPS_BEFORE: Final = 4  # of thinning, before each transaction of a full outbox
MAX_QUEUED: Final = 4096  # commands that may wait for the writer

T = TypeVar("T")
ANOMALY_SECONDS: Final = 120.0
NewFrames = Callable[[list[FrameRef]], None]
Replaced = Callable[[list[int], list[FrameRef]], None]


@dataclass(frozen=True, slots=True)
class Usage:
    """Rows kept (waiting and framed), bytes used of the most, rows that were set aside because they were damaged.

    `thinned` readings in all became aggregates, `thinned_held` of them although they were around an anomaly. `levels`:
    the bytes of frames that thinning may still take, and of what it made.
    """

    rows: int
    bytes: int
    damaged: int
    max_bytes: int
    thinned: int
    thinned_held: int
    levels: Mapping[Level, int]


@dataclass(slots=True)
class _Command:
    work: Callable[[OutboxFile], Any]
    done: "asyncio.Future[Any]"
    alone: bool = False
    """Outside the transaction, after it."""
    unwritten: Callable[[OutboxFile], Any] | None = None
    """What answers instead, outside of a transaction, where the disk refuses writes."""
    result: Any = None
    error: Unavailable | None = None


class Outbox:
    """Rows that are durable here and not yet in the event log. Raises Unavailable where the disk fails or is full."""

    def __init__(self, file: OutboxFile, max_bytes: int, anomaly_seconds: float = ANOMALY_SECONDS) -> None:
        self._file, self._max_bytes = file, max_bytes
        self._margin_us = round(anomaly_seconds * MICROSECONDS)
        self.trouble = ""
        """Why the disk takes nothing, by the last attempt; empty when it does."""
        self._queue: queue.Queue[_Command | None] = queue.Queue(MAX_QUEUED)
        self._loop = asyncio.get_running_loop()
        self._listener: NewFrames | None = None
        self._replaced: Replaced | None = None
        self._thread = threading.Thread(target=self._write, name="outbox")
        self._thread.start()

    def listen(self, listener: NewFrames, replaced: Replaced | None = None) -> None:
        """Call `listener`, in the event loop, with frames as they are cut.

        And `replaced` with the first rows of frames that thinning took away and with the frames that it made.
        """
        self._listener, self._replaced = listener, replaced

    async def append(self, items: Iterable[Item], state: Mapping[str, bytes] | None = None) -> int:
        """Return once the rows, and `state` with them, are durable; how many rows they were.

        Raises:
            Unavailable: The byte cap is reached and nothing is left to thin, or the disk fails. Nothing was kept: don't
                ack the device.
            Rejected: One row is too large for a frame.
        """
        kept = tuple(items)
        arriving = pieces(kept)
        windows = anomaly_windows(kept, self._margin_us)
        await self._do(lambda file: _append(file, arriving, state, windows), announce=True)
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
        return await self._do(lambda file: file.data(first), unwritten=lambda file: file.data_unnoted(first))

    async def state(self, key: str) -> bytes | None:
        """A state that `append` saved."""
        return await self._read(lambda file: file.state(key))

    async def frames(self) -> list[FrameRef]:
        """Every frame that is kept."""
        return await self._read(lambda file: file.frames())

    async def report(self) -> dict[str, Any]:
        """What the ledger is told; see `OutboxFile.report`."""
        return await self._read(lambda file: file.report())

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
        return await self._read(
            lambda file: Usage(
                file.kept_rows,
                file.used(),
                file.damaged_rows,
                self._max_bytes,
                file.thinned,
                file.thinned_held,
                file.sizes,
            )
        )

    async def close(self) -> None:
        """Write what is queued, then close the file."""
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._thread.join)

    async def _read(self, work: Callable[[OutboxFile], T]) -> T:
        """Ask what needs no write, whatever the disk does."""
        return await self._do(work, unwritten=work)

    async def _do(
        self,
        work: Callable[[OutboxFile], T],
        *,
        announce: bool = False,
        alone: bool = False,
        unwritten: Callable[[OutboxFile], T] | None = None,
    ) -> T:
        command = _Command(work, self._loop.create_future(), alone, unwritten)
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
            for _ in range(
                STEPS_BEFORE
            ):  # by themselves: in the appends' transaction they would swell the journal
                if not self._thin():
                    break
            self._together([command for command in batch if command is not None and not command.alone])
            for each in batch:
                if each is not None and each.alone:
                    self._run_alone(each)
            while not ended and self._queue.empty() and self._thin():
                pass
        self._file.close()

    def _together(self, commands: list[_Command]) -> None:
        """One transaction for all of them."""
        failure: BaseException | None = None
        before = self._file.written
        try:
            with self._file.transaction():
                for command in commands:
                    try:
                        command.result = command.work(self._file)
                    except Unavailable as error:  # raised before it wrote anything: the others go on
                        command.error = error
        except BaseException as error:  # noqa: BLE001 - whoever asked gets it; nothing of the batch was kept
            failure = error
        unwritten: list[_Command] = []
        if isinstance(failure, Unavailable):
            self.trouble = str(failure)
            unwritten = [command for command in commands if command.unwritten is not None]
            commands = [command for command in commands if command.unwritten is None]
        elif self._file.written != before:
            self.trouble = ""
        self._loop.call_soon_threadsafe(self._answer, commands, failure, self._file.take_changes())
        for command in unwritten:
            command.work, command.error = command.unwritten or command.work, None
            self._run_alone(command)

    def _thin(self) -> bool:
        """One step, in a transaction of its own, if there is need; False if not, or if the disk refuses it."""
        if not self._file.wants_thinning():
            return False
        try:
            with self._file.transaction():
                more = self._file.thin()
        except Unavailable as error:
            self.trouble = str(error)
            return False
        self._loop.call_soon_threadsafe(self._answer, [], None, self._file.take_changes())
        return more

    def _answer(self, commands: list[_Command], failure: BaseException | None, changes: Thinned) -> None:
        """In the event loop: what was replaced first, then what each command came to."""
        if (changes.gone or changes.made) and self._replaced is not None:
            self._replaced(changes.gone, changes.made)
        for command in commands:
            error = failure or command.error
            if command.done.done():
                continue
            if error is None:
                command.done.set_result(command.result)
            else:
                command.done.set_exception(error)
                command.done.exception()  # looked at: whoever asked may have gone

    def _run_alone(self, command: _Command) -> None:
        failure: BaseException | None = None
        try:
            command.result = command.work(self._file)
        except BaseException as error:  # noqa: BLE001 - whoever asked gets it
            failure = error
        self._loop.call_soon_threadsafe(self._answer, [command], failure, Thinned())


def _append(
    file: OutboxFile, arriving: list[Piece], state: Mapping[str, bytes] | None, windows: list[Span]
) -> list[FrameRef]:
    file.make_room(arriving)
    file.protect(windows)
    return file.append(arriving, state)


@asynccontextmanager
async def open_outbox(
    path: Path,
    *,
    site: str,
    edge: str,
    clock: Clock,
    max_bytes: int = DEFAULT_MAX_BYTES,
    anomaly_seconds: float = ANOMALY_SECONDS,
) -> AsyncIterator[Outbox]:
    """Open or make the outbox at `path`.

    The byte cap is hard. Near it the oldest readings become 10 s and then 1 min aggregates, those within
    `anomaly_seconds` of an anomaly last (ADR 26). When nothing is left to thin, appends raise Unavailable and device
    messages stay unacknowledged in their broker.

    Raises:
        Misconfigured: The place can't be written, another process has the file, or a newer release wrote it.
    """
    file = await asyncio.to_thread(OutboxFile, path, site=site, edge=edge, max_bytes=max_bytes, clock=clock)
    outbox = Outbox(file, max_bytes, anomaly_seconds)
    try:
        yield outbox
    finally:
        await outbox.close()
