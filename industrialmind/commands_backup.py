"""Commands that keep a plant's data elsewhere: `backup`, `restore`, `export`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from industrialmind.options import DATA, DataOption, JsonOption


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(backup)
    app.command()(restore)
    app.command()(export)


def backup(
    target: Annotated[Path, typer.Argument(help="The file to write, or a folder to put it in.")],
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Write the whole plant into one file, while it runs. The file holds every password: keep it like one."""
    from industrialmind.backup import run_backup
    from industrialmind.progress import Teller
    from shared.clock import SystemClock

    clock = SystemClock()
    began = clock.monotonic()
    with Teller("backup", clock, json=json) as tell:
        made = asyncio.run(run_backup(data, target, tell, clock))
        seconds = round(clock.monotonic() - began, 1)
        figures = {"path": str(made.path), "bytes": made.size, "files": made.files, "seconds": seconds}
        tell.done(**figures, running=made.running, secrets=True, notes=list(made.notes))
    sys.stderr.write("".join(f"note: {note}\n" for note in made.notes))
    sys.stderr.write(
        f"{made.path} holds the plant's passwords, tokens and keys in the clear (mode 0600): whoever reads it may do"
        " anything there. Keep it encrypted.\n"
    )
    if not json:
        sys.stdout.write(f"{made.path}: {made.files} files, {made.size / 1e6:,.1f} MB in {seconds:g} s\n")


def restore(
    source: Annotated[Path, typer.Argument(help="A file that backup wrote.", metavar="BACKUP")],
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Make the plant of a backup in a folder that holds nothing. The backup is proved whole before anything is made."""
    from dataclasses import asdict

    from industrialmind.progress import Teller
    from industrialmind.restore import run_restore
    from shared.clock import SystemClock

    clock = SystemClock()
    began = clock.monotonic()
    with Teller("restore", clock, json=json) as tell:
        made = asyncio.run(run_restore(source, data, tell, clock))
        tell.done(data=str(data), seconds=round(clock.monotonic() - began, 1), **asdict(made))
    if not json:
        sys.stdout.write(
            f"{data}: the plant {made.site} as of {made.made_at}; {made.files} files, {made.streams} streams,"
            f" {made.appended} frames of outboxes appended to the log, {made.cut} records behind the cut left out,"
            f" {made.waiting} rows wait at edges\n"
        )


def export(
    out: Annotated[Path, typer.Argument(help="A folder to write to; it must be empty.")],
    start: Annotated[str, typer.Option("--from", help="Event time of the first reading: ISO, or 2h ago.")],
    end: Annotated[str, typer.Option("--to", help="Event time of the end, not included.")] = "now",
    machine: Annotated[list[str] | None, typer.Option(help="Only this machine; again for more.")] = None,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Write a time range of readings as Parquet, a file a machine and day, whether the plant runs or not."""
    from cloud.api.times import span
    from industrialmind.export import run_export
    from industrialmind.progress import Teller
    from shared.clock import SystemClock

    clock = SystemClock()
    from_us, to_us = span(start, end, clock.now_us())
    with Teller("export", clock, json=json) as tell:
        made = asyncio.run(run_export(data, out, machine or (), from_us, to_us, tell.phase))
        tell.done(machines=made.machines, files=made.files, rows=made.rows, paths=made.paths)
    if not json:
        sys.stdout.write(f"{out}: {made.rows:,} readings of {made.machines} machines in {made.files} files\n")
