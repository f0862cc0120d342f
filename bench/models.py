"""Judges what `industrialmind score` ships on every data set that is there, beside floors measured in the same run.

One configuration serves every set; its hash is printed. Five seeds; limits from FIT alone; nothing is point-adjusted.

    PYTHONPATH=. python bench/models.py --write-docs         # docs/benchmarks.md, all that is there
    PYTHONPATH=. python bench/models.py --set SKAB --quick   # one seed, no controls: seconds
"""

import argparse
import sys
from pathlib import Path

import orjson

from bench.judge.controls import control
from bench.judge.methods import configuration
from bench.judge.page import PAGE, plain, section
from bench.judge.run import judge
from bench.peers.docs import keep
from cloud.training.datasets.protocols import ANOMALY_SETS
from shared.errors import Misconfigured
from shared.settings import datasets_dir

SEEDS = 5


def say(text: str) -> None:
    """Progress, beside the tables."""
    sys.stderr.write(f"{text}\n")


def arguments() -> argparse.ArgumentParser:
    """What may be given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=datasets_dir(), help="folder that holds the data sets")
    parser.add_argument(
        "--set", action="append", choices=tuple(ANOMALY_SETS), dest="sets", help="default: all"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, no controls")
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--metrics", type=Path, help="folder to write a JSON file a set into")
    return parser


def run(given: argparse.Namespace, name: str) -> None:
    """Judge one set and tell it. Raises Misconfigured: it is not there."""
    data = ANOMALY_SETS[name](given.data)
    seeds = range(1 if given.quick else SEEDS)
    judged = judge(data, seeds, say)
    controls = [] if given.quick else control(judged.answers.runs, seeds[0], say=say)
    text = section(judged, controls, configuration(), seeds)
    print(f"## {name}\n\n{text}\n", flush=True)
    if given.write_docs:
        keep(name, text, PAGE)
    if given.metrics:
        given.metrics.mkdir(parents=True, exist_ok=True)
        told = plain(judged, controls, configuration(), seeds)
        (given.metrics / f"{name}.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")


def main() -> None:
    """Judge what was asked for. A set that was named and is not there is an error; else it is left out, and said."""
    given = arguments().parse_args()
    for name in given.sets or ANOMALY_SETS:
        try:
            run(given, name)
        except Misconfigured as error:
            if given.sets:
                raise SystemExit(str(error)) from error
            say(f"{name} is left out: {error}")


if __name__ == "__main__":
    main()
