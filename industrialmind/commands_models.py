"""Commands on models: `train`, `models list`."""

import asyncio
import sys
from typing import Annotated, Any

import orjson
import typer

from industrialmind.options import DATA, DataOption, JsonOption

models_app = typer.Typer(help="Registered models.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(train)
    app.add_typer(models_app, name="models")


def train(
    data: DataOption = DATA,
    machine: Annotated[
        list[str] | None, typer.Option(help="A machine's id; may be given again. All without it.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Fit models on what the store has, register them and deliver them to the machines' edges."""
    from industrialmind.train import train_machines
    from shared.log import configure

    configure("trainer")

    def tell(delivered: dict[str, Any]) -> None:
        if json:
            sys.stdout.write(orjson.dumps(delivered).decode() + "\n")
        else:
            mark = " (provisional)" if delivered["provisional"] else ""
            sys.stdout.write(
                f"{delivered['machine']}: {delivered['model']} v{delivered['version']}{mark} "
                f"{delivered['sha256'][:12]} delivered to {delivered['edge']}\n"
            )
        sys.stdout.flush()

    asyncio.run(train_machines(data, machine or [], tell))


@models_app.command("list")
def models_list(data: DataOption = DATA, json: JsonOption = False) -> None:
    """Every version: which edge is to run it."""
    from rich.console import Console
    from rich.table import Table

    from industrialmind.client import Client
    from industrialmind.plant import DataDir
    from shared.settings import no_color

    with Client.of(DataDir(data)) as client:
        models = client.get("/v1/models")["models"]
    if json:
        sys.stdout.write(orjson.dumps(models).decode() + "\n")
        return
    table = Table("machine", "model", "version", "hash", "provisional", "registered", "wanted on")
    for model in models:
        table.add_row(
            model["machine"],
            model["name"],
            str(model["version"]),
            model["version_hash"][:12],
            "yes" if model["provisional"] else "no",
            model["registered_at"][:19],
            ", ".join(model["promoted_to"]),
        )
    Console(no_color=no_color(), markup=False).print(table)
