"""Commands on what the plant consists of: `assets list|show|set|export|import`, `work-orders list|open|close`."""

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
orders_app = typer.Typer(help="Work orders.", no_args_is_help=True)

FILE_WIDTH = 160
"""Columns of a table that goes to no terminal."""

KindArgument = Annotated[str, typer.Argument(help="site, area, machine, component, sensor or edge.")]
AssetArgument = Annotated[str, typer.Argument(help="Its id; MACHINE.NAME for a component or sensor.")]
OrderArgument = Annotated[str, typer.Argument(help="A work order's id.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(assets_app, name="assets")
    app.add_typer(orders_app, name="work-orders")


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
        _print_json(found)
        return
    columns = sorted({name for asset in found for name in asset["fields"]} - {"description"})
    rows = ([asset["id"], *(_shown(asset["fields"].get(name)) for name in columns)] for asset in found)
    _print_table(("id", *columns), rows)


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
        _print_json(found)
        return
    who = f"revision {found['revision']}, {found['changed_at']} by {found['changed_by']}"
    retired = f", retired: {found['retired_why']}" if found["retired_at"] else ""
    sys.stdout.write(f"{found['kind']} {found['id']} ({who}{retired})\n")
    rows = ([name, _shown(value), found["sources"][name]] for name, value in sorted(found["fields"].items()))
    _print_table(("field", "value", "source"), rows)


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
        _print_json(done)
        return
    said = "is at" if done["changed"] else "was so already, at"
    sys.stdout.write(f"{kind} {asset} {said} revision {done['asset']['revision']}\n")


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
        _print_json(made)
        return
    for one in made["differences"]:
        changes = ", ".join(f"{k}: {_shown(old)} -> {_shown(new)}" for k, (old, new) in one["fields"].items())
        sys.stdout.write(f"line {one['line']}: {one['action']} {one['kind']} {one['id']}  {changes}\n")
    count = len(made["differences"])
    sys.stderr.write(f"{count} {'changed' if made['applied'] else 'would change'}\n")


@orders_app.command("list")
def orders_list(
    status: Annotated[str, typer.Option(help="open, 'in progress', closed or cancelled.")] = "",
    machine: Annotated[str, typer.Option(help="Only of this machine.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 50,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Work orders, newest first."""
    from industrialmind.assets import reading
    from industrialmind.plant import DataDir

    filters = {name: value for name, value in (("status", status), ("machine", machine)) if value}

    async def read() -> list[Mapping[str, Any]]:
        async with reading(DataDir(data)) as reader:
            return await reader.orders(filters, limit)

    found = asyncio.run(read())
    if json:
        _print_json(found)
        return
    names = ("id", "status", "priority", "machine", "component", "title", "created_at", "created_by")
    _print_table(names, ([str(order[name])[:60] for name in names] for order in found))


@orders_app.command("open")
def orders_open(
    machine: Annotated[str, typer.Argument(help="The machine.")],
    title: Annotated[str, typer.Argument(help="What is to be done.")],
    component: Annotated[str, typer.Option(help="Its component, MACHINE.NAME.")] = "",
    kind: Annotated[
        str, typer.Option(help="corrective, preventive, inspection or condition-based.")
    ] = "corrective",
    priority: Annotated[str, typer.Option(help="low, medium, high or urgent.")] = "medium",
    description: Annotated[str, typer.Option(help="The same at length.")] = "",
    anomaly: Annotated[str, typer.Option(help="The id of the anomaly that is the reason.")] = "",
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Open a work order."""
    body = {
        "machine": machine, "title": title, "component": component, "kind": kind,
        "priority": priority, "description": description, "anomaly": anomaly,
    }  # fmt: skip
    _order(data, "/v1/work-orders", body, json=json)


@orders_app.command("close")
def orders_close(
    order: OrderArgument,
    failure_code: Annotated[
        str, typer.Option(help="The failure mode found (ISO 14224): VIB, BRD, OHE.")
    ] = "",
    actions: Annotated[str, typer.Option(help="What was done.")] = "",
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Close a work order."""
    body = {"failure_code": failure_code, "actions": actions}
    _order(data, f"/v1/work-orders/{order}/close", body, json=json)


def _order(data: Path, path: str, body: Mapping[str, Any], *, json: bool) -> None:
    from industrialmind.client import Client
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        done = client.post(path, body, idempotency_key=str(uuid.uuid4()))
    if json:
        _print_json(done)
        return
    order = done["work_order"]
    sys.stdout.write(f"{order['id']} is {order['status']}: {order['title']}\n")


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


def _print_json(value: Any) -> None:  # noqa: ANN401 - JSON
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
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
