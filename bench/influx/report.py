"""The benchmark's tables: medians of the rounds, ratios within the run, goals."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

from bench.influx.contestants import INGEST, RAW_ONE, TELEGRAF, TELEGRAF_JSON
from bench.influx.runs import Run
from bench.peers.report import table
from deploy.servers import influxdb, kafka, telegraf

Key = tuple[str, str]
"""Load, contestant."""
Results = Mapping[Key, Sequence[Run]]
Figure = Callable[[Run], float]
_MIB: Final = 1 << 20


def rate(run: Run) -> float:
    """Points a second, from the first record sent to InfluxDB's last answer."""
    return run.points / run.seconds


def cpu(run: Run) -> float:
    """The contestant's CPU seconds a million points."""
    return run.spent.own.cpu_s / run.points * 1e6


def rss(run: Run) -> float:
    """Its peak of resident memory, MiB."""
    return run.spent.own.peak_bytes / _MIB


def of(runs: Sequence[Run], figure: Figure) -> float:
    """The median of a figure."""
    return median(figure(run) for run in runs)


def host() -> str:
    """Where and when this is, and with what."""
    cpu_info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in cpu_info if line.startswith("model name")), "?")
    versions = ", ".join(f"{name} {version(name)}" for name in ("influxdb-client", "confluent-kafka"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores of {model}; Python {platform.python_version()}, "
        f"Kafka {kafka.VERSION}, InfluxDB {influxdb.VERSION}, Telegraf {telegraf.VERSION}, {versions}"
    )


def report(results: Results) -> str:
    """Every table, in Markdown."""
    loads = list(dict.fromkeys(load for load, _ in results))
    parts = [
        _table(load, {who: runs for (where, who), runs in results.items() if where == load}) for load in loads
    ]
    others = [run.spent.others for runs in results.values() for run in runs]
    parts.append(
        f"Cores that other work on the machine took during the runs: median {median(others):.2f}, most {max(others):.2f}."
    )
    parts += [_goals(load, results) for load in loads if (load, INGEST.name) in results]
    return "\n\n".join(parts)


def _table(load: str, rows: Mapping[str, Sequence[Run]]) -> str:
    peer, floor = rows.get(TELEGRAF.name), rows.get(RAW_ONE.name)
    heads = (
        "contestant", "points/s", "times Telegraf", "times raw", "CPU s", "times Telegraf", "peak RSS",
        "times Telegraf", "InfluxDB CPU s", "InfluxDB RSS", "CPU s of all", "more points",
    )  # fmt: skip
    lines = [
        (
            name,
            f"{of(runs, rate):,.0f}",
            _ratio(runs, peer, rate),
            _ratio(runs, floor, rate),
            f"{of(runs, cpu):.2f}",
            _ratio(runs, peer, cpu),
            f"{of(runs, rss):.0f}",
            _ratio(runs, peer, rss),
            f"{of(runs, lambda run: run.spent.influxdb.cpu_s / run.points * 1e6):.2f}",
            f"{of(runs, lambda run: run.spent.influxdb.peak_bytes / _MIB):.0f}",
            f"{of(runs, lambda run: run.spent.all_cpu_s / run.points * 1e6):.2f}",
            f"{of(runs, lambda run: run.more):,.0f}",
        )
        for name, runs in rows.items()
    ]
    return f"{load}\n\n{table(heads, lines)}"


def _ratio(runs: Sequence[Run], other: Sequence[Run] | None, figure: Figure) -> str:
    return f"{of(runs, figure) / of(other, figure):.2f}" if other else ""


def _goals(load: str, results: Results) -> str:
    """Each goal beside what this run came to, where it ran what the goal is about."""
    lines = []
    for what, other, figure, limit in (
        ("times Telegraf's points/s", TELEGRAF, rate, 2.5),
        ("times Telegraf's points/s from JSON", TELEGRAF_JSON, rate, 2.5),
        ("times raw's points/s", RAW_ONE, rate, 0.6),
        ("times Telegraf's CPU", TELEGRAF, cpu, 1 / 3),
        ("times Telegraf's CPU from JSON", TELEGRAF_JSON, cpu, 1 / 3),
        ("times Telegraf's peak RSS", TELEGRAF, rss, 0.5),
        ("times Telegraf's peak RSS from JSON", TELEGRAF_JSON, rss, 0.5),
    ):
        theirs = results.get((load, other.name))
        if theirs:
            got = of(results[load, INGEST.name], figure) / of(theirs, figure)
            least = figure is rate
            met = got >= limit if least else got <= limit
            lines.append((what, f"{got:.2f}", f"{'≥' if least else '≤'} {limit:.2f}", "yes" if met else "no"))
    return f"ingest, {load}\n\n{table(('goal', 'here', 'wanted', 'met'), lines)}"
