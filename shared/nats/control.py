"""The control plane: who watches which machine, what each edge is to run and what it runs, and the models' bytes.

Buckets in NATS's own layout (its command line reads them): KV `assignments`, KV `desired-{edge}` and `reported-{edge}`,
KV `scoring` (what the cloud's own scoring remembers), objects `models`. Keys and values survive `kill -9` of the server; watches resume by themselves.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson

from shared import names
from shared.errors import Rejected, Unavailable
from shared.nats.link import Link, open_link
from shared.nats.objects import get_object, put_object
from shared.nats.session import Message, Session, Timeouts, ensure_stream, first_of, sequence
from shared.tls import Certificates

EDGE_BUCKET_BYTES: Final = 2 << 20
"""Room of one edge's desired or reported bucket, overhead included."""
ASSIGNMENTS_BYTES: Final = 4 << 20
SCORING_BYTES: Final = 16 << 20
MODELS_BYTES: Final = 512 << 20
VALUE_BYTES: Final = 256 << 10
PAGE: Final = 512
RESYNC_S: Final = 30.0
"""A watch reads its bucket again this often, should a change's notice have been lost on the way."""

Change = tuple[str, bytes | None]
_KEY = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*")


class ControlPlane:
    """Assignments, desired and reported state, models. Every call raises Unavailable when the server is away."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def ensure_buckets(self, edges: Iterable[str], *, models_bytes: int = MODELS_BYTES) -> None:
        """Create or update every bucket. For the admin. Raises Unavailable (no room), Rejected."""
        session = self._link.session()
        await ensure_stream(session, _bucket_config(names.ASSIGNMENTS_BUCKET, ASSIGNMENTS_BYTES))
        await ensure_stream(session, _bucket_config(names.SCORING_BUCKET, SCORING_BYTES))
        for edge in edges:
            for bucket in (names.desired_bucket(edge), names.reported_bucket(edge)):
                await ensure_stream(session, _bucket_config(bucket, EDGE_BUCKET_BYTES))
        await ensure_stream(session, _objects_config(names.MODEL_OBJECTS, models_bytes))

    async def assign(self, site: str, machine: str, edge: str) -> None:
        """Let `edge` speak for `machine`."""
        value = orjson.dumps({"site": site, "edge": edge})
        await self._put(names.ASSIGNMENTS_BUCKET, names.check_id(machine, "machine"), value)

    async def assignments(self) -> dict[str, tuple[str, str]]:
        """Machine to (site, edge)."""
        found = await self._snapshot(self._link.session(), names.ASSIGNMENTS_BUCKET)
        return {key: _assignment(value) for key, (_, value) in found.items() if value is not None}

    async def watch_assignments(self) -> AsyncIterator[tuple[str, tuple[str, str] | None] | None]:
        """(machine, (site, edge)) for each now, one None, then each change (None: no longer assigned)."""
        async for change in self._watch(names.ASSIGNMENTS_BUCKET):
            if change is None:
                yield None
            else:
                key, value = change
                yield key, _assignment(value) if value is not None else None

    async def scoring_state(self, machine: str) -> tuple[int, bytes]:
        """What the cloud's scoring of `machine` remembers, and its revision; (0, b"") if it never did."""
        subject = f"$KV.{names.SCORING_BUCKET}.{names.check_id(machine, 'machine')}"
        query = {"seq": 1, "next_by_subj": subject, "batch": 1}
        page = await self._link.session().page(f"KV_{names.SCORING_BUCKET}", query)
        return (sequence(page.messages[0]), page.messages[0].data) if page.messages else (0, b"")

    async def keep_scoring_state(self, machine: str, value: bytes, revision: int) -> int:
        """Replace the state that had `revision`; returns the new one. Raises Conflict, Rejected (size)."""
        return await self._put(names.SCORING_BUCKET, names.check_id(machine, "machine"), value, revision)

    async def put_model(self, name: str, data: bytes) -> str:
        """Store a model's bytes under `name`, replacing them at once; returns their SHA-256 in hex."""
        return await put_object(self._link.session(), names.MODEL_OBJECTS, name, data)

    async def get_model(self, name: str) -> bytes:
        """A model's bytes, checked against their stored hash. Raises NotFound, Unavailable."""
        return await get_object(self._link.session(), names.MODEL_OBJECTS, name)

    async def desire(self, edge: str, key: str, value: bytes) -> None:
        """Set what `edge` is to run. Raises Rejected (key or size)."""
        await self._put(names.desired_bucket(edge), key, value)

    async def report(self, edge: str, key: str, value: bytes) -> None:
        """Set what `edge` runs. Raises Rejected (key or size)."""
        await self._put(names.reported_bucket(edge), key, value)

    async def desired(self, edge: str) -> dict[str, bytes]:
        """Everything that `edge` is to run."""
        found = await self._snapshot(self._link.session(), names.desired_bucket(edge))
        return {key: value for key, (_, value) in found.items() if value is not None}

    async def reported(self, edge: str) -> dict[str, bytes]:
        """Every reported value of `edge`."""
        found = await self._snapshot(self._link.session(), names.reported_bucket(edge))
        return {key: value for key, (_, value) in found.items() if value is not None}

    def watch_desired(self, edge: str) -> AsyncIterator[Change | None]:
        """(key, value) for each now, one None as the marker that these are all, then each change for ever."""
        return self._watch(names.desired_bucket(edge))

    def watch_reported(self, edge: str) -> AsyncIterator[Change | None]:
        """The same for what an edge reports."""
        return self._watch(names.reported_bucket(edge))

    async def _put(self, bucket: str, key: str, value: bytes, revision: int | None = None) -> int:
        if not _KEY.fullmatch(key):
            raise Rejected(
                f"{key[:60]!r} can't be a key: use letters, digits and - / _ = with single dots between"
            )
        if len(value) > VALUE_BYTES:
            raise Rejected(f"the value of {key!r} has {len(value)} bytes; at most {VALUE_BYTES} fit")
        fence = None if revision is None else {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        return await self._link.session().store(f"$KV.{bucket}.{key}", value, headers=fence)

    async def _snapshot(self, session: Session, bucket: str) -> dict[str, tuple[int, bytes | None]]:
        """Key to (revision, value or None if deleted), a page at a time."""
        prefix = f"$KV.{bucket}."
        found: dict[str, tuple[int, bytes | None]] = {}
        after = 0
        while True:
            query = {"seq": after + 1, "next_by_subj": f"{prefix}>", "batch": PAGE}
            page = await session.page(f"KV_{bucket}", query)
            for message in page.messages:
                after = sequence(message)
                key = (message.headers or {}).get("Nats-Subject", "").removeprefix(prefix)
                found[key] = (after, _value(message))
            if not page.messages or page.pending == 0:
                return found

    async def _watch(self, bucket: str) -> AsyncIterator[Change | None]:
        seen: dict[str, int] = {}
        marked = False
        while True:
            session = await self._link.connected()
            changed = asyncio.Event()
            end = None
            try:
                end = await session.subscribe(f"changed.{bucket}.>", _sets(changed))
                while not session.lost.is_set():
                    changed.clear()
                    found = await self._snapshot(session, bucket)
                    for key, (revision, value) in sorted(found.items(), key=lambda item: item[1][0]):
                        # A key deleted before the watch began was never there for its reader.
                        if seen.get(key) != revision and (value is not None or key in seen):
                            yield key, value
                        seen[key] = revision
                    if not marked:
                        marked = True
                        yield None
                    await first_of(RESYNC_S, changed, session.lost)
            except Unavailable:
                await first_of(session.timeouts.backoff_first, session.lost)
            finally:
                if end is not None:
                    await end()


def _sets(event: asyncio.Event) -> Callable[[Message], None]:
    return lambda _: event.set()


def _value(message: Message) -> bytes | None:
    deleted = (message.headers or {}).get("KV-Operation") in ("DEL", "PURGE")
    return None if deleted else message.data


def _assignment(value: bytes) -> tuple[str, str]:
    try:
        body = orjson.loads(value)
        return str(body["site"]), str(body["edge"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise Rejected(f"an assignment that can't be read: {value[:80]!r}") from error


def _bucket_config(bucket: str, max_bytes: int) -> dict[str, Any]:
    """A KV bucket that keeps one value a key, answers direct gets and tells of each stored change."""
    return {
        "name": f"KV_{bucket}",
        "subjects": [f"$KV.{bucket}.>"],
        "max_msgs_per_subject": 1,
        "max_bytes": max_bytes,
        "max_msg_size": VALUE_BYTES + 1024,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "republish": {"src": f"$KV.{bucket}.>", "dest": f"changed.{bucket}.>", "headers_only": True},
    }


def _objects_config(bucket: str, max_bytes: int) -> dict[str, Any]:
    return {
        "name": f"OBJ_{bucket}",
        "subjects": [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        "max_bytes": max_bytes,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
    }


@asynccontextmanager
async def open_control(
    url: str,
    *,
    credentials: str = "",
    timeouts: Timeouts | None = None,
    wait: bool = True,
    tls: Certificates | None = None,
) -> AsyncIterator[ControlPlane]:
    """The control plane behind `nats://host:port` or `tls://host:port`; `credentials` and `tls` as for `open_link`.

    With `wait`, raises Misconfigured (refused) or Unavailable unless connected within the connect time-out;
    without, calls raise Unavailable and watches wait until it is.
    """
    async with open_link(url, credentials=credentials, timeouts=timeouts, wait=wait, tls=tls) as link:
        yield ControlPlane(link)
