"""Commands for a plant on servers of its own: `servers config`, `servers ensure`."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer

from industrialmind.options import ConfigOption, JsonOption
from shared.errors import Misconfigured

servers_app = typer.Typer(help="A plant on servers of its own.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(servers_app, name="servers")


@servers_app.command("config")
def servers_config(
    folder: Annotated[Path, typer.Argument(help="The folder with docker-compose.yml.")] = Path(),
    site: Annotated[str, typer.Option(help="The plant.")] = "demo",
    edge: Annotated[
        list[str] | None,
        typer.Option(help="EDGE=MACHINE,MACHINE…; may be given again. The demonstration's without it."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write the servers' accounts, rules and secrets; secrets that are there stay."""
    from industrialmind.servers import DEMO_EDGES, scopes, write_servers_config
    from shared.names import check_id

    named = parse_edges(edge or ())
    edges = scopes(check_id(site, "site"), named) if named else DEMO_EDGES
    files = [str(path) for path in write_servers_config(folder, edges)]
    sys.stdout.write((orjson.dumps({"files": files}).decode() if json else "\n".join(files)) + "\n")


def parse_edges(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`EDGE=MACHINE,MACHINE…` words as edges with their machines. Raises Misconfigured, Rejected."""
    from shared.names import check_id

    named: dict[str, tuple[str, ...]] = {}
    for one in words:
        name, _, machines = one.partition("=")
        if not machines or name in named:
            raise Misconfigured(
                f"--edge {one!r} names no machines", hint="give EDGE=MACHINE,MACHINE once an edge"
            )
        named[check_id(name, "edge")] = tuple(check_id(part, "machine") for part in machines.split(","))
    return named


@servers_app.command("ensure")
def servers_ensure(config: ConfigOption = None) -> None:
    """Make what the parts find at their start: the log's topics, buckets, and who speaks for which machine."""
    from industrialmind.sections import given_sections
    from industrialmind.servers import ensure_servers
    from industrialmind.servers_settings import ServersSettings
    from shared.log import configure

    given_sections(config)
    configure("servers")
    asyncio.run(ensure_servers(ServersSettings.load(toml=config)))
