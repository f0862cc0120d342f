"""Commands on remaining life: `life train`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from industrialmind.options import DATA, ConfigOption, DataOption, JsonOption

life_app = typer.Typer(help="Models of remaining life.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(life_app, name="life")


@life_app.callback()
def _life() -> None:
    """Models of remaining life."""


@life_app.command("train")
def life_train(
    train: Annotated[
        Path,
        typer.Option(help="CSV of units that each ran to failure: unit, cycle, sensors.", dir_okay=False),
    ],
    machine: Annotated[list[str], typer.Option(help="A machine that it is for; may be given again.")],
    failure: Annotated[str, typer.Option(help="What counted as failure, in words.")],
    load: Annotated[
        str, typer.Option(help="The duty that is assumed, in words.")
    ] = "as in the histories that were learnt from",
    cycle_hours: Annotated[float, typer.Option(min=0.001, help="Hours of running that a cycle is.")] = 1.0,
    cap: Annotated[
        str,
        typer.Option(
            metavar="N|auto|0", help="Longest life that is told, in cycles; 0 = no cap; auto finds it."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Draws what is drawn.")] = 0,
    deliver: Annotated[
        bool,
        typer.Option("--deliver", help="An engineer's word: it takes the place of the one that tells now."),
    ] = False,
    data: DataOption = DATA,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Fit a model of remaining life on a file and register it; a machine's first one tells its life from then on."""
    from industrialmind.life_train import fit_life, register_fitted
    from industrialmind.progress import Teller
    from industrialmind.rul import parse_cap
    from industrialmind.sections import given_sections
    from industrialmind.train_settings import TrainSettings
    from shared.clock import SystemClock

    clock = SystemClock()
    on_servers = TrainSettings.load(toml=config) if "train" in given_sections(config) else None
    knee = parse_cap(cap)
    with Teller("life", clock, json=False) as teller:
        artifact = fit_life(
            train,
            machine,
            failure=failure,
            load=load,
            cycle_hours=cycle_hours,
            cap=knee,
            seed=seed,
            clock=clock,
            tell=teller.phase("fitting"),
        )
    done = asyncio.run(register_fitted(data, on_servers, artifact, clock, deliver=deliver))
    sys.stdout.write((orjson.dumps(done.as_dict()).decode() if json else str(done)) + "\n")
