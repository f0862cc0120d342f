"""Judges what `industrialmind score` ships on every data set that is there, beside floors measured in the same run.

One configuration serves every set; its hash is printed. Five seeds; limits from FIT alone; no point adjustment.

    PYTHONPATH=. python bench/models.py --set SKAB --quick    # one seed, one set: seconds
"""

import argparse
import sys
from pathlib import Path

from bench.judge.page import report
from bench.judge.run import judge
from cloud.training.datasets.protocols import ANOMALY_SETS
from cloud.training.logic import Config
from shared.errors import Misconfigured
from shared.settings import datasets_dir

SEEDS = 5


def say(text: str) -> None:
    """Progress, beside the tables."""
    sys.stderr.write(f"{text}\n")


def main() -> None:
    """Judge, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=datasets_dir(), help="folder that holds the data sets")
    parser.add_argument(
        "--set", action="append", choices=tuple(ANOMALY_SETS), dest="sets", help="default: all"
    )
    parser.add_argument("--quick", action="store_true", help="one seed")
    given = parser.parse_args()
    seeds = range(1 if given.quick else SEEDS)
    print(
        f"configuration {Config().sha256()[:12]}, seeds {', '.join(map(str, seeds))}, limits from FIT alone\n"
    )
    for name in given.sets or ANOMALY_SETS:
        try:
            data = ANOMALY_SETS[name](given.data)
        except Misconfigured as error:
            say(str(error))
            continue
        print(report(judge(data, seeds, say)) + "\n")


if __name__ == "__main__":
    main()
