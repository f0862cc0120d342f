"""Judges remaining life on C-MAPSS as `industrialmind rul` tells it, beside boosted quantiles fitted in the same run.

One configuration serves every set; its hash is printed. Both label conventions, always. Test labels are read when all was told.

    PYTHONPATH=. python bench/life.py --write-docs    # the part of docs/benchmarks.md
    PYTHONPATH=. python bench/life.py --network --write-docs    # the Transformer-LSTM beside the trees, a part of its own
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson

from bench.judge.page import PAGE
from bench.peers.docs import keep
from cloud.life.features import features
from cloud.life.logic import Config, fit
from cloud.life.runs import Runs, make_runs
from cloud.life.sklearn import fit_trees
from cloud.training.datasets.cmapss import (
    CAP,
    COLUMNS,
    WITH_TEST,
    WITHOUT,
    LifeRows,
    LifeSet,
    hold_out,
    load,
    whole,
)
from cloud.training.measures.life import coverage, coverage_by, phm08, rmse, winkler
from shared.settings import datasets_dir
from shared.windows import Floats, Ints

FOLDS = 4
BINS = (0.0, 25.0, 50.0, 75.0, 100.0, np.inf)
GATES = {"FD001": (12.3, 11.2), "FD003": (11.8, 10.0)}
Figures = dict[str, float]


@dataclass(frozen=True, eq=False)
class Told:
    """What was told of each unit beside the truth, and what boosted quantiles say; `engine` tells cuts of one engine."""

    life: Floats
    low: Floats
    high: Floats
    quantile_low: Floats
    quantile_high: Floats
    truth: Floats
    engine: Ints

    def figures(self) -> Figures:
        """By both conventions."""
        capped = np.minimum(self.truth, CAP)
        bins = coverage_by(self.life, self.low, self.high, self.truth, BINS)
        return {
            "engines": float(len(np.unique(self.engine))),
            "raw": rmse(self.life, self.truth),
            "capped": rmse(self.life, capped),
            "perfect": rmse(capped, self.truth),
            "phm08": phm08(self.life, self.truth),
            "phm08 capped": phm08(self.life, capped),
            "covered": coverage(self.low, self.high, self.truth),
            "width": float((self.high - self.low).mean()),
            "winkler": winkler(self.low, self.high, self.truth),
            "quantiles covered": coverage(self.quantile_low, self.quantile_high, self.truth),
            "quantiles winkler": winkler(self.quantile_low, self.quantile_high, self.truth),
            **{f"covered {each.begin:g}": each.coverage for each in bins},
        }


def runs_of(rows: LifeRows) -> Runs:
    """As the command reads a file; names say nothing."""
    names = [f"column {at}" for at in range(len(COLUMNS))]
    return make_runs([str(unit) for unit in rows.unit.tolist()], rows.cycle, rows.values, names)


def tell(data: LifeSet, seed: int) -> Told:
    """Learn on the one part, tell the other."""
    train, test = runs_of(data.train), runs_of(data.test)
    model = fit(train, Config(seed=seed))
    told = model.estimate(test)
    sys.stderr.write(f"{data.name}, seed {seed}: {len(train)} engines learnt from, knee {model.knee:.1f}\n")
    table = features(model.conditions, model.spans, train)
    position = np.arange(len(table)) - train.starts[train.of_row]
    rows = position % max(1, round(len(table) / model.config.rows)) == 0
    newest = model.features(test)[test.last]
    low, high = (
        fit_trees(table[rows], train.remaining[rows], seed=seed, quantile=share).predict(newest)
        for share in (0.05, 0.95)
    )
    return Told(told.life, told.low, told.high, low, high, data.left, data.engine)


def pooled(parts: list[Told]) -> Told:
    """As one; engines of different parts are different."""
    apart = 1 + max(int(part.engine.max()) for part in parts)
    shifted = [part.engine + apart * at for at, part in enumerate(parts)]
    joined = {
        each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Told)
    }
    return replace(Told(**joined), engine=np.concatenate(shifted))


def by_folds(folder: Path, name: str) -> Told:
    """Every engine of the training part told once, by a model that had not seen it."""
    rows = whole(folder, name)
    engines = np.unique(rows.unit)
    fold = np.random.default_rng(1).permutation(len(engines)) % FOLDS
    parts = []
    for number in range(FOLDS):
        held = np.isin(rows.unit, engines[fold == number])
        count = int((fold == number).sum())
        cut = hold_out(name, rows.take(np.flatnonzero(held)), number, engines=count)
        parts.append(
            tell(LifeSet(name, rows.take(np.flatnonzero(~held)), cut.test, cut.left, cut.engine), number)
        )
    return pooled(parts)


def judged(given: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Name and figures of each part, as it is done."""
    for name in WITH_TEST:
        for seed in range(given.seeds):
            yield f"{name}, test, seed {seed}", tell(load(given.data, name), seed).figures()
    for name in WITHOUT:
        yield f"{name}, 60 held out", tell(load(given.data, name), 0).figures()
    parts = []
    for name in (*WITH_TEST, *WITHOUT):
        parts.append(by_folds(given.data, name))
        yield f"{name}, {FOLDS} folds", parts[-1].figures()
    yield "all four, folds", pooled(parts).figures()


def page(found: dict[str, Figures]) -> str:
    """The part of docs/benchmarks.md."""
    head = (
        "| | engines | RMSE raw | capped | perfect but capped | PHM08 raw | capped | 90 % covers | width | Winkler "
        "| quantiles cover | Winkler |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    )
    keys = (
        *("raw", "capped", "perfect", "phm08", "phm08 capped", "covered", "width", "winkler"),
        *("quantiles covered", "quantiles winkler"),
    )
    shapes = {"phm08": ",.0f", "phm08 capped": ",.0f", "covered": ".3f", "quantiles covered": ".3f"}
    lines = [
        f"| {name} | {each['engines']:.0f} | "
        + " | ".join(f"{each[key]:{shapes.get(key, '.2f')}}" for key in keys)
        + " |"
        for name, each in found.items()
    ]
    bins = [
        f"- {name}: "
        + ", ".join(
            f"from {key.split()[1]} {value:.3f}" for key, value in each.items() if key.startswith("covered ")
        )
        for name, each in found.items()
    ]
    said = f"Configuration `{Config().sha256()[:12]}`; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    return "\n".join(
        [said, "", head, *lines, "", "Covered by bin of predicted life:", "", *bins, "", *gates(found)]
    )


def gates(found: dict[str, Figures]) -> list[str]:
    """Each gate, held or not, by the mean over seeds where there are several."""
    lines = []
    for name, (raw, capped) in GATES.items():
        seeds = [each for key, each in found.items() if key.startswith(f"{name}, test")]
        for key, most in (("raw", raw), ("capped", capped), ("phm08", 240.0)):
            values = [each[key] for each in seeds]
            if values:
                held = "held" if np.mean(values) <= most else "NOT held"
                lines.append(
                    f"- {name} {key} ≤ {most:g}: {np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f}), {held}"
                )
        lines += [
            f"- {key}: 84 to 96 % covered: {each['covered']:.1%}, "
            + ("held" if 0.84 <= each["covered"] <= 0.96 else "NOT held")
            for key, each in found.items()
            if key.startswith(f"{name}, test")
        ]
    for name in WITHOUT:
        if part := found.get(f"{name}, 60 held out"):
            held = "held" if part["capped"] <= 14 else "NOT held"
            lines.append(f"- {name} capped ≤ 14: {part['capped']:.2f}, {held}")
    if part := found.get("all four, folds"):
        held = "held" if 0.88 <= part["covered"] <= 0.92 else "NOT held"
        lines.append(
            f"- pooled, {part['engines']:.0f} engines: 88 to 92 % covered: {part['covered']:.1%}, {held}"
        )
        bins = [value for key, value in part.items() if key.startswith("covered ")]
        held = "held" if min(bins) >= 0.8 and max(bins) <= 0.97 else "NOT held"
        lines.append(f"- pooled, by bin 80 to 97 %: {min(bins):.1%} to {max(bins):.1%}, {held}")
        held = "held" if part["winkler"] < part["quantiles winkler"] else "NOT held"
        lines.append(
            f"- pooled, Winkler below boosted quantiles': {part['winkler']:.1f} against {part['quantiles winkler']:.1f}, {held}"
        )
    return lines


def main() -> None:
    """Judge, print, and keep what was asked for after every part: a run that is cut off leaves what it did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=datasets_dir(), help="folder that holds the data sets")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--metrics", type=Path, help="folder to write C-MAPSS.json into")
    parser.add_argument(
        "--network", action="store_true", help="judge the Transformer-LSTM beside the trees instead"
    )
    given = parser.parse_args()
    if given.network:
        from bench.life_network import judge  # noqa: PLC0415 - torch takes seconds to load

        judge(given.data, write_docs=given.write_docs)
        return
    found: dict[str, Figures] = {}
    for name, figures in judged(given):
        found[name] = figures
        if given.write_docs:
            keep("C-MAPSS", page(found), PAGE)
        if given.metrics:
            told = {"configuration": Config().sha256(), "figures": found}
            (given.metrics / "C-MAPSS.json").write_bytes(
                orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n"
            )
    print(page(found))


if __name__ == "__main__":
    main()
