"""Install and run real servers for tests and for trying things: `python -m deploy.servers --help`."""

import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from deploy.servers.catalog import SERVERS, server_class
from shared.errors import IndustrialMindError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
_LOOK_S = 0.5


@app.command()
def install(
    names: Annotated[list[str] | None, typer.Argument(help="which; all if none is named")] = None,
) -> None:
    """Install servers that are not there yet."""
    for name in names or SERVERS:
        began = time.monotonic()
        server_class(name).install()
        typer.echo(f"{name:12} {time.monotonic() - began:6.1f} s")


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="which")],
    folder: Annotated[Path | None, typer.Option(help="where its data stay (else they go with it)")] = None,
    port: Annotated[int | None, typer.Option(help="where it listens (else on a free port)")] = None,
) -> None:
    """Run a server until Ctrl-C."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.default_int_handler)  # in a shell's background SIGINT would be ignored
    with tempfile.TemporaryDirectory(prefix=f"im-{name}-") as temporary:
        server = server_class(name)(folder or Path(temporary), port=port)
        try:
            server.start()
            typer.echo(f"{server.url}  pid {server.pid}, data and log in {server.folder}; Ctrl-C ends it")
            while server.running:
                time.sleep(_LOOK_S)
            typer.echo(f"{name} ended by itself: see {server.log_file}", err=True)
            raise typer.Exit(1)
        except KeyboardInterrupt:
            typer.echo("ending …")
        finally:
            server.stop()


def main() -> None:
    """Run the command line; an error that the user can mend is one sentence."""
    try:
        app()
    except IndustrialMindError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
