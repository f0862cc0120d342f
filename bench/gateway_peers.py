"""MQTT (QoS 1) to Kafka (acks=all, idempotent): this gateway beside what people run, in one run, by turns.

Each contestant is a process of its own. Sources: a scripted broker that never limits, and mosquitto behind a publisher
of packets made before. After each run the topic is read back, and every reading's identity and value is compared with
what was sent. Medians of five rounds; one Kafka, one nats-server, fresh topics and a fresh broker for each run.
Run: PYTHONPATH=. python bench/gateway_peers.py [--quick] [--only WORD] [--rounds N] [--share X] [--write-docs] (alone: a busy machine measures its
other work)
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.peers import contestants, docs, scenario
from bench.peers.contestants import Contestant
from bench.peers.report import Results, host, report
from bench.peers.runs import RAW, Run, Servers, Source, measure, measure_raw
from bench.peers.topics import Topics
from deploy.servers.kafka import Kafka
from deploy.servers.nats import Nats
from shared.nats import open_control

JSON_MESSAGES = 800_000
WARM_UP_MESSAGES = 200_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant on a source: `count` messages of a scenario take it about five seconds."""

    source: Source
    scenario: str
    contestant: Contestant | None
    count: int

    @property
    def key(self) -> tuple[str, str, str]:
        """How the results name it."""
        return self.source, self.scenario, self.contestant.name if self.contestant else RAW


ENTRIES = (
    Entry("stand-in", "JSON", None, 800_000),
    Entry("stand-in", "JSON", contestants.FRAMED, 800_000),
    Entry("stand-in", "JSON", contestants.ONE_EACH, 500_000),
    Entry("stand-in", "JSON", contestants.MQ_BRIDGE, 400_000),
    Entry("stand-in", "JSON", contestants.TELEGRAF, 120_000),
    Entry("stand-in", "JSON", contestants.PLAIN, 40_000),
    Entry("mosquitto", "JSON", None, 150_000),
    Entry("mosquitto", "JSON", contestants.FRAMED, 150_000),
    Entry("mosquitto", "JSON", contestants.ONE_EACH, 150_000),
    Entry("mosquitto", "JSON", contestants.MQ_BRIDGE, 150_000),
    Entry("mosquitto", "JSON", contestants.TELEGRAF, 100_000),
    Entry("mosquitto", "JSON", contestants.PLAIN, 40_000),
    Entry("stand-in", "frames of 1,000", contestants.EDGE_FRAMES, 6_000),
    Entry("stand-in", "frames of 20", contestants.EDGE_FRAMES, 60_000),
)
SCENARIOS: dict[str, Callable[[Path], scenario.Scenario]] = {
    "JSON": partial(scenario.json_readings, count=JSON_MESSAGES),
    "frames of 1,000": partial(scenario.frames, count=6_000, rows=1000),
    "frames of 20": partial(scenario.frames, count=60_000, rows=20),
}


async def assign(nats: Nats) -> None:
    """Give each machine of the frames to its edge."""
    async with open_control(nats.url, credentials=nats.credentials) as control:
        await control.ensure_buckets([f"e{n}" for n in range(scenario.EDGES)], models_bytes=1 << 20)
        for n in range(scenario.EDGES):
            await control.assign(scenario.SITE, f"m{n}", f"e{n}")


def warm_up(made: dict[str, scenario.Scenario], folder: Path, servers: Servers) -> None:
    """Let Kafka's JVM compile what it will run: else the first contestants would wait for that."""
    given = made.get("JSON") or scenario.json_readings(folder / "JSON", WARM_UP_MESSAGES)
    measure(
        contestants.MQ_BRIDGE, "stand-in", given, min(given.count, WARM_UP_MESSAGES), folder / "run", servers
    )


def run_all(entries: list[Entry], rounds: int, share: float, folder: Path) -> Results:
    """All runs, round by round."""
    made = {name: SCENARIOS[name](folder / name) for name in {entry.scenario for entry in entries}}
    results: dict[tuple[str, str, str], list[Run]] = {}
    stamped = {"log.message.timestamp.type": "LogAppendTime", "log.retention.hours": "24"}
    with Nats(folder / "nats") as nats, Kafka(folder / "kafka", settings=stamped) as kafka:
        asyncio.run(assign(nats))
        topics = Topics(kafka.bootstrap)
        servers = Servers(topics, kafka.pid, nats.url, nats.credentials)
        warm_up(made, folder / "warm-up", servers)
        for turn in range(rounds):
            for number, entry in enumerate(entries):
                place = folder / f"run-{turn}-{number}"
                count = max(1, int(entry.count * share))
                given = made[entry.scenario]
                if entry.contestant is None:
                    run = measure_raw(entry.source, given, count, place, servers)
                else:
                    run = measure(entry.contestant, entry.source, given, count, place, servers)
                results.setdefault(entry.key, []).append(run)
                rate = run.readings / run.seconds
                print(
                    f"round {turn + 1} {' · '.join(entry.key):45} {run.seconds:6.2f} s "
                    f"{rate:>11,.0f} readings/s {run.verdict}",
                    flush=True,
                )
        topics.close()
    return results


def main() -> None:
    """Run, print the tables, and fail if a contestant lost or changed a reading."""
    parser = argparse.ArgumentParser(description="MQTT to Kafka, this gateway beside its peers")
    parser.add_argument("--quick", action="store_true", help="one round, a third of the messages")
    parser.add_argument("--rounds", type=int, help="rounds (5; 1 if quick)")
    parser.add_argument("--share", type=float, help="of the messages (1; a third if quick)")
    parser.add_argument(
        "--write-docs", action="store_true", help="keep the tables in docs/benchmarks-gateway.md"
    )
    parser.add_argument("--only", default="", help="only the runs whose name has this word")
    chosen = parser.parse_args()
    entries = [entry for entry in ENTRIES if chosen.only in " · ".join(entry.key)]
    rounds = chosen.rounds or (1 if chosen.quick else 5)
    started = time.monotonic()
    about = host()
    print(about, flush=True)
    share = chosen.share or (1 / 3 if chosen.quick else 1)
    with tempfile.TemporaryDirectory() as folder:
        results = run_all(entries, rounds, share, Path(folder))
    took = f"{rounds} rounds of {share:.0%} of the messages in {(time.monotonic() - started) / 60:.0f} min"
    tables = report(results)
    print(f"\n{tables}\n\n{took}")
    if not all(run.verdict.right for runs in results.values() for run in runs):
        raise SystemExit("readings are missing or wrong")
    if chosen.write_docs:
        docs.keep("peers", f"{about}. {took}.\n\n{tables}")


if __name__ == "__main__":
    main()
