"""The log into a store from where the store is: how a copy is filled, and brought up to the store that it replaces."""

import asyncio
from collections.abc import Mapping
from typing import Final

from cloud.ingest.logic import TOPICS, read_batch
from cloud.telemetry.port import TelemetryStore, Told, untold
from shared.errors import Misconfigured
from shared.eventlog import EventLog, Position, Stored
from shared.names import MACHINE_EVENTS

Positions = Mapping[str, Position]

_BATCH_RECORDS: Final = 500
_BATCH_BYTES: Final = 8 << 20


async def read_into(
    log: EventLog, store: TelemetryStore, *, until: Positions | None = None, told: Told = untold
) -> int:
    """Write what the log has after the store's positions, up to its present end or to `until`; returns the records.

    What can't be read becomes no dead letter: ingest saw to that when it came. Can be stopped anywhere and called again.
    Raises Unavailable, and Misconfigured if the store knows more than the log ever had.
    """
    ends = {topic: await log.end(topic) for topic in TOPICS}
    held = await store.positions()
    for topic in TOPICS:
        if any(offset > ends[topic].get(partition, 0) for partition, offset in held.get(topic, {}).items()):
            raise Misconfigured(
                f"the copy is ahead of the log's topic {topic}: it is of another log",
                hint="make it anew: industrialmind rebuild telemetry --fresh",
            )
    goals = ends if until is None else until
    total = sum(_between(held.get(topic, {}), goals.get(topic, {})) for topic in TOPICS)
    done = 0
    for topic in TOPICS:
        start, goal = held.get(topic, {}), goals.get(topic, {})
        if not _between(start, goal):
            continue
        chunk: list[Stored] = []
        size = 0
        async for record in log.read(topic, start or None):
            if until is not None and record.offset > goal.get(record.partition, 0):
                continue
            chunk.append(record)
            size += len(record.value)
            if len(chunk) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
                done += await _write(store, chunk)
                told(min(done, total), total)
                chunk, size = [], 0
        done += await _write(store, chunk)
    told(total, total)
    return done


async def events_whole(log: EventLog) -> bool:
    """Whether the log still has every event from the first one on; else only the old store knows some."""
    next_offset: dict[str, int] = {}
    end = await log.end(MACHINE_EVENTS)
    async for record in log.read(MACHINE_EVENTS):
        if record.offset != next_offset.get(record.partition, 1):
            return False
        next_offset[record.partition] = record.offset + 1
    return all(next_offset.get(partition, 1) > offset for partition, offset in end.items())


async def _write(store: TelemetryStore, records: list[Stored]) -> int:
    if records:
        entries, _ = await asyncio.to_thread(read_batch, records)
        await store.write(entries)
    return len(records)


def _between(start: Position, end: Position) -> int:
    return sum(max(0, offset - start.get(partition, 0)) for partition, offset in end.items())
