"""Judges the Transformer-LSTM beside the trees on C-MAPSS: chosen by held-out units of the training part, then both told the test part."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.judge.page import PAGE
from bench.life import runs_of
from bench.peers.docs import keep
from cloud.life.choice import Choice, choose, held_out
from cloud.life.logic import Config, Estimates, fit
from cloud.life.torch.fit import fit_network
from cloud.training.datasets.cmapss import CAP, WITH_TEST, load
from cloud.training.measures.life import coverage, phm08, rmse, winkler
from shared.windows import Floats

SEED = 0
HEAD = (
    "| | engines | RMSE raw | capped | PHM08 raw | 90 % covers | Winkler |\n|---|---|---|---|---|---|---|",
    "| | held-out units | trees | network | network less trees | 95 % interval | ships |\n|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True, eq=False)
class Both:
    """Of one set: the choice, and what each then told of the test part, whose errors' difference chooses nothing."""

    name: str
    choice: Choice
    on_test: Choice
    lines: tuple[str, ...]


def line(name: str, told: Estimates, truth: Floats) -> str:
    """A row of the table."""
    return (
        f"| {name} | {len(truth)} | {rmse(told.life, truth):.2f} | {rmse(told.life, np.minimum(truth, CAP)):.2f} "
        f"| {phm08(told.life, truth):,.0f} | {coverage(told.low, told.high, truth):.3f} "
        f"| {winkler(told.low, told.high, truth):.2f} |"
    )


def compare(folder: Path, name: str) -> Both:
    """Fit both, choose, and tell the test part."""
    data = load(folder, name)
    runs, test = runs_of(data.train), runs_of(data.test)
    trees = fit(runs, Config(seed=SEED))
    network = fit_network(runs, trees, seed=SEED)
    rows = network.held.rows
    truth = np.minimum(runs.remaining[rows], trees.knee)
    choice = choose(held_out(trees, runs).life, network.held.life, truth, runs.of_row[rows])
    sys.stderr.write(f"{name}: {choice}\n")
    told = {"trees": trees.estimate(test), "network": network.estimate(test)}
    capped = np.minimum(data.left, CAP)
    return Both(
        name,
        choice,
        choose(told["trees"].life, told["network"].life, capped, data.engine),
        tuple(line(f"{name}, test, {key}", each, data.left) for key, each in told.items()),
    )


def row(name: str, found: Choice, verdict: str) -> str:
    """A row of the table of differences."""
    return (
        f"| {name} | {found.units} | {found.trees:.2f} | {found.network:.2f} | {found.difference:+.2f} "
        f"| {found.low:+.2f} to {found.high:+.2f} | {verdict} |"
    )


def page(found: list[Both]) -> str:
    """The part of docs/benchmarks.md."""
    chosen = []
    for each in found:
        ships = "network" if each.choice.network_ships else "trees"
        chosen += [
            row(f"{each.name}, held out of training", each.choice, ships),
            row(f"{each.name}, test, capped", each.on_test, "chooses nothing"),
        ]
    said = f"Configuration `{Config().sha256()[:12]}`, seed {SEED}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    lines = [each for both in found for each in both.lines]
    return "\n".join(
        [
            said,
            "",
            HEAD[0],
            *lines,
            "",
            "RMSE of capped life and its paired difference:",
            "",
            HEAD[1],
            *chosen,
        ]
    )


def judge(folder: Path, *, write_docs: bool) -> None:
    """Set after set; keep what is done after each."""
    found = []
    for name in WITH_TEST:
        found.append(compare(folder, name))
        if write_docs:
            keep("C-MAPSS network", page(found), PAGE)
    sys.stdout.write(page(found) + "\n")
