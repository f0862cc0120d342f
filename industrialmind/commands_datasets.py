"""The command on public recordings: `datasets list`."""

import sys

import orjson
import typer

from industrialmind.options import JsonOption

datasets_app = typer.Typer(help="Public data sets that models are judged on, by path.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.add_typer(datasets_app, name="datasets")


@datasets_app.command("list")
def datasets_list(json: JsonOption = False) -> None:
    """What lies in the folder of IM_DATASETS, with rows and licences, and how to get the rest."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from cloud.training.datasets.catalogue import look
    from shared.settings import datasets_dir, no_color

    folder = datasets_dir()
    found = look(folder)
    if json:
        told = [
            {
                "name": each.data.name,
                "kind": each.data.kind,
                "state": each.state,
                "rows": each.rows,
                "licence": each.data.licence,
                "repository": each.data.repository,
                "commit": each.data.commit,
                "missing": [str(path) for path in each.missing],
                "how": each.how,
            }
            for each in found
        ]
        sys.stdout.write(orjson.dumps({"folder": str(folder.resolve()), "sets": told}).decode() + "\n")
        return
    console = Console(no_color=no_color(), highlight=False, width=None if sys.stdout.isatty() else 160)
    table = Table("set", "for", "state", "rows", "licence", "repository", box=SIMPLE_HEAD)
    for each in found:
        rows = f"{each.rows:,}" if each.rows else ""
        table.add_row(
            each.data.name, each.data.kind, each.state, rows, each.data.licence, each.data.repository
        )
    console.print(f"{folder.resolve()}")
    console.print(table)
    for each in found:
        if each.how:
            console.print(f"{each.data.name}: {each.how}", soft_wrap=True)
