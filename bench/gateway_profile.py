"""Where the gateway's time goes: its stages one by one, without broker and log, in CPU time of one core.

`--profile` prints each stage in µs a message (docs/gateway-profile.md holds such a table); without it only readings a
second. Whole processes between real brokers and logs are measured by `bench/gateway_peers.py`.
Run: PYTHONPATH=. python bench/gateway_profile.py [--profile]
"""

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from bench.peers.scenario import EDGES, Scenario, frames, json_readings
from gateway.direct_plan import DirectPlanner
from gateway.frames_plan import plan_frames
from gateway.logic import Assignments, Plan, acknowledgements
from gateway.mqtt import packets
from gateway.mqtt.inbox import Inbox
from gateway.mqtt.stream import Stream
from gateway.port import Arrivals
from gateway.singles import parse_singles

CHUNK_BYTES: Final = 256 * 1024
BATCH: Final = 5000
ROUNDS: Final = 7
NOW_US: Final = 1_800_000_000_000_000
ASSIGNED: Final[Assignments] = {f"m{edge}": ("s1", f"e{edge}") for edge in range(EDGES)}


@dataclass(frozen=True)
class Load:
    """A kind of traffic: its scenario, what the gateway makes of a batch of it, and the batch."""

    name: str
    scenario: Scenario
    plan: Callable[[Arrivals], Plan]
    batch: int


def loads(folder: Path) -> Iterator[Load]:
    """All kinds."""
    for rows in (1000, 1):
        planner = DirectPlanner("gateway-1", bytes(16), rows=rows)

        def direct(arrivals: Arrivals, planner: DirectPlanner = planner) -> Plan:
            return planner.plan(arrivals, {}, now_us=NOW_US)

        readings = json_readings(folder / f"json-{rows}", 20_000)
        yield Load(f"JSON, up to {rows} rows a frame", readings, direct, BATCH)

    def edges(arrivals: Arrivals) -> Plan:
        return plan_frames(arrivals, ASSIGNED, gateway="gateway-1", now_us=NOW_US)

    for rows, count in ((1000, 400), (20, 10_000)):
        scenario = frames(folder / f"frames-{rows}", count, rows)
        yield Load(f"frames of {rows} rows", scenario, edges, BATCH if rows < 1000 else 100)


def chunks(scenario: Scenario) -> list[bytes]:
    """The scenario's bytes as a socket gives them."""
    data, _ = scenario.open(packets.MQTT5)
    return [bytes(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)]


def took(work: Callable[[], object]) -> float:
    """CPU seconds of the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        gc.collect()
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def batches(load: Load) -> list[Arrivals]:
    """The scenario in batches."""
    whole = asyncio.run(parsed(chunks(load.scenario)))
    return [
        Arrivals(
            whole.topics[at : at + load.batch],
            whole.payloads[at : at + load.batch],
            whole.handles[at : at + load.batch],
            1,
        )
        for at in range(0, load.scenario.count, load.batch)
    ]


async def parsed(pieces: Sequence[bytes]) -> Arrivals:
    """All messages of those pieces of a connection."""
    inbox = Inbox(1)
    stream = Stream(inbox, lambda *_: None, packets.MQTT5)
    for chunk in pieces:
        stream.feed(chunk)
    return Arrivals(inbox.topics, inbox.payloads, inbox.handles, 1)


async def received(pieces: Sequence[bytes]) -> None:
    """Parse and let go, as a gateway that keeps up does: memory is used again."""
    inbox = Inbox(1)
    stream = Stream(inbox, lambda *_: None, packets.MQTT5)
    for chunk in pieces:
        stream.feed(chunk)
        inbox.topics.clear()
        inbox.payloads.clear()
        inbox.handles.clear()


def stages(load: Load) -> dict[str, float]:
    """CPU seconds of each stage over the whole scenario."""
    pieces, held = chunks(load.scenario), batches(load)
    plans = [load.plan(each) for each in held]

    made = {
        "receive: PUBLISH packets to lists": took(lambda: asyncio.run(received(pieces))),
        "plan: lists to records": took(lambda: [load.plan(each) for each in held]),
        "ack: PUBACKs to bytes": took(lambda: [packets.pubacks(each.handles) for each in held]),
        "ack: ranges of edges' rows": took(
            lambda: [acknowledgements([*plan.headers.values()]) for plan in plans]
        ),
    }
    if not plans[0].headers:
        made["  of the plan: JSON to objects"] = took(
            lambda: [list(map(orjson.loads, each.payloads)) for each in held]
        )
        made["  of the plan: JSON to columns"] = took(
            lambda: [parse_singles(each.payloads, NOW_US) for each in held]
        )
    return made


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        for load in loads(Path(folder)):
            made = stages(load)
            total = sum(seconds for name, seconds in made.items() if not name.startswith(" "))
            print(f"{load.name}: {load.scenario.readings / total:,.0f} readings/s a core")
            if "--profile" in sys.argv:
                for name, seconds in made.items():
                    print(f"  {name:<36} {seconds / load.scenario.count * 1e6:8.2f} µs a message")


if __name__ == "__main__":
    main()
