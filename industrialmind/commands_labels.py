"""`labels add|list|review`: what people say a machine's time was."""

import sys
from typing import Annotated, Any

import typer

from industrialmind.commands_assets import post_change, print_json, print_table
from industrialmind.options import DATA, DataOption, JsonOption

labels_app = typer.Typer(help="What people say a machine's time was.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(labels_app, name="labels")


@labels_app.command("add")
def labels_add(
    machine: Annotated[str, typer.Argument(help="The machine.")],
    kind: Annotated[str, typer.Argument(help="fault, normal, sensor-fault, operation or unsure.")],
    begins: Annotated[str, typer.Option("--from", help="When it began, RFC 3339 with offset.")],
    ends: Annotated[str, typer.Option("--to", help="When it ended.")],
    code: Annotated[str, typer.Option(help="A fault's failure mode (ISO 14224): VIB, BRD, OHE.")] = "",
    confidence: Annotated[float, typer.Option(help="How sure, 0 to 1.", min=0, max=1)] = 1.0,
    note: Annotated[str, typer.Option(help="In words.")] = "",
    supersedes: Annotated[str, typer.Option(help="The verdict that this one takes the place of.")] = "",
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Say what a stretch of a machine's time was."""
    body = {
        "machine": machine, "kind": kind, "begins": begins, "ends": ends, "code": code,
        "confidence": confidence, "note": note, "supersedes": supersedes,
    }  # fmt: skip
    done = post_change(data, "/v1/verdicts", body)
    if json:
        print_json(done)
        return
    made = done["verdict"]
    sys.stdout.write(f"{made['id']}: {made['machine']} {made['kind']} {made['begins']} to {made['ends']}\n")


@labels_app.command("list")
def labels_list(
    machine: Annotated[str, typer.Option(help="Only of this machine.")] = "",
    as_of: Annotated[str, typer.Option(help="What was known then; now without it.")] = "",
    superseded: Annotated[
        bool, typer.Option("--superseded", help="With those that others took the place of.")
    ] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 50,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Verdicts, newest first."""
    query: dict[str, Any] = {"machine": machine, "as_of": as_of, "limit": str(limit)}
    if superseded:
        query["superseded"] = "true"
    found = _get(data, "/v1/verdicts", {name: value for name, value in query.items() if value})["verdicts"]
    if json:
        print_json(found)
        return
    names = ("id", "machine", "kind", "code", "confidence", "begins", "ends", "by", "as_of", "superseded_by")
    print_table(names, ([str(one[name])[:40] for name in names] for one in found))


@labels_app.command("review")
def labels_review(
    week: Annotated[str, typer.Option(help="An ISO week, as 2026-W48; this one without it.")] = "",
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Twenty windows of a week in which nothing alarmed, for somebody to look at: without them recall can't be known."""
    found = _get(data, "/v1/verdicts/review", {"week": week} if week else {})
    if json:
        print_json(found)
        return
    names = ("machine", "begins", "ends")
    print_table(names, ([one[name] for name in names] for one in found["windows"]))


def _get(data: Any, path: str, query: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    from industrialmind.client import Client
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        return client.get(path, **query)
