"""Kafka to InfluxDB, at least once: this ingest beside what people run, in one run, by turns.

Each contestant is a process of its own with a fresh topic and a fresh InfluxDB. It writes the first points before the clock
starts; then all others are sent at once, and the clock stops when InfluxDB has confirmed the last. After each run count and
sum of every series are compared with what was sent. Medians of three rounds.
Run: PYTHONPATH=. python bench/influx_peers.py [--quick] [--only WORD] [--rounds N] [--points N] [--write-docs] (alone: a busy
machine measures its other work)
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.influx import contestants
from bench.influx.contestants import Contestant
from bench.influx.points import points
from bench.influx.report import Results, host, rate, report
from bench.influx.runs import Load, Run, measure
from bench.peers import docs
from bench.peers.topics import Topics
from deploy.servers.kafka import Kafka

POINTS = 1_000_000
QUICK_POINTS = 300_000
WARM = 50_000


@dataclass(frozen=True, slots=True)
class Shape:
    """Series and records of a load."""

    machines: int
    sensors: int
    rows: int
    bare: bool = False

    @property
    def name(self) -> str:
        """How the tables call it."""
        bare = ", the value alone" if self.bare else ""
        return f"{self.machines * self.sensors:,} series, {self.rows:,} readings a record{bare}"


FEW, SMALL, MANY = Shape(5, 8, 1000), Shape(5, 8, 20), Shape(25, 40, 1000)
BARE = Shape(5, 8, 1000, bare=True)
ENTRIES: tuple[tuple[Shape, Contestant], ...] = (
    (FEW, contestants.RAW_ONE),
    (FEW, contestants.RAW_TWO),
    (FEW, contestants.TELEGRAF),
    (FEW, contestants.TELEGRAF_JSON),
    (FEW, contestants.CLIENT),
    (FEW, contestants.CLIENT_LINES),
    (FEW, contestants.INGEST),
    (SMALL, contestants.TELEGRAF),
    (SMALL, contestants.TELEGRAF_JSON),
    (SMALL, contestants.INGEST),
    (SMALL, contestants.INGEST_LARGE),
    (MANY, contestants.RAW_ONE),
    (MANY, contestants.TELEGRAF),
    (MANY, contestants.CLIENT),
    (MANY, contestants.INGEST),
    (BARE, contestants.RAW_ONE),
    (BARE, contestants.RAW_TWO),
    (BARE, contestants.TELEGRAF),
    (BARE, contestants.CLIENT),
)


def run_all(entries: list[tuple[Shape, Contestant]], rounds: int, count: int, folder: Path) -> Results:
    """All runs, round by round; before them one that is not counted, for Kafka's JVM to compile what it will run."""
    loads = {
        shape: Load(points(count + WARM, shape.machines, shape.sensors, shape.rows, bare=shape.bare), WARM)
        for shape in {shape for shape, _ in entries}
    }
    results: dict[tuple[str, str], list[Run]] = {}
    with Kafka(folder / "kafka") as kafka:
        topics = Topics(kafka.bootstrap)
        measure(contestants.TELEGRAF, loads[entries[0][0]], folder / "warm-up", topics, kafka.pid)
        for turn in range(rounds):
            for number, (shape, contestant) in enumerate(entries):
                place = folder / f"run-{turn}-{number}"
                run = measure(contestant, loads[shape], place, topics, kafka.pid)
                results.setdefault((shape.name, contestant.name), []).append(run)
                print(
                    f"round {turn + 1} {shape.name} · {contestant.name:28} {run.seconds:6.2f} s "
                    f"{rate(run):>11,.0f} points/s, wrong series {run.wrong}, others {run.spent.others:.2f}",
                    flush=True,
                )
        topics.close()
    return results


def main() -> None:
    """Run, print the tables, and fail if a contestant lost or changed a point."""
    parser = argparse.ArgumentParser(description="Kafka to InfluxDB, this ingest beside its peers")
    parser.add_argument("--quick", action="store_true", help="one round of fewer points")
    parser.add_argument("--rounds", type=int, help="rounds (3; 1 if quick)")
    parser.add_argument("--points", type=int, help=f"of each run ({POINTS:,}; {QUICK_POINTS:,} if quick)")
    parser.add_argument(
        "--write-docs", action="store_true", help="keep the tables in docs/benchmarks-storage.md"
    )
    parser.add_argument("--only", default="", help="only the runs whose name has this word")
    chosen = parser.parse_args()
    entries = [
        (shape, who) for shape, who in ENTRIES if chosen.only.lower() in f"{shape.name} · {who.name}".lower()
    ]
    rounds = chosen.rounds or (1 if chosen.quick else 3)
    count = chosen.points or (QUICK_POINTS if chosen.quick else POINTS)
    started, about = time.monotonic(), host()
    print(about, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        results = run_all(entries, rounds, count, Path(folder))
    took = f"{rounds} rounds of {count:,} points in {(time.monotonic() - started) / 60:.0f} min"
    tables = report(results)
    print(f"\n{tables}\n\n{took}")
    if any(run.wrong for runs in results.values() for run in runs):
        raise SystemExit("points are missing or wrong")
    if chosen.write_docs:
        docs.keep("influxdb peers", f"{about}. {took}.\n\n{tables}", docs.STORAGE)


if __name__ == "__main__":
    main()
