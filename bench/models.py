"""Judges what `industrialmind score` ships on every data set that is there, beside floors measured in the same run.

One configuration serves every set; its hash is printed. Five seeds; limits from FIT alone; nothing is point-adjusted.

    PYTHONPATH=. python bench/models.py --write-docs         # docs/benchmarks.md, all that is there
    PYTHONPATH=. python bench/models.py --set SKAB --quick   # one seed, no controls: seconds
    PYTHONPATH=. python bench/models.py --set SIMULATOR      # what training delivers, on machines drawn now; --seed repeats them
"""

import argparse
import secrets
import sys
from pathlib import Path
from typing import Any

import orjson

from bench.judge.controls import control
from bench.judge.methods import configuration
from bench.judge.page import PAGE, plain, section
from bench.judge.run import judge
from bench.peers.docs import keep
from bench.simulator import page as simulator_page
from bench.simulator.faults import load
from bench.simulator.run import judge as judge_simulator
from cloud.training.datasets.protocols import ANOMALY_SETS
from shared.errors import Misconfigured
from shared.settings import datasets_dir

SEEDS = 5
SIMULATOR = "SIMULATOR"


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
        "--set", action="append", choices=(*ANOMALY_SETS, SIMULATOR), dest="sets", help="default: all"
    )
    parser.add_argument(
        "--seed", type=int, help="of the simulator's first machines, to repeat a run; else drawn"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, no controls")
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--metrics", type=Path, help="folder to write a JSON file a set into")
    return parser


def run(given: argparse.Namespace, name: str) -> None:
    """Judge one set and tell it. Raises Misconfigured: it is not there."""
    text, told = simulated(given) if name == SIMULATOR else recorded(given, name)
    print(f"## {name}\n\n{text}\n", flush=True)
    if given.write_docs:
        keep(name, text, PAGE)
    if given.metrics:
        given.metrics.mkdir(parents=True, exist_ok=True)
        (given.metrics / f"{name}.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")


def recorded(given: argparse.Namespace, name: str) -> tuple[str, dict[str, Any]]:
    """Public recordings, as text and as plain figures."""
    data = ANOMALY_SETS[name](given.data)
    seeds = range(1 if given.quick else SEEDS)
    judged = judge(data, seeds, say)
    controls = [] if given.quick else control(judged.answers.runs, seeds[0], say=say)
    text = section(judged, controls, configuration(), seeds)
    return text, plain(judged, controls, configuration(), seeds)


def simulated(given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Simulated machines, likewise. Seeds are drawn now, unless they are given."""
    spec = load()
    first = secrets.randbelow(2**31) if given.seed is None else given.seed
    say(f"{SIMULATOR}: faults {spec.sha256[:12]}, --seed {first}")
    judged = judge_simulator(spec, range(first, first + (1 if given.quick else spec.machines["each"])), say)
    return simulator_page.section(judged, configuration()), simulator_page.plain(judged, configuration())


def main() -> None:
    """Judge what was asked for. A set that was named and is not there is an error; else it is left out, and said."""
    given = arguments().parse_args()
    for name in given.sets or (*ANOMALY_SETS, SIMULATOR):
        try:
            run(given, name)
        except Misconfigured as error:
            if given.sets:
                raise SystemExit(str(error)) from error
            say(f"{name} is left out: {error}")


if __name__ == "__main__":
    main()
