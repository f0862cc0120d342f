"""Commands on recordings and on what was stored: `score`, `rul`, `ledger`, `sim dataset`, `sim replay`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from industrialmind.options import DATA, DataOption, JsonOption


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(score)
    app.command()(rul)
    app.command()(ledger)


def score(
    fit: Annotated[
        Path, typer.Option(help="CSV of healthy rows: time first, then numeric sensors.", dir_okay=False)
    ],
    test: Annotated[Path, typer.Option(help="CSV of the rows to score, same columns.", dir_okay=False)],
    out: Annotated[Path, typer.Option(help="CSV to write: time, score, alarm, a contribution a sensor.")],
    json: JsonOption = False,
) -> None:
    """Fit on one file, score another; the limit comes from FIT alone."""
    from industrialmind.score import run_score

    report = run_score(fit, test, out)
    if json:
        sys.stdout.write(orjson.dumps(report.as_dict()).decode() + "\n")
    else:
        sys.stdout.write(f"{report}\n")


def rul(
    train: Annotated[
        Path,
        typer.Option(help="CSV of units that each ran to failure: unit, cycle, sensors.", dir_okay=False),
    ],
    test: Annotated[Path, typer.Option(help="CSV of the units to ask about, same columns.", dir_okay=False)],
    out: Annotated[Path, typer.Option(help="CSV to write: unit, rul, rul_lo, rul_hi.")],
    cap: Annotated[
        str,
        typer.Option(
            metavar="N|auto|0", help="Longest life that is told; 0 = no cap; auto finds it on TRAIN."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Draws what is drawn: the same seed, the same file.")] = 0,
    json: JsonOption = False,
) -> None:
    """Learn remaining life on one file, tell it of another's units with a 90 % interval."""
    from industrialmind.progress import Teller
    from industrialmind.rul import parse_cap, run_rul
    from shared.clock import SystemClock

    knee = parse_cap(cap)
    with Teller("rul", SystemClock(), json=False) as teller:
        report = run_rul(train, test, out, cap=knee, seed=seed, tell=teller.phase("fitting"))
    if json:
        sys.stdout.write(orjson.dumps(report.as_dict()).decode() + "\n")
    else:
        sys.stdout.write(f"{report}\n")


def ledger(
    data: DataOption = DATA,
    audit: Annotated[
        bool, typer.Option("--audit", help="Read log and store again and compare them row by row.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """What each edge produced and where it is now; every gap, duplicate and conflict. Exit 1 if a row is missing."""
    from industrialmind.ledger import render, run_ledger

    report = asyncio.run(run_ledger(data, audited=audit))
    if json:
        sys.stdout.write(report.model_dump_json() + "\n")
    else:
        render(report)
    raise typer.Exit(report.exit_code)
