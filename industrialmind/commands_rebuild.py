"""Commands that go back to the log: `rebuild` makes projections anew, `replay` copies its records aside."""

import asyncio
import sys
from typing import Annotated

import orjson
import typer

from industrialmind.options import DATA, DataOption, JsonOption


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(rebuild)
    app.command()(replay)


def rebuild(
    name: Annotated[str | None, typer.Argument(help="A projection; without it they are listed.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Don't go on with a copy that was begun.")] = False,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Make a projection anew from the log, while the plant goes on. Stopped anywhere, what was there is intact."""
    from industrialmind.progress import Teller
    from industrialmind.rebuild import PROJECTIONS, run_rebuild
    from shared.clock import SystemClock

    if name is None:
        listed = [{"name": one, "what": what} for one, what in PROJECTIONS.items()]
        lines = [f"{one['name']:10}  {one['what']}" for one in listed]
        sys.stdout.write((orjson.dumps(listed).decode() if json else "\n".join(lines)) + "\n")
        return
    clock = SystemClock()
    began = clock.monotonic()
    with Teller(name, clock, json=json) as tell:
        figures = asyncio.run(run_rebuild(data, name, tell, fresh=fresh))
        seconds = round(clock.monotonic() - began, 1)
        tell.done(seconds=seconds, **figures)
    if not json:
        told = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in figures.items())
        sys.stdout.write(f"{name} rebuilt in {seconds:g} s: {told}\n")


def replay(
    start: Annotated[str, typer.Option("--from", help="Log time of the first record: ISO, or 2h ago.")] = "",
    end: Annotated[str, typer.Option("--to", help="Log time of the end, not included.")] = "now",
    speed: Annotated[float, typer.Option(help="Times their own pace; 0: as fast as it goes.", min=0)] = 1.0,
    topic: Annotated[list[str] | None, typer.Option(help="Only this topic; again for more.")] = None,
    machine: Annotated[list[str] | None, typer.Option(help="Only this machine; again for more.")] = None,
    prefix: Annotated[
        str, typer.Option(help="Name before the topics; replay- and the time if not given.")
    ] = "",
    max_mib: Annotated[int, typer.Option("--max-mib", help="Most that a new prefix may keep.", min=1)] = 256,
    listed: Annotated[bool, typer.Option("--list", help="Show the prefixes there are.")] = False,
    drop: Annotated[str, typer.Option(help="Remove this prefix's topics.")] = "",
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Copy a time range of the log onto topics of a prefix of its own, at its own pace; live topics are not touched."""
    from industrialmind.plant import DataDir
    from industrialmind.progress import Teller
    from industrialmind.replay import drop_prefix, list_prefixes, run_replay, wanted_of
    from shared.clock import SystemClock

    plant, clock = DataDir(data), SystemClock()
    if listed:
        found = asyncio.run(list_prefixes(plant))
        lines = [
            f"{one}.{name}  {count:,} records"
            for one, parts in found.items()
            for name, count in parts.items()
        ]
        sys.stdout.write(
            (orjson.dumps(found).decode() if json else "\n".join(lines)) + "\n" * bool(json or lines)
        )
        return
    if drop:
        gone = asyncio.run(drop_prefix(plant, drop))
        sys.stdout.write(
            (orjson.dumps({"dropped": gone}).decode() if json else f"dropped {', '.join(gone)}") + "\n"
        )
        return
    if not start:
        raise typer.BadParameter("give --from TIME, --list or --drop PREFIX")
    topics, machines = topic or (), machine or ()
    wanted = wanted_of(
        start, end, clock.now_us(), speed=speed, topics=topics, machines=machines, prefix=prefix
    )
    with Teller("replay", clock, json=json) as tell:
        told = tell.phase(f"onto {wanted.prefix}, ms of the range")
        made = asyncio.run(run_replay(plant, wanted, clock, told, max_bytes=max_mib << 20))
        tell.done(**made)
    if not json:
        sys.stdout.write(f"{made['records']:,} records on {', '.join(made['topics'])}\n")
