"""`industrialmind dlq`: from the running plant over HTTP; to look only, from a stopped plant's files."""

import asyncio
import base64
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from rich.console import Console

from cloud.deadletters.logic import Place
from industrialmind.client import Client
from industrialmind.plant import DataDir
from shared.clock import MICROSECONDS, SystemClock
from shared.errors import Conflict, Misconfigured, NotFound, Rejected
from shared.settings import no_color

PATH: Final = "/v1/dead-letters"
_PAGE: Final = 500
"""Letters asked for at once; the API gives no more."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters: the options of `dlq list`, as they were given."""

    reason: str = ""
    topic: str = ""
    source: str = ""
    since: str = ""
    all: bool = False

    def __bool__(self) -> bool:
        return bool(self.reason or self.topic or self.source or self.since)


class Reader(Protocol):
    """Where letters are read from; the answers are those of the data API."""

    async def page(self, choice: Choice, before: str, limit: int) -> Mapping[str, Any]:
        """A page of the list."""
        ...

    async def letter(self, letter: str) -> Mapping[str, Any]:
        """One letter in full."""
        ...


class OverHttp:
    """From the running plant."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def page(self, choice: Choice, before: str, limit: int) -> Mapping[str, Any]:
        """See Reader."""
        query: dict[str, str | int] = {
            "reason": choice.reason,
            "topic": choice.topic,
            "source": choice.source,
            "since": choice.since,
            "before": before,
            "all": str(choice.all).lower(),
            "limit": limit,
        }
        found: Mapping[str, Any] = self._client.get(PATH, **query)
        return found

    async def letter(self, letter: str) -> Mapping[str, Any]:
        """See Reader."""
        found: Mapping[str, Any] = self._client.get(f"{PATH}/{Place.parse(letter)}")
        return found


@asynccontextmanager
async def reading(data: DataDir) -> AsyncIterator[Reader]:
    """A reader of the plant's letters; with no plant running, of its files. Raises what these raise."""
    if data.running() is not None:
        with Client.of(data) as client:
            yield OverHttp(client)
        return
    from industrialmind.dlq_files import open_files  # noqa: PLC0415 - whoever asks over HTTP needs none of it

    async with open_files(data) as reader:
        yield reader


async def gather(reader: Reader, choice: Choice, before: str, limit: int) -> dict[str, Any]:
    """Up to `limit` letters, newest first, however many must be looked at; `next` where there may be more."""
    found: list[Mapping[str, Any]] = []
    scanned = 0
    console = Console(stderr=True, no_color=no_color(), markup=False)
    with console.status("looking at dead letters") as status:
        while True:
            page = await reader.page(choice, before, min(limit - len(found), _PAGE))
            found += page["letters"]
            scanned += page["scanned"]
            status.update(f"looked at {scanned:,} dead letters")
            if page["next"] is None or len(found) >= limit:
                return {"letters": found, "next": page["next"]}
            before = page["next"]


async def list_letters(root: Path, choice: Choice, before: str, limit: int) -> dict[str, Any]:
    """The answer of `dlq list`. Raises NotFound, Rejected, Unavailable."""
    async with reading(DataDir(root)) as reader:
        return await gather(reader, choice, before, limit)


async def show_letter(root: Path, letter: str) -> Mapping[str, Any]:
    """The answer of `dlq show`. Raises NotFound, Rejected, Unavailable."""
    async with reading(DataDir(root)) as reader:
        return await reader.letter(letter)


def write_payload(letter: Mapping[str, Any], out: Path | None) -> None:
    """The kept bytes exactly, to a file or to standard output. Raises Misconfigured (a terminal; no such folder)."""
    payload = base64.b64decode(letter["payload"])
    if not letter["whole"]:
        sys.stderr.write(f"only the first {len(payload)} of {letter['size']} bytes were kept\n")
    if out is not None:
        try:
            out.write_bytes(payload)
        except OSError as error:
            raise Misconfigured(
                f"{out} can't be written: {error.strerror}", hint="choose another file"
            ) from error
        return
    if sys.stdout.isatty():
        raise Misconfigured(
            "a stranger's bytes are not written to a terminal",
            hint="send them to a file or a pipe, or use --out",
        )
    sys.stdout.buffer.write(payload)
    sys.stdout.buffer.flush()


def chosen(client: Client, letters: Sequence[str], choice: Choice, limit: int, *, yes: bool) -> list[str]:
    """The ids that are given, or those of the open letters that match, oldest first.

    Raises Misconfigured (neither, both, or a filter and not `yes`), Rejected (no id).
    """
    if bool(letters) == bool(choice):
        raise Misconfigured(
            "which letters?",
            hint="give their ids, or a filter: --reason, --topic, --source, --since; not both",
        )
    if letters:
        return [str(Place.parse(letter)) for letter in letters]
    found = asyncio.run(gather(OverHttp(client), choice, "", limit))
    ids = [str(letter["id"]) for letter in reversed(found["letters"])]
    more = " (there are more: they need another run, or a higher --limit)" if found["next"] else ""
    if not yes:
        raise Misconfigured(
            f"{len(ids)} letters match{more}; nothing was done",
            hint="look at them with dlq list, then add --yes",
        )
    sys.stderr.write(f"{len(ids)} letters match{more}\n")
    return ids


Act = Callable[[str], Mapping[str, Any]]


def each(letters: Sequence[str], act: Act, told: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Do it to one after the other: `done` answers, and the `failed` with their reasons. Raises Unavailable."""
    done: list[Mapping[str, Any]] = []
    failed: list[Mapping[str, Any]] = []
    for letter in letters:
        try:
            answer = act(letter)
        except (Rejected, Conflict, NotFound) as error:
            failed.append({"id": letter, "error": str(error)})
            told(failed[-1])
        else:
            done.append(answer)
            told(answer)
    return {"done": done, "failed": failed}


def replayer(client: Client, *, again: bool, now: bool) -> Act:
    """Sends a letter again, once it is old enough that a second refusal would show (with `now` at once)."""

    def act(letter: str) -> Mapping[str, Any]:
        if not now:
            wait(letter, client.get(f"{PATH}/{letter}")["replay"]["from_us"])
        body = {"again": again, "at_once": now}
        answer: Mapping[str, Any] = client.post(
            f"{PATH}/{letter}/replay", body, idempotency_key=str(uuid.uuid4())
        )
        return answer

    return act


def dropper(client: Client, why: str) -> Act:
    """Puts a letter aside."""

    def act(letter: str) -> Mapping[str, Any]:
        path = f"{PATH}/{letter}/drop"
        answer: Mapping[str, Any] = client.post(path, {"why": why}, idempotency_key=str(uuid.uuid4()))
        return answer

    return act


def wait(letter: str, from_us: int) -> None:
    """Return at that time; says on stderr why."""
    seconds = (from_us - SystemClock().now_us()) / MICROSECONDS
    if seconds <= 0:
        return
    sys.stderr.write(
        f"{letter} is younger than two minutes: sent now, a second refusal would be taken for a resend of the"
        f" first and not show. Waiting {seconds:.0f} s; --now does not wait.\n"
    )
    time.sleep(seconds + 0.1)
