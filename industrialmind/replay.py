"""`industrialmind replay`: records of the log once more, at their own pace, onto topics of a prefix.

A new consumer or model is tried on what really came, and no live topic is touched: bytes are the same, headers say
which record each one is a copy of.
"""

import asyncio
import heapq
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cloud.api.times import span
from cloud.telemetry.port import Told, untold
from industrialmind.embedded import account_of
from industrialmind.plant import DataDir
from industrialmind.replay_topics import drop_replay_topics, ensure_replay_topics, list_replay_topics
from industrialmind.served import plant_log, served
from shared import names
from shared.clock import MICROSECONDS, Clock
from shared.errors import NotFound, Rejected
from shared.eventlog import EventLog, Record, Stored
from shared.events import at

TOPICS: Final = (names.SENSOR_READINGS, names.SCORES, names.WAVEFORMS, names.MACHINE_EVENTS)
"""What is replayed unless topics are named."""
MAX_AGE_S: Final = 86_400.0
MAX_BYTES: Final = 256 << 20
_BATCH: Final = 500
_LOOK_AHEAD_S: Final = 0.02
"""Records due within so long go together: timers are no finer, and a batch is cheaper than its records one by one."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records: of `topics` and `machines` (none: all), that the log took in [from, to). `speed` 0: at once."""

    from_us: int
    to_us: int
    speed: float
    topics: Sequence[str]
    machines: Sequence[str]
    prefix: str


def wanted_of(
    start: str,
    end: str,
    now_us: int,
    *,
    speed: float,
    topics: Sequence[str],
    machines: Sequence[str],
    prefix: str,
) -> Wanted:
    """From what the user gave. Raises Rejected (no time, no such topic, no id)."""
    from_us, to_us = span(start, end, now_us)
    unknown = [topic for topic in topics if topic not in names.LOG_TOPICS]
    if unknown:
        raise Rejected(f"no topic {', '.join(unknown)}: there are {', '.join(names.LOG_TOPICS)}")
    made = prefix or f"replay-{at(now_us):%Y%m%d-%H%M%S}"
    return Wanted(
        from_us, to_us, speed, tuple(topics) or TOPICS, tuple(machines), names.check_id(made, "prefix")
    )


async def run_replay(
    data: DataDir, wanted: Wanted, clock: Clock, told: Told = untold, *, max_bytes: int = MAX_BYTES
) -> Mapping[str, Any]:
    """Replay onto the prefix's topics, which are made if they are not there; returns what was done.

    Raises NotFound (no plant), Unavailable (no log, or the prefix is full), Rejected.
    """
    topics = [names.prefixed(wanted.prefix, topic) for topic in wanted.topics]
    async with served(data) as at_, plant_log(data, at_, "admin") as log:
        url, credentials = _place(data, at_.nats_url)
        await ensure_replay_topics(url, credentials, topics, max_bytes=max_bytes, max_age_s=MAX_AGE_S)
        copied = await replay(log, wanted, clock, told)
    return {"prefix": wanted.prefix, "topics": topics, "records": copied}


async def list_prefixes(data: DataDir) -> Mapping[str, Mapping[str, int]]:
    """Prefix to its topics, each with how many records it has. Raises NotFound, Unavailable."""
    async with served(data) as at_:
        found: dict[str, dict[str, int]] = {}
        for topic, records in (await list_replay_topics(*_place(data, at_.nats_url))).items():
            prefix, live = names.split_prefix(topic)
            found.setdefault(prefix, {})[live] = records
        return found


async def drop_prefix(data: DataDir, prefix: str) -> Sequence[str]:
    """Remove the prefix's topics; returns them. Raises NotFound (no such prefix), Unavailable."""
    async with served(data) as at_:
        place = _place(data, at_.nats_url)
        there = await list_replay_topics(*place)
        topics = [topic for topic in there if names.split_prefix(topic)[0] == prefix]
        if not topics:
            raise NotFound(f"no prefix {prefix[:60]!r}: industrialmind replay --list shows what there is")
        await drop_replay_topics(*place, topics)
        return topics


async def replay(log: EventLog, wanted: Wanted, clock: Clock, told: Told = untold) -> int:
    """Copy the records in the order of their log times, each when its time has come; returns how many.

    `told` hears how many ms of the range are done. Cancelled, what was copied stays. Raises Unavailable.
    """
    run = secrets.token_hex(4)
    began, first_us, newest_us, copied = clock.monotonic(), None, 0, 0
    batch: list[Stored] = []
    async with aclosing(_merged(log, wanted)) as records:
        async for record in records:
            first_us = record.time_us if first_us is None else first_us
            newest_us = max(newest_us, record.time_us)
            wait = 0.0
            if wanted.speed > 0:
                due = began + (newest_us - first_us) / MICROSECONDS / wanted.speed
                wait = due - clock.monotonic()
            if batch and (len(batch) >= _BATCH or wait > _LOOK_AHEAD_S):
                copied += await _copy(log, wanted.prefix, batch, run)
                batch = []
                told((newest_us - first_us) // 1000, (wanted.to_us - first_us) // 1000)
            if wait > _LOOK_AHEAD_S:
                await clock.sleep(wait)
            batch.append(record)
    copied += await _copy(log, wanted.prefix, batch, run)
    told(1, 1)
    return copied


async def _merged(log: EventLog, wanted: Wanted) -> AsyncGenerator[Stored, None]:
    """The topics' records by log time; within a topic in the log's own order."""
    readers = [_records(log, topic, wanted) for topic in wanted.topics]
    try:
        heads: list[tuple[int, int, Stored]] = []
        for number, reader in enumerate(readers):
            if (record := await anext(reader, None)) is not None:
                heapq.heappush(heads, (record.time_us, number, record))
        while heads:
            _, number, record = heapq.heappop(heads)
            yield record
            if (following := await anext(readers[number], None)) is not None:
                heapq.heappush(heads, (following.time_us, number, following))
    finally:
        for reader in readers:
            await reader.aclose()


async def _records(log: EventLog, topic: str, wanted: Wanted) -> AsyncGenerator[Stored, None]:
    begin = datetime.fromtimestamp(wanted.from_us / MICROSECONDS, UTC)
    open_partitions = set(await log.end(topic))
    async for record in log.read(topic, begin):
        if record.time_us >= wanted.to_us:
            open_partitions.discard(record.partition)
            if not open_partitions:
                return
        elif record.time_us >= wanted.from_us and (not wanted.machines or record.key in wanted.machines):
            yield record


async def _copy(log: EventLog, prefix: str, records: Sequence[Stored], run: str) -> int:
    """Append them; those of one topic and key in order, others beside each other."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        headers = {**record.headers, names.HEADER_REPLAYED: place}
        # The id lets the log drop what an unconfirmed append had stored after all; another run is another copy.
        copy = Record(record.value, headers, id=f"replay:{run}:{place}")
        groups.setdefault((record.topic, record.key), []).append(copy)
    await asyncio.gather(
        *(log.append(names.prefixed(prefix, topic), key, copies) for (topic, key), copies in groups.items())
    )
    return len(records)


def _place(data: DataDir, nats_url: str) -> tuple[str, str]:
    return data.plant().log_access(nats_url, account_of(data.root, "admin").userinfo)
