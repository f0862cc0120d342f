"""The benchmark's tables: medians of the rounds, ratios within the run, goals."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

from bench.peers.contestants import EDGE_FRAMES, FRAMED, MQ_BRIDGE, ONE_EACH
from bench.peers.runs import RAW, Run
from deploy.servers import kafka, telegraf

Key = tuple[str, str, str]
"""Source, scenario, contestant."""
Results = Mapping[Key, Sequence[Run]]

_JSON: Final = "JSON"
_MIB: Final = 1 << 20


def of(runs: Sequence[Run], figure: Callable[[Run], float]) -> float:
    """The median of a figure."""
    return median(figure(run) for run in runs)


def rate(run: Run) -> float:
    """Readings a second, from the first message sent to the last in the log."""
    return run.readings / run.seconds


def cpu(run: Run) -> float:
    """The contestant's CPU seconds per 100,000 readings."""
    return run.spent.own.cpu_s / run.readings * 1e5


def rss(run: Run) -> float:
    """Its peak of resident memory, MiB."""
    return run.spent.own.peak_bytes / _MIB


def host() -> str:
    """Where and when this is, and with what."""
    cpu = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in cpu if line.startswith("model name")), "?")
    versions = ", ".join(f"{name} {version(name)}" for name in ("mq-bridge", "aiomqtt", "confluent-kafka"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores of {model}; Python {platform.python_version()}, "
        f"Kafka {kafka.VERSION}, Telegraf {telegraf.VERSION}, {versions}"
    )


def report(results: Results) -> str:
    """Every table, in Markdown."""
    parts = []
    for source, title in (
        ("stand-in", "from the stand-in, which never limits"),
        ("mosquitto", "through mosquitto"),
    ):
        rows = {key[2]: runs for key, runs in results.items() if key[:2] == (source, _JSON)}
        if rows:
            parts.append(_json_table(title, rows))
    frames = {key[1]: runs for key, runs in results.items() if key[2] == EDGE_FRAMES.name}
    if frames:
        parts.append(_frame_table(frames))
    others = [run.spent.others for runs in results.values() for run in runs]
    parts.append(
        f"Cores that other work on the machine took during the runs: median {median(others):.2f}, "
        f"most {max(others):.2f}."
    )
    return "\n\n".join([*parts, _goals(results)])


def _json_table(title: str, rows: Mapping[str, Sequence[Run]]) -> str:
    peer, floor = rows.get(MQ_BRIDGE.name), rows.get(RAW)
    heads = (
        "contestant", "messages/s", "times mq-bridge", "times raw", "CPU s", "times mq-bridge", "peak RSS",
        "source CPU s", "Kafka CPU s", "records", "doubled", "acked ahead",
    )  # fmt: skip
    lines = []
    for name, runs in rows.items():
        ahead = [run.ahead for run in runs if run.ahead is not None]
        cells = (
            name,
            f"{of(runs, rate):,.0f}",
            _ratio(runs, peer, rate),
            _ratio(runs, floor, rate),
            f"{of(runs, cpu):.2f}",
            _ratio(runs, peer, cpu),
            f"{of(runs, rss):.0f}",
            f"{of(runs, lambda run: run.spent.source_cpu_s / run.readings * 1e5):.2f}",
            f"{of(runs, lambda run: run.spent.kafka_cpu_s / run.readings * 1e5):.2f}",
            f"{of(runs, lambda run: run.records):,.0f}" if name != RAW else "",
            f"{of(runs, lambda run: run.verdict.doubled):,.0f}",
            f"{max(ahead):,}" if ahead else "",
        )
        lines.append(cells)
    return f"One 150-byte JSON reading a message, {title}\n\n{table(heads, lines)}"


def _frame_table(rows: Mapping[str, Sequence[Run]]) -> str:
    heads = ("frames", "readings/s", "readings a CPU second", "messages/s", "peak RSS", "doubled")
    lines = [
        (
            name,
            f"{of(runs, rate):,.0f}",
            f"{of(runs, per_core):,.0f}",
            f"{of(runs, lambda run: run.messages / run.seconds):,.0f}",
            f"{of(runs, rss):.0f}",
            f"{of(runs, lambda run: run.verdict.doubled):,.0f}",
        )
        for name, runs in rows.items()
    ]
    return f"Edges' frames through the gateway, from the stand-in\n\n{table(heads, lines)}"


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first column to the left."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *lines))


def per_core(run: Run) -> float:
    """Readings a CPU second of the gateway."""
    return run.readings / run.spent.own.cpu_s


def _ratio(runs: Sequence[Run], other: Sequence[Run] | None, figure: Callable[[Run], float]) -> str:
    return f"{of(runs, figure) / of(other, figure):.2f}" if other else ""


def _goals(results: Results) -> str:
    """Each goal beside what this run came to, where it ran what the goal is about."""
    lines: list[tuple[str, ...]] = []

    def goal(
        text: str, needed: Sequence[Key], value: Callable[..., float], limit: float, *, most: bool = False
    ) -> None:
        if all(key in results for key in needed):
            got = value(*(results[key] for key in needed))
            met = got <= limit if most else got >= limit
            wanted = f"{'≤' if most else '≥'} {limit:,.{0 if limit > 10 else 2}f}"
            lines.append((text, f"{got:,.{0 if limit > 10 else 2}f}", wanted, "yes" if met else "no"))

    def over(figure: Callable[[Run], float]) -> Callable[[Sequence[Run], Sequence[Run]], float]:
        return lambda ours, theirs: of(ours, figure) / of(theirs, figure)

    for form in (FRAMED.name, ONE_EACH.name):
        fast, slow = ("stand-in", _JSON, form), ("mosquitto", _JSON, form)
        goal(f"{form}: times mq-bridge, stand-in", [fast, ("stand-in", _JSON, MQ_BRIDGE.name)], over(rate), 2)
        goal(f"{form}: times raw subscriber, mosquitto", [slow, ("mosquitto", _JSON, RAW)], over(rate), 0.95)
        peer = ("mosquitto", _JSON, MQ_BRIDGE.name)
        goal(f"{form}: times mq-bridge's CPU, mosquitto", [slow, peer], over(cpu), 0.75, most=True)
        for source, key in (("stand-in", fast), ("mosquitto", slow)):
            goal(f"{form}: peak RSS MiB, {source}", [key], lambda runs: of(runs, rss), 80, most=True)
    for frames, least in (("frames of 1,000", 1e6), ("frames of 20", 2e5)):
        key = ("stand-in", frames, EDGE_FRAMES.name)
        goal(f"{frames}: readings a CPU second", [key], lambda runs: of(runs, per_core), least)
        goal(f"{frames}: peak RSS MiB", [key], lambda runs: of(runs, rss), 80, most=True)
    return table(("goal", "here", "wanted", "met"), lines)
