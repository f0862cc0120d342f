"""Judges one network for anomaly, remaining life and failure mode beside networks for one of them, and beside what ships.

OMP_NUM_THREADS=1 PYTHONPATH=. python bench/multitask.py --write-docs --metrics bench/figures
"""

import argparse
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import orjson

from bench.judge.page import PAGE
from bench.peers.docs import keep
from bench.tasks.contest import Told, cases, compete, joined
from bench.tasks.figures import MEASURES, Compared, compare
from cloud.life.logic import Config
from shared.settings import datasets_dir

SHAPES = {"life": ".2f", "anomaly": ".3f", "mode": ".3f"}
HEAD = (
    "| | task | figure | units | multi-task | rival | | gain | 95 % interval | multi-task is |\n"
    "|---|---|---|---:|---:|---|---:|---:|---|---|"
)


def row(name: str, found: Compared) -> str:
    """A line of the table. A gain above 0 is the multi-task network's."""
    shape = SHAPES[found.task]
    return (
        f"| {name} | {found.task} | {MEASURES[found.task][0]} | {found.units} | {found.multi:{shape}} | {found.rival} "
        f"| {found.other:{shape}} | {found.gain:+{shape}} | {found.low:+{shape}} to {found.high:+{shape}} | {found.verdict} |"
    )


def page(found: dict[str, list[Compared]], seeds: int) -> str:
    """The part of docs/benchmarks.md."""
    said = f"Configuration `{Config().sha256()[:12]}`, {seeds} seeds; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    return "\n".join([said, "", HEAD, *(row(name, each) for name, of in found.items() for each in of)])


def main() -> None:
    """Seed after seed, set after set; what is done is kept, so a run that is cut off says how many seeds it had."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=datasets_dir(), help="folder that holds the data sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--metrics", type=Path, help="folder to write MULTITASK.json into")
    given = parser.parse_args()
    told: dict[str, list[Told]] = {}
    found: dict[str, list[Compared]] = {}
    for seed in range(given.seeds):
        for case in cases(given.data, seed):
            told.setdefault(case.name, []).append(compete(case))
            found[case.name] = compare(joined(told[case.name]))
            sys.stderr.write(f"{case.name}, seed {seed}\n")
            for each in found[case.name]:
                sys.stderr.write(f"  {row(case.name, each)}\n")
        if given.write_docs:
            keep("multi-task", page(found, seed + 1), PAGE)
        if given.metrics:
            figures = {name: [asdict(each) for each in of] for name, of in found.items()}
            said = {"configuration": Config().sha256(), "seeds": seed + 1, "figures": figures}
            (given.metrics / "MULTITASK.json").write_bytes(
                orjson.dumps(said, option=orjson.OPT_INDENT_2) + b"\n"
            )
    sys.stdout.write(page(found, given.seeds) + "\n")


if __name__ == "__main__":
    main()
