"""`work-orders list|open|close` and `counters list|set|reset`: what is done to machines, and what they ran up."""

import asyncio
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from industrialmind.commands_assets import post_change, print_json, print_table
from industrialmind.options import DATA, DataOption, JsonOption

counters_app = typer.Typer(help="Counters of machines and components.", no_args_is_help=True)
orders_app = typer.Typer(help="Work orders.", no_args_is_help=True)

CounterArgument = Annotated[str, typer.Argument(help="MACHINE.NAME or MACHINE.COMPONENT.NAME.")]
OrderArgument = Annotated[str, typer.Argument(help="A work order's id.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(counters_app, name="counters")
    app.add_typer(orders_app, name="work-orders")


@counters_app.command("list")
def counters_list(
    machine: Annotated[str, typer.Option(help="Only of this machine, or of a component, MACHINE.NAME.")] = "",
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Counters, with how often each began at nought again."""
    from industrialmind.assets import reading
    from industrialmind.plant import DataDir

    async def read() -> list[Mapping[str, Any]]:
        async with reading(DataDir(data)) as reader:
            return await reader.counters(machine)

    found = asyncio.run(read())
    if json:
        print_json(found)
        return
    rows = (
        [each["id"], f"{each['value']:g}", each["as_of"] or "", str(len(each["resets"]))] for each in found
    )
    print_table(("id", "value", "as of", "resets"), rows)


@counters_app.command("set")
def counters_set(
    counter: CounterArgument,
    value: Annotated[float, typer.Argument(help="What it stands at now.")],
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Say what a counter stands at, or make one; an edge that counts goes on from there."""
    from industrialmind.client import Client
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        done = client.put(f"/v1/counters/{counter}", {"value": value}, idempotency_key=str(uuid.uuid4()))
    if json:
        print_json(done)
        return
    sys.stdout.write(f"{counter} stands at {done['counter']['value']:g}\n")


@counters_app.command("reset")
def counters_reset(
    counter: CounterArgument,
    reason: Annotated[str, typer.Option(help="Why it begins at nought again.")],
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Let a counter begin at nought again; what it stood at is kept."""
    done = post_change(data, f"/v1/counters/{counter}/reset", {"reason": reason})
    if json:
        print_json(done)
        return
    stood = done["counter"]["resets"][-1]["value"]
    sys.stdout.write(f"{counter} stands at {done['counter']['value']:g}; it stood at {stood:g}\n")


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
        print_json(found)
        return
    names = ("id", "status", "priority", "machine", "component", "title", "created_at", "created_by")
    print_table(names, ([str(order[name])[:60] for name in names] for order in found))


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
    done = post_change(data, path, body)
    if json:
        print_json(done)
        return
    order = done["work_order"]
    sys.stdout.write(f"{order['id']} is {order['status']}: {order['title']}\n")
