"""AzurePdM: what happened to 100 machines: errors, replacements and failures. Histories for maintenance, no benchmark."""

import csv
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cloud.training.datasets.run import need
from shared.clock import MICROSECONDS

TABLES: Final = {"errors": "errorID", "maint": "comp", "failures": "failure"}


@dataclass(frozen=True, slots=True, order=True)
class Happening:
    """One line of a table: `kind` is `errors`, `maint` or `failures`, `what` an error's or a component's name."""

    time_us: int
    machine: int
    kind: str
    what: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine: its number, model and age in years."""

    number: int
    model: str
    age: int


def files(folder: Path) -> list[Path]:
    """What there is to read."""
    return [folder / "AzurePdM" / f"PdM_{table}.csv" for table in ("machines", *TABLES)]


def load(folder: Path) -> tuple[list[Machine], list[Happening]]:
    """Machines by number, and all that happened in order of time. Raises Misconfigured."""
    need(files(folder))
    first, *others = files(folder)
    machines = [Machine(int(row["machineID"]), row["model"], int(row["age"])) for row in _lines(first)]
    happened = [
        Happening(_time(row["datetime"]), int(row["machineID"]), kind, row[column])
        for (kind, column), path in zip(TABLES.items(), others, strict=True)
        for row in _lines(path)
    ]
    return sorted(machines, key=lambda each: each.number), sorted(happened)


def hours_between_failures(machines: list[Machine], happened: list[Happening]) -> float:
    """Hours that the machines were watched, over their failures; components that fail at once are one failure."""
    failures = {(each.machine, each.time_us) for each in happened if each.kind == "failures"}
    watched = (happened[-1].time_us - happened[0].time_us) / (3600 * MICROSECONDS)
    return watched * len(machines) / len(failures)


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def _time(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * MICROSECONDS)
