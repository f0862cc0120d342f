"""Group commit: what waits while one flush runs is stored by the next, as one atomic batch (ADR-50)."""

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.errors import Conflict, IndustrialMindError, Rejected
from shared.nats.link import Link
from shared.nats.session import Message as Answer
from shared.nats.session import Session, Timeouts, answered

MAX_BATCH: Final = 1000
"""The server's limit of an atomic batch."""
_BATCH_BYTES: Final = 8 << 20
_HEADER_BYTES: Final = 256

_Outcome = int | IndustrialMindError


@dataclass(frozen=True, slots=True)
class Message:
    """One record on its way."""

    subject: str
    value: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Append:
    messages: Sequence[Message]
    done: "asyncio.Future[int]"

    @property
    def size(self) -> int:
        return sum(len(message.value) + _HEADER_BYTES for message in self.messages)


class Writer:
    """Stores the appends to one topic in the order they came."""

    def __init__(self, link: Link, timeouts: Timeouts) -> None:
        self._link = link
        self._timeouts = timeouts
        self._queue: deque[_Append] = deque()
        self._task: asyncio.Task[None] | None = None

    async def write(self, messages: Sequence[Message]) -> int:
        """Store `messages` in order; returns the last one's sequence. Raises Unavailable, Rejected.

        Cancelled, it may still be stored.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append(_Append(messages, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="log writer")
        return await done

    async def close(self) -> None:
        """Give up what is not confirmed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        taken: list[_Append] = []
        try:
            while self._queue:
                taken = self._take()
                await self._store(taken)
        finally:
            for append in (*taken, *self._queue):
                append.done.cancel()  # those that are done stay done

    def _take(self) -> list[_Append]:
        taken = [self._queue.popleft()]
        records, size = len(taken[0].messages), taken[0].size
        while self._queue:
            records += len(self._queue[0].messages)
            size += self._queue[0].size
            if records > MAX_BATCH or size > _BATCH_BYTES:
                break
            taken.append(self._queue.popleft())
        return taken

    async def _store(self, appends: list[_Append]) -> None:
        messages = [message for append in appends for message in append.messages]
        try:
            outcomes = await _store_all(self._link.session(), messages, self._timeouts.produce)
        except IndustrialMindError as error:
            outcomes = [error] * len(messages)
        at = 0
        for append in appends:
            own = outcomes[at : at + len(append.messages)]
            at += len(append.messages)
            refused = next((outcome for outcome in own if isinstance(outcome, IndustrialMindError)), None)
            if append.done.done():
                continue  # its caller was cancelled
            if refused is not None:
                append.done.set_exception(refused)
            else:
                append.done.set_result(max(outcome for outcome in own if isinstance(outcome, int)))


async def _store_all(session: Session, messages: Sequence[Message], wait: float) -> list[_Outcome]:
    try:
        return [s for part in _parts(messages) for s in await _batch(session, part, {}, wait)]
    except Conflict:
        # One of them was sent before (its id is known), which refuses its whole batch. One by one the server
        # drops just those, and answers with the place of the first.
        asked = [await session.ask(m.subject, m.value, headers=dict(m.headers)) for m in messages]
        return [await _outcome(session, answer, wait) for answer in asked]


async def _outcome(session: Session, answer: "asyncio.Future[Answer]", wait: float) -> _Outcome:
    try:
        return session.stored(await answered(answer, wait, "store"), "store")
    except IndustrialMindError as error:
        return error


async def write_fenced(link: Link, messages: Sequence[Message], last: int, timeouts: Timeouts) -> int:
    """Store all or none, only if the stream's last sequence is `last`. Raises Conflict, Unavailable, Rejected.

    The whole stream is the topic, so its last sequence is the fence; unlike the last one of a subject it stays
    right when retention has removed every record.
    """
    if len(messages) > MAX_BATCH:
        raise Rejected(
            f"{len(messages)} records in one fenced append; at most {MAX_BATCH} are stored all or none"
        )
    session = link.session()
    sequences = await _batch(session, messages, {"Nats-Expected-Last-Sequence": str(last)}, timeouts.produce)
    return sequences[-1]


def _parts(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """Batches within the server's limits."""
    parts: list[Sequence[Message]] = []
    start = size = 0
    for at, message in enumerate(messages):
        more = len(message.value) + _HEADER_BYTES
        if at > start and (at - start >= MAX_BATCH or size + more > _BATCH_BYTES):
            parts.append(messages[start:at])
            start, size = at, 0
        size += more
    parts.append(messages[start:])
    return parts


async def _batch(
    session: Session, messages: Sequence[Message], first: dict[str, str], wait: float
) -> list[int]:
    if len(messages) == 1:
        only = messages[0]
        return [await session.store(only.subject, only.value, headers={**only.headers, **first}, wait=wait)]
    batch = secrets.token_hex(12)
    for number, message in enumerate(messages[:-1], start=1):
        headers = {**message.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        await session.publish(
            message.subject, message.value, headers=headers | (first if number == 1 else {})
        )
    final = messages[-1]
    headers = {
        **final.headers,
        "Nats-Batch-Id": batch,
        "Nats-Batch-Sequence": str(len(messages)),
        "Nats-Batch-Commit": "1",
    }
    last = await session.store(final.subject, final.value, headers=headers, wait=wait)
    return list(range(last - len(messages) + 1, last + 1))
