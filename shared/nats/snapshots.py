"""Streams whole: taken from a server that runs, and made again from what was taken, with their numbers and times.

The JetStream API's own snapshots: blocks of the stream's store, compressed, which a later nats-server reads as well.
Consumers are left out: where a group goes on is said by what it wrote.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import IO, Any, Final

import orjson

from shared.errors import Unavailable
from shared.nats.errors import raise_api_error
from shared.nats.session import Message, Session

CHUNK: Final = 128 << 10
_WINDOW: Final = 2 << 20
"""Bytes on their way at most: what a snapshot takes of memory."""
_WAIT_S: Final = 60.0
"""Longest wait for the next chunk."""
_API_S: Final = 30.0


async def stream_names(session: Session) -> list[str]:
    """Every stream of the account. For the admin. Raises Unavailable."""
    found: list[str] = []
    while True:
        page = await session.api("STREAM.NAMES", {"offset": len(found)})
        found += page.get("streams") or []
        if not page.get("streams") or len(found) >= int(page["total"]):
            return sorted(found)


async def save_stream(session: Session, stream: str, into: IO[bytes]) -> Mapping[str, Any]:
    """Write a stream as it is now; returns what `load_stream` needs beside it. For the admin.

    Nothing is held up meanwhile, and memory is bounded. Raises Unavailable, NotFound.
    """
    chunks: asyncio.Queue[Message] = asyncio.Queue()
    inbox = f"{session.inbox}-snapshot-{stream.replace('$', '_')}"
    end = await session.subscribe(inbox, chunks.put_nowait)
    try:
        await session.flush()
        asked = {
            "deliver_subject": inbox,
            "no_consumers": True,
            "jsck": True,
            "chunk_size": CHUNK,
            "window_size": _WINDOW,
        }
        answer = await session.request(f"$JS.API.STREAM.SNAPSHOT.{stream}", orjson.dumps(asked), wait=_API_S)
        made: dict[str, Any] = orjson.loads(answer.data)
        if "error" in made:
            raise_api_error(made["error"], f"snapshot of {stream}")
        while True:
            chunk = await _next(chunks, session, stream)
            if not chunk.data:
                break
            await asyncio.to_thread(into.write, chunk.data)
            if chunk.reply:
                await session.publish(chunk.reply)
        headers = chunk.headers or {}
        if headers.get("Status", "204") not in ("204", "200"):
            raise Unavailable(f"snapshot of {stream}: {headers.get('Description', headers)}")
        return {"config": made["config"], "state": made["state"]}
    finally:
        await end()


async def _next(chunks: "asyncio.Queue[Message]", session: Session, stream: str) -> Message:
    try:
        async with asyncio.timeout(_WAIT_S):
            while True:
                try:
                    return await asyncio.wait_for(chunks.get(), 0.5)
                except TimeoutError:
                    session.check()
    except TimeoutError as error:
        raise Unavailable(f"snapshot of {stream}: nothing came within {_WAIT_S:g} s") from error


async def load_stream(
    session: Session, stream: str, about: Mapping[str, Any], chunks: Iterable[bytes]
) -> None:
    """Make a stream from what `save_stream` wrote, read in chunks of at most `CHUNK`. For the admin.

    Raises Unavailable (away, no room, or the stream is there already), Rejected.
    """
    asked = orjson.dumps({"config": about["config"], "state": about["state"]})
    answer = await session.request(f"$JS.API.STREAM.RESTORE.{stream}", asked, wait=_API_S)
    told: dict[str, Any] = orjson.loads(answer.data)
    if "error" in told:
        raise_api_error(told["error"], f"restore of {stream}")
    subject = told["deliver_subject"]
    for chunk in chunks:
        took = await session.request(subject, chunk, wait=_API_S)
        if took.data:
            _refused(took.data, stream)
    done = await session.request(subject, b"", wait=_WAIT_S)
    _refused(done.data, stream)


def _refused(data: bytes, stream: str) -> None:
    answer: dict[str, Any] = orjson.loads(data)
    if "error" in answer:
        raise_api_error(answer["error"], f"restore of {stream}")


async def save_groups(session: Session, stream: str) -> list[dict[str, Any]]:
    """The stream's durable consumers and how far each acknowledged without a gap. For the admin. Raises Unavailable."""
    found: list[dict[str, Any]] = []
    seen = 0
    while True:
        page = await session.api(f"CONSUMER.LIST.{stream}", {"offset": seen})
        consumers = page.get("consumers") or []
        seen += len(consumers)
        found += [
            {"stream": stream, "config": one["config"], "floor": int(one["ack_floor"]["stream_seq"])}
            for one in consumers
            if one["config"].get("durable_name")
        ]
        if not consumers or seen >= int(page["total"]):
            return found


async def load_group(session: Session, group: Mapping[str, Any]) -> None:
    """Make a durable consumer go on after the record that it had acknowledged. For the admin. Raises Unavailable."""
    stream, config = group["stream"], {**group["config"], "metadata": {}}
    name = config["durable_name"]
    await session.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})
    if group["floor"] > 0:
        await session.api(f"CONSUMER.RESET.{stream}.{name}", {"seq": group["floor"] + 1})


async def drop_message(session: Session, stream: str, number: int) -> None:
    """Take one message out of a stream; the others keep their numbers. For the admin. Raises Unavailable, NotFound."""
    await session.api(f"STREAM.MSG.DELETE.{stream}", {"seq": number, "no_erase": True})
