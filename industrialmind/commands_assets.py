"""`assets list|show|set|retire|restore|export|import`: what the plant consists of."""

import asyncio
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from industrialmind.options import DATA, DataOption, JsonOption

assets_app = typer.Typer(help="Sites, areas, machines, components, sensors, edges.", no_args_is_help=True)

FILE_WIDTH = 160
"""Columns of a table that goes to no terminal."""

KindArgument = Annotated[str, typer.Argument(help="site, area, machine, component, sensor or edge.")]
AssetArgument = Annotated[str, typer.Argument(help="Its id; MACHINE.NAME for a component or sensor.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(assets_app, name="assets")


@assets_app.command("list")
def assets_list(
    kind: Annotated[str, typer.Option(help="site, area, machine, component, sensor or edge.")] = "machine",
    machine: Annotated[str, typer.Option(help="Only of this machine.")] = "",
    site: Annotated[str, typer.Option(help="Only of this site.")] = "",
    text: Annotated[str, typer.Option(help="Only where id or name has this text, in any case.")] = "",
    retired: Annotated[bool, typer.Option("--retired", help="Those too that are out of use.")] = False,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Assets of a kind with their fields."""
    from industrialmind.assets import reading
    from industrialmind.plant import DataDir

    wanted = {"machine": machine, "site": site, "text": text, "retired": "true" if retired else ""}
    filters = {name: value for name, value in wanted.items() if value}

    async def read() -> list[Mapping[str, Any]]:
        async with reading(DataDir(data)) as reader:
            return await reader.assets(_kind(kind), filters)

    found = asyncio.run(read())
    if json:
        print_json(found)
        return
    columns = sorted({name for asset in found for name in asset["fields"]} - {"description"})
    rows = ([asset["id"], *(_shown(asset["fields"].get(name)) for name in columns)] for asset in found)
    print_table(("id", *columns), rows)


@assets_app.command("show")
def assets_show(
    kind: KindArgument, asset: AssetArgument, data: DataOption = DATA, json: JsonOption = False
) -> None:
    """One asset: each field, and whether it was observed or edited."""
    from industrialmind.assets import reading
    from industrialmind.plant import DataDir

    async def read() -> Mapping[str, Any]:
        async with reading(DataDir(data)) as reader:
            return await reader.asset(_kind(kind), asset)

    found = asyncio.run(read())
    if json:
        print_json(found)
        return
    who = f"revision {found['revision']}, {found['changed_at']} by {found['changed_by']}"
    retired = f", retired: {found['retired_why']}" if found["retired_at"] else ""
    sys.stdout.write(f"{found['kind']} {found['id']} ({who}{retired})\n")
    rows = ([name, _shown(value), found["sources"][name]] for name, value in sorted(found["fields"].items()))
    print_table(("field", "value", "source"), rows)


@assets_app.command("set")
def assets_set(
    kind: KindArgument,
    asset: AssetArgument,
    fields: Annotated[list[str], typer.Argument(help="FIELD=VALUE; FIELD=null: what is observed.")],
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Change an asset's fields, or make an asset that was not seen."""
    from industrialmind.assets import set_fields
    from industrialmind.client import Client
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        done = set_fields(client, _kind(kind), asset, fields)
    if json:
        print_json(done)
        return
    said = "is at" if done["changed"] else "was so already, at"
    sys.stdout.write(f"{kind} {asset} {said} revision {done['asset']['revision']}\n")


@assets_app.command("retire")
def assets_retire(
    kind: KindArgument,
    asset: AssetArgument,
    why: Annotated[str, typer.Option(help="Why it goes out of use.")],
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Take an asset out of use, a machine with its parts; its history stays."""
    done = post_change(data, f"/v1/assets/{_kind(kind)}/{asset}/retire", {"why": why})
    _tell_asset(done, "is out of use", json=json)


@assets_app.command("restore")
def assets_restore(
    kind: KindArgument, asset: AssetArgument, data: DataOption = DATA, json: JsonOption = False
) -> None:
    """Put an asset in use again."""
    _tell_asset(post_change(data, f"/v1/assets/{_kind(kind)}/{asset}/restore", {}), "is in use", json=json)


@assets_app.command("export")
def assets_export(
    file: Annotated[
        Path | None, typer.Argument(help="A .yaml or .csv file; YAML to stdout without it.")
    ] = None,
    data: DataOption = DATA,
) -> None:
    """Every asset in use as a file that can be edited and imported."""
    from industrialmind.assets import layout_of, reading
    from industrialmind.plant import DataDir
    from shared.errors import Misconfigured

    layout = "yaml" if file is None else layout_of(file)

    async def read() -> str:
        async with reading(DataDir(data)) as reader:
            return await reader.export(layout)

    text = asyncio.run(read())
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_bytes(text.encode())
    except OSError as error:
        raise Misconfigured(
            f"{file} can't be written: {error.strerror}", hint="choose another file"
        ) from error


@assets_app.command("import")
def assets_import(
    file: Annotated[Path, typer.Argument(help="A .yaml or .csv file.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Bring assets to what a file says. With a fault in it nothing is changed; nothing is retired by being left out."""
    from industrialmind.assets import import_file
    from industrialmind.client import Client
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        made = import_file(client, file, dry_run=dry_run)
    if json:
        print_json(made)
        return
    for one in made["differences"]:
        changes = ", ".join(f"{k}: {_shown(old)} -> {_shown(new)}" for k, (old, new) in one["fields"].items())
        sys.stdout.write(f"line {one['line']}: {one['action']} {one['kind']} {one['id']}  {changes}\n")
    count = len(made["differences"])
    sys.stderr.write(f"{count} {'changed' if made['applied'] else 'would change'}\n")


def _tell_asset(done: Any, what: str, *, json: bool) -> None:  # noqa: ANN401 - JSON
    if json:
        print_json(done)
        return
    asset, already = done["asset"], "" if done["changed"] else " already"
    sys.stdout.write(f"{asset['kind']} {asset['id']} {what}{already}, at revision {asset['revision']}\n")


def post_change(data: Path, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """The running plant's answer to a change, which is made once. Raises Unavailable, Rejected, NotFound, Conflict."""
    from industrialmind.client import Client
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        return client.post(path, body, idempotency_key=str(uuid.uuid4()))


def _kind(name: str) -> Any:  # noqa: ANN401 - a Kind, whose module loads only now
    from cloud.assets.model import KINDS, Kind
    from shared.errors import Rejected

    if name not in KINDS:
        raise Rejected(f"{name[:40]!r} is no kind: there are {', '.join(Kind)}")
    return Kind(name)


def _shown(value: Any) -> str:  # noqa: ANN401 - a field
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def print_json(value: Any) -> None:  # noqa: ANN401 - JSON
    """To stdout, on one line."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """To stdout, at a fixed width where that is no terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from shared.settings import no_color

    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(no_color=no_color(), markup=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    console.print(table)
