"""The command line: data to stdout, logs to stderr, exit codes 0 ok, 1 a finding, 2 wrong usage, 3 unavailable.

Each command imports what it needs when it runs, so that an edge agent's process never loads the cloud.
"""

import sys
from typing import Final

import typer

from industrialmind import (
    commands_assets,
    commands_backup,
    commands_data,
    commands_datasets,
    commands_discover,
    commands_dlq,
    commands_edge,
    commands_labels,
    commands_life,
    commands_log,
    commands_models,
    commands_people,
    commands_pki,
    commands_plant,
    commands_rebuild,
    commands_run,
    commands_servers,
    commands_work,
)
from shared.errors import Conflict, IndustrialMindError, Misconfigured, NotFound, Rejected, Unavailable

EXIT_FINDING: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 3

app = typer.Typer(
    name="industrialmind",
    help="Condition monitoring and predictive maintenance, from the sensor to the store, with nothing lost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # markup would swallow what stands in brackets, such as [replay]
    add_completion=False,
)
commands_plant.add_to(app)
commands_run.add_to(app)
commands_edge.add_to(commands_run.edge_app)
commands_data.add_to(app)
commands_datasets.add_to(app)
commands_discover.add_to(app)
commands_models.add_to(app)
commands_people.add_to(app)
commands_assets.add_to(app)
commands_work.add_to(app)
commands_labels.add_to(app)
commands_life.add_to(app)
commands_log.add_to(app)
commands_dlq.add_to(app)
commands_rebuild.add_to(app)
commands_servers.add_to(app)
commands_pki.add_to(app)
commands_backup.add_to(app)


def exit_code(error: IndustrialMindError) -> int:
    """The exit code for an error that reached the user."""
    match error:
        case Misconfigured() | Rejected():
            return EXIT_USAGE
        case Unavailable():
            return EXIT_UNAVAILABLE
        case Conflict() | NotFound():
            return EXIT_FINDING
    return EXIT_FINDING


def main() -> None:
    """The console script."""
    try:
        app()
    except IndustrialMindError as error:
        sys.stderr.write(f"industrialmind: {error}\n")
        sys.exit(exit_code(error))
