"""Commands on remaining life: `life train`."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

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
    failure: Annotated[str, typer.Option(help="What counted as failure, in words.")],
    train: Annotated[
        Path | None,
        typer.Option(
            help="CSV of units that each ran to failure: unit, cycle, sensors. Without it the store's histories.",
            dir_okay=False,
        ),
    ] = None,
    machine: Annotated[
        list[str] | None, typer.Option(help="A machine that it is for; may be given again.")
    ] = None,
    type_: Annotated[str, typer.Option("--type", help="All machines of this type.")] = "",
    code: Annotated[
        list[str] | None,
        typer.Option(help="A failure code that is the failure; may be given again. Any without it."),
    ] = None,
    from_new: Annotated[
        bool, typer.Option("--from-new", help="The machines were new when the store first saw them.")
    ] = False,
    running: Annotated[
        str,
        typer.Option(
            metavar="SENSOR:OFF",
            help="It runs while this sensor is above OFF; what the plant says of them without it.",
        ),
    ] = "",
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
    """Fit a model of remaining life and register it; a machine's first one tells its life from then on."""
    from industrialmind.life_train import (
        Wish,
        fit_life,
        histories_of,
        machines_of,
        register_fitted,
        running_rule,
    )
    from industrialmind.progress import Teller
    from industrialmind.rul import parse_cap
    from industrialmind.run_table import read_runs
    from industrialmind.sections import given_sections
    from industrialmind.train_settings import TrainSettings
    from industrialmind.train_words import STEPS, progress
    from shared.clock import SystemClock

    if bool(machine) == bool(type_):
        raise typer.BadParameter("name machines by --machine, or all of a kind by --type")
    if train is None and cycle_hours != 1.0:
        raise typer.BadParameter("--cycle-hours is of a file: a cycle of the store's histories is an hour")
    clock = SystemClock()
    on_servers = TrainSettings.load(toml=config) if "train" in given_sections(config) else None
    machines = machines_of(data, on_servers, machine or (), type_)
    wish = Wish(
        tuple(each.id for each in machines),
        failure,
        load,
        cycle_hours,
        parse_cap(cap),
        seed,
        running=running_rule(running, machines),
    )
    if train is None:
        found = asyncio.run(histories_of(data, on_servers, wish, codes=code or (), from_new=from_new))
        failed, ages = found.failed, found.running
    else:
        failed, ages = read_runs(train), None
    with Teller("life", clock, json=False) as teller:
        fit = fit_life(failed, wish, clock, running=ages, tell=teller.phase("fitting"))

        def tell(event: Mapping[str, Any]) -> None:
            if event["event"] == "waiting" or event.get("step") in STEPS:
                teller.phase(progress(event))

        done = asyncio.run(register_fitted(data, on_servers, fit, clock, tell, deliver=deliver))
    sys.stdout.write((orjson.dumps(done.as_dict()).decode() if json else str(done)) + "\n")
