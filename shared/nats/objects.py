"""Objects in NATS's own layout (ADR-20): chunks below `$O.{bucket}.C.{id}`, one description below `$O.{bucket}.M.`."""

import base64
import binascii
import hashlib
import secrets
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from shared.errors import NotFound, Rejected, Unavailable
from shared.nats.session import Session, answered, sequence

CHUNK: Final = 128 << 10
OBJECT_BYTES: Final = 64 << 20
_AT_ONCE = 16


async def put_object(session: Session, bucket: str, name: str, data: bytes) -> str:
    """Store `data`, replacing what `name` held once all is durable; returns the SHA-256 in hex.

    Raises Rejected (over 64 MiB), Unavailable (away, or full: the former object stays).
    """
    if len(data) > OBJECT_BYTES:
        raise Rejected(f"object {name!r} has {len(data)} bytes; at most {OBJECT_BYTES} fit")
    former = await _description(session, bucket, name)
    nuid = secrets.token_hex(11)
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    wait = session.timeouts.produce
    for start in range(0, len(chunks), _AT_ONCE):
        group = chunks[start : start + _AT_ONCE]
        asked = [await session.ask(f"$O.{bucket}.C.{nuid}", chunk) for chunk in group]
        for answer in asked:
            session.stored(await answered(answer, wait, f"store {name}"), f"store {name}")
    digest = hashlib.sha256(data).digest()
    description = {
        "name": name,
        "bucket": bucket,
        "nuid": nuid,
        "size": len(data),
        "chunks": len(chunks),
        "digest": f"SHA-256={base64.urlsafe_b64encode(digest).decode()}",
        "mtime": datetime.now(UTC).isoformat(),
        "options": {"max_chunk_size": CHUNK},
    }
    await session.store(
        _meta(bucket, name), orjson.dumps(description), headers={"Nats-Rollup": "sub"}, wait=wait
    )
    if former is not None:
        await session.api(f"STREAM.PURGE.OBJ_{bucket}", {"filter": f"$O.{bucket}.C.{former['nuid']}"})
    return digest.hex()


async def get_object(session: Session, bucket: str, name: str) -> bytes:
    """The bytes of `name`. Raises NotFound, Unavailable (also when it was replaced meanwhile: get it again)."""
    description = await _description(session, bucket, name)
    if description is None or description.get("deleted"):
        raise NotFound(f"no object {name!r} in {bucket!r}")
    subject = f"$O.{bucket}.C.{description['nuid']}"
    size, found, after = int(description["size"]), bytearray(), 0
    while len(found) < size:
        page = await session.page(
            f"OBJ_{bucket}", {"seq": after + 1, "next_by_subj": subject, "batch": _AT_ONCE}
        )
        if not page.messages:
            break
        for message in page.messages:
            found += message.data
            after = sequence(message)
    try:
        expected = base64.urlsafe_b64decode(str(description["digest"]).split("=", 1)[1])
    except (binascii.Error, IndexError):
        expected = b""
    if hashlib.sha256(found).digest() != expected:
        raise Unavailable(f"object {name!r} does not match its hash; it is being replaced or was damaged")
    return bytes(found)


async def _description(session: Session, bucket: str, name: str) -> dict[str, Any] | None:
    page = await session.page(f"OBJ_{bucket}", {"seq": 1, "next_by_subj": _meta(bucket, name), "batch": 1})
    return orjson.loads(page.messages[0].data) if page.messages else None


def _meta(bucket: str, name: str) -> str:
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"
