"""One connection to nats-server: requests with many answers in flight, JetStream's JSON API, direct reads."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.errors import Misconfigured, NotFound, Unavailable
from shared.nats.errors import raise_api_error, translated

T = TypeVar("T")
Message = Msg
"""A message as the driver gives it: `subject`, `reply`, `data`, `headers`."""

_NO_RESPONDERS = "503"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Every wait on nats-server, in seconds."""

    connect: float = 5.0
    request: float = 5.0
    produce: float = 30.0
    backoff_first: float = 0.1
    backoff_cap: float = 5.0


@dataclass(frozen=True, slots=True)
class Page:
    """Messages of a direct get, and how many more of the stream match beyond them."""

    messages: list[Msg]
    pending: int


class Session:
    """One connection from its making to its loss. When it is lost, everything waiting on it raises Unavailable."""

    def __init__(self, client: Client, user: str, inbox: str, timeouts: Timeouts) -> None:
        self.lost = asyncio.Event()
        self.timeouts = timeouts
        self.inbox = inbox
        self._client = client
        self._user = user
        self._next = 0
        self._waiting: dict[str, tuple[str, Callable[[Msg], None], asyncio.Future[Any]]] = {}
        self._flushing: set[asyncio.Task[None]] = set()

    @property
    def max_payload(self) -> int:
        """The largest message, in bytes, that the server takes."""
        return self._client.max_payload

    async def start(self) -> None:
        """Listen for replies. Called once, before anything is asked."""
        await self.subscribe(f"{self.inbox}.*", self._on_reply)

    async def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Hand a message to the socket. Raises Unavailable, Rejected (subject, header or size)."""
        try:
            await self._client.publish(subject, data, reply=reply, headers=headers)
        except (nats.errors.Error, OSError) as error:
            raise translated(error, f"publish to {subject}") from error

    async def subscribe(self, subject: str, handle: Callable[[Msg], None]) -> Callable[[], Awaitable[None]]:
        """Call `handle` for each message; returns what ends the subscription."""

        async def on_message(message: Msg) -> None:
            handle(message)

        try:
            subscription = await self._client.subscribe(subject, cb=on_message)
        except (nats.errors.Error, OSError) as error:
            raise translated(error, f"subscribe to {subject}") from error

        async def end() -> None:
            with suppress(nats.errors.Error, OSError):  # lost with the connection: ended already
                await subscription.unsubscribe()

        return end

    def check(self) -> None:
        """Raises Unavailable if the connection was lost."""
        if self.lost.is_set():
            raise Unavailable("the connection to nats-server was lost")

    async def flush(self) -> None:
        """Return once the server has handled all that was sent. Raises Unavailable.

        It goes on when its caller is cancelled: nats-py gives the connection up when a PONG has nobody who waits for it.
        """
        flushing = asyncio.create_task(self._client.flush(timeout=max(1, round(self.timeouts.request))))
        self._flushing.add(flushing)
        flushing.add_done_callback(self._flushed)
        try:
            await asyncio.shield(flushing)
        except (nats.errors.Error, OSError) as error:
            raise translated(error, "flush") from error

    def _flushed(self, task: "asyncio.Task[None]") -> None:
        self._flushing.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone

    async def ask(
        self, subject: str, data: bytes = b"", *, headers: dict[str, str] | None = None
    ) -> "asyncio.Future[Msg]":
        """Send a request and return its answer to come, so that many may be in flight."""
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def take(message: Msg) -> None:
            if _header(message, "Status") == _NO_RESPONDERS and not message.data:
                answer.set_exception(Unavailable(f"{subject}: nobody answers there"))
            else:
                answer.set_result(message)

        await self.publish(subject, data, reply=self._expect(subject, take, answer), headers=headers)
        return answer

    async def request(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        wait: float | None = None,
    ) -> Msg:
        """Ask and wait at most `wait` seconds (default: the request time-out). Raises Unavailable."""
        return await answered(
            await self.ask(subject, data, headers=headers), wait or self.timeouts.request, subject
        )

    async def store(
        self, subject: str, data: bytes, *, headers: dict[str, str] | None = None, wait: float | None = None
    ) -> int:
        """Publish into a stream; returns the sequence once it is durable. Raises Unavailable, Conflict, Rejected."""
        message = await self.request(subject, data, headers=headers, wait=wait)
        return self.stored(message, f"store {subject}")

    @staticmethod
    def stored(answer: Msg, doing: str) -> int:
        """The sequence in a stream's confirmation. Raises Unavailable (full), Conflict, Rejected (too large)."""
        return int(_body(answer, doing)["seq"])

    async def api(self, what: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call `$JS.API.{what}`. Raises Unavailable, NotFound, Conflict, Rejected."""
        message = await self.request(f"$JS.API.{what}", orjson.dumps(body) if body is not None else b"")
        return _body(message, what)

    async def page(self, stream: str, query: Mapping[str, Any]) -> Page:
        """A batch of stored messages by direct get (a page of 16 MiB at most). Raises Unavailable, NotFound (no such stream)."""
        found: list[Msg] = []
        done: asyncio.Future[Page] = asyncio.get_running_loop().create_future()
        subject = f"$JS.API.DIRECT.GET.{stream}"

        def take(message: Msg) -> None:
            match _header(message, "Status") if not message.data else "":
                case "":
                    found.append(message)
                case "204" | "404":  # end of batch; nothing matches
                    done.set_result(Page(found, int(_header(message, "Nats-Num-Pending") or 0)))
                case "503":
                    done.set_exception(Unavailable(f"{stream}: nobody answers there"))
                case status:
                    done.set_exception(Unavailable(f"{stream}: direct get failed with {status}"))

        body = orjson.dumps({"max_bytes": 16 << 20, **query})
        await self.publish(subject, body, reply=self._expect(subject, take, done))
        return await answered(done, self.timeouts.request, subject)

    def _expect(self, subject: str, take: Callable[[Msg], None], future: "asyncio.Future[Any]") -> str:
        token = str(self._next)
        self._next += 1
        self._waiting[token] = (subject, take, future)
        future.add_done_callback(lambda _: self._waiting.pop(token, None))
        return f"{self.inbox}.{token}"

    def _on_reply(self, message: Msg) -> None:
        waiter = self._waiting.get(message.subject.rpartition(".")[2])
        if waiter is not None and not waiter[2].done():
            waiter[1](message)

    def deny(self, subject: str) -> None:
        """The server refused `subject`: fail what waits on it now instead of at its time-out."""
        for asked, _, future in list(self._waiting.values()):
            if asked.lower() == subject.lower() and not future.done():  # the driver reports in lower case
                future.set_exception(
                    Misconfigured(
                        f"user {self._user!r} may not publish to {asked!r}",
                        hint="use an account with that right (permissions in nats.conf)",
                    )
                )

    async def close(self) -> None:
        """Fail everything that still waits and close the socket."""
        self.lost.set()
        for subject, _, future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(Unavailable(f"{subject}: the connection was lost"))
                future.exception()  # some have no reader any more
        await self._client.close()
        for task in list(self._flushing):
            task.cancel()


async def answered(future: "asyncio.Future[T]", wait: float, doing: str) -> T:
    """Await one answer at most `wait` seconds. Raises Unavailable."""
    try:
        async with asyncio.timeout(wait):
            return await future
    except TimeoutError as error:
        raise Unavailable(f"{doing}: no answer within {wait:g} s") from error


async def first_of(seconds: float, *events: asyncio.Event) -> None:
    """Return when one of the events is set, or after `seconds`."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def stamp_us(message: Msg) -> int:
    """When the server stored a directly read message, in µs since 1970 UTC."""
    text = _header(message, "Nats-Time-Stamp").removesuffix("Z")
    whole, _, fraction = text.partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000_000 + int(fraction[:6].ljust(6, "0"))


def sequence(message: Msg) -> int:
    """The stream sequence of a directly read or republished message."""
    return int(_header(message, "Nats-Sequence") or 0)


def _header(message: Msg, name: str) -> str:
    return (message.headers or {}).get(name, "") or ""


def _body(message: Msg, doing: str) -> dict[str, Any]:
    try:
        body: dict[str, Any] = orjson.loads(message.data)
    except orjson.JSONDecodeError as error:
        raise Unavailable(f"{doing}: an answer that is not JSON") from error
    if "error" in body:
        raise_api_error(body["error"], doing)
    return body


async def ensure_stream(session: Session, config: Mapping[str, Any]) -> None:
    """Create the stream, or update it in place. For the admin. Raises Unavailable (no room), Rejected."""
    full = {"storage": "file", "retention": "limits", "num_replicas": 1, **config}
    try:
        await session.api(f"STREAM.INFO.{config['name']}")
    except NotFound:
        await session.api(f"STREAM.CREATE.{config['name']}", full)
    else:
        await session.api(f"STREAM.UPDATE.{config['name']}", full)
