"""Commands about edges: `edge command|status|diag`."""

import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from industrialmind.options import DATA, ConfigOption, DataOption, JsonOption
from shared.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from industrialmind.client import Client

_LOOK_SECONDS: Final = 0.2


def add_to(app: typer.Typer) -> None:
    """Register the commands in the group `edge`."""
    app.command("command")(edge_command)
    app.command("status")(edge_status)
    app.command("diag")(edge_diag)


def edge_status(config: ConfigOption = None, json: JsonOption = False) -> None:
    """What the agent of these settings last said of itself, on its own machine. Exit 1 if it is in trouble or not alive."""
    from edge.diag import read_status
    from edge.settings import EdgeSettings
    from shared.clock import SystemClock

    status = read_status(EdgeSettings.load(toml=config).folder, SystemClock().now_us())
    fine = status["alive"] and status["ready"] and not status["settings_refused"]
    if json:
        sys.stdout.write(orjson.dumps(status).decode() + "\n")
    else:
        sys.stdout.write("\n".join(status_lines(status)) + "\n")
    raise typer.Exit(0 if fine else 1)


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """The status for people."""
    state, certificate = status["state"], status["certificate"]
    how = "ready" if status["ready"] else "not ready"
    shown = how if status["alive"] else "not running"
    rows, age = state["outbox"]["rows"], status["age_seconds"]
    lines = [f"{state['edge']} {state['version']}: {shown}, {age} s ago, {rows} rows wait"]
    lines += [f"  {name}: {text}" for name, text in status["problems"].items()]
    if status["settings_refused"]:
        lines.append(f"  settings: {status['settings_refused']}")
    if certificate is not None:
        lines.append(f"  certificate of {certificate['name']} until {certificate['not_after']}")
    lines += [f"  {name}: {machine['state']}" for name, machine in state["machines"].items()]
    return lines


def edge_diag(
    out: Annotated[Path, typer.Argument(help="The bundle to write, a .tar.gz.")],
    log: Annotated[Path | None, typer.Option(help="A log file whose end goes into it.")] = None,
    config: ConfigOption = None,
) -> None:
    """Write a bundle for a support ticket: status, settings, versions, files' sizes; no secret is in it."""
    from edge.diag import bundle
    from edge.settings import EdgeSettings
    from industrialmind.plant import write_private_bytes
    from shared.clock import SystemClock
    from shared.settings import load

    write_private_bytes(out, bundle(load(EdgeSettings, toml=config), log, SystemClock().now_us()))
    sys.stdout.write(f"{out}\n")


def edge_command(
    edge: Annotated[str, typer.Argument(help="The edge's id.")],
    kind: Annotated[
        str, typer.Argument(help="restart, rebirth, interval, settings, maintenance or waveform.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="NAME=VALUE; a value is JSON, or else text.")
    ] = None,
    expires: Annotated[
        float | None, typer.Option(help="Seconds after which the edge refuses it.", min=0.001)
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the edge's answer.", min=0)] = 15.0,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Ask an edge to do something, and wait for what it answers. Exit 1 if it refuses, 3 if it does not answer."""
    from industrialmind.client import Client
    from industrialmind.plant import DataDir

    body = {"kind": kind, "arguments": parsed(kind, arguments or ()), "expires_in_seconds": expires}
    with Client.of(DataDir(data)) as client:
        done = client.post(f"/v1/edges/{edge}/commands", body, idempotency_key=uuid.uuid4().hex)
        found = _answered(client, done["command"], wait)
    if json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        detail = f": {found['detail']}" if found["detail"] else ""
        sys.stdout.write(f"{found['id']} {edge} {kind} {found['outcome']}{detail}\n")
    if found["outcome"] == "open" and wait:
        raise Unavailable(
            f"{edge} did not answer within {wait:g} s; the command waits for it until it expires"
        )
    raise typer.Exit(0 if found["outcome"] in {"done", "open"} else 1)


def parsed(kind: str, words: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """`NAME=VALUE` words as arguments; those of `settings` are the settings. Raises Misconfigured."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise Misconfigured(
                f"{word!r} is no argument", hint="give NAME=VALUE, for example machine=pump-01"
            )
        try:
            found[name] = orjson.loads(text)
        except orjson.JSONDecodeError:
            found[name] = text
    return {"values": found} if kind == "settings" else found


def _answered(client: "Client", command: Mapping[str, Any], wait: float) -> Mapping[str, Any]:
    """The command once it is not open any more, or as it is after `wait` seconds."""
    until = time.monotonic() + wait
    while command["outcome"] == "open" and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        command = client.get(f"/v1/commands/{command['id']}")
    return command
