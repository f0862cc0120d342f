"""`industrialmind status`: machines, last values, state, score, anomalies and data age in a terminal table."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cloud.api.logic import anomalies as episodes
from cloud.api.logic import machine_status
from cloud.telemetry.port import Latest, open_store
from industrialmind.client import Client
from industrialmind.plant import DataDir
from shared.errors import Unavailable
from shared.events import AnomalyEnded, AnomalyStarted, parse_event
from shared.settings import no_color

# Shape and word, never colour alone.
MARKS = {
    "normal": ("●", "normal", ""),
    "anomalous": ("▲", "ANOMALOUS", "bold red"),
    "learning": ("◌", "learning", "cyan"),
    "stale": ("▧", "stale", "yellow"),
    "unknown": ("?", "unknown", "dim"),
}
_SHOWN_ANOMALIES = 8
_SHOWN_SENSORS = 3
_A_LINE = 2  # last values beside each other
_REFRESH_SECONDS = 1.0
_WHOLE = 1000  # from here on digits after the point say nothing


def show(root: Path, *, as_json: bool) -> None:
    """Print the status once: from the running plant, else the newest readings from its files."""
    machines, anomalies = read(DataDir(root))
    if as_json:
        sys.stdout.write(orjson.dumps({"machines": machines, "anomalies": anomalies}).decode() + "\n")
        return
    _console().print(render(machines, anomalies))


def watch_status(root: Path) -> None:
    """Refresh until Ctrl-C; says so while the plant does not answer."""
    data = DataDir(root)
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=_console(), screen=False) as live,
    ):
        while True:
            try:
                live.update(render(*read(data), short=True))
            except Unavailable as error:
                live.update(Text(f"{error}; trying again ...", style="yellow"))
            time.sleep(_REFRESH_SECONDS)


def read(data: DataDir) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Machines and anomalies, as the data API gives them. Raises Unavailable where there is neither plant nor file."""
    if data.running() is not None:
        with Client.of(data) as client:
            return client.get("/v1/machines")["machines"], client.get("/v1/anomalies")["anomalies"]
    if not data.telemetry.exists():
        raise Unavailable(
            f"no plant runs on {data.root} and it holds no readings: start one with industrialmind up"
        )
    return asyncio.run(from_files(data))


async def from_files(data: DataDir) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Machines with their newest readings, and anomalies, from the store of a plant that is not running."""
    plant = data.plant()
    now_us = time.time_ns() // 1000
    async with open_store(data.telemetry_url, read_only=True) as store:
        machines = [
            machine_status(
                machine.id,
                plant.site,
                machine.edge,
                {"machines": {machine.id: as_reported(await store.latest(machine.id))}},
                now_us=now_us,
                stale_after=-1,  # whatever its age: nothing runs
            )
            for machine in plant.machines
        ]
        stored = await store.events(None, (AnomalyStarted.type, AnomalyEnded.type))
    found = episodes([parse_event(each.fact.json) for each in stored])
    return [m.model_dump(mode="json") for m in machines], [a.model_dump(mode="json") for a in found]


def as_reported(latest: Sequence[Latest]) -> dict[str, Any]:
    """Newest readings in the shape of an edge's report."""
    if not latest:
        return {}
    return {
        "arrival_us": max(reading.arrival_us for reading in latest),
        "last": {r.sensor: {"value": r.value, "unit": r.unit, "ts": r.time_us} for r in latest},
    }


def render(
    machines: Sequence[dict[str, Any]], anomalies: Sequence[dict[str, Any]], *, short: bool = False
) -> RenderableType:
    """Both tables, machines in trouble first; `short` gives each machine's values one line, to fit a screen."""
    return Group(machine_table(machines, short=short), anomaly_table(anomalies))


def machine_table(machines: Sequence[dict[str, Any]], *, short: bool = False) -> Table:
    """One row a machine."""
    table = Table(title="Machines", title_justify="left", expand=False)
    for heading in ("machine", "state", "score / limit", "leading sensor", "last values", "age", "model"):
        table.add_column(heading, no_wrap=short and heading == "last values", overflow="ellipsis")
    order = {"anomalous": 0, "stale": 1, "unknown": 2, "learning": 3, "normal": 4}
    for machine in sorted(machines, key=lambda m: (order.get(m["state"], 9), m["machine"])):
        table.add_row(
            machine["machine"],
            state_text(machine["state"]),
            _score(machine),
            _leading(machine),
            _last(machine["last"], a_line=len(machine["last"]) if short else _A_LINE),
            age_text(machine["data_age_seconds"]),
            _model(machine["model"]),
        )
    return table


def anomaly_table(anomalies: Sequence[dict[str, Any]]) -> RenderableType:
    """The newest episodes: expected beside seen for the leading sensors."""
    if not anomalies:
        return Text("No anomalies.", style="dim")
    table = Table(title="Anomalies", title_justify="left", expand=False)
    for heading in ("machine", "since", "until", "score / limit", "leading sensors (share: seen, expected)"):
        table.add_column(heading)
    for anomaly in anomalies[:_SHOWN_ANOMALIES]:
        table.add_row(
            anomaly["machine"],
            clock_text(anomaly["onset"]),
            clock_text(anomaly["ended_at"]) if anomaly["ended_at"] else "▲ open",
            f"{anomaly['score']:.2f} / {anomaly['limit']:.2f}",
            "\n".join(_sensor(s) for s in anomaly["sensors"][:_SHOWN_SENSORS]),
        )
    return table


def state_text(state: str) -> Text:
    """The state's mark and word."""
    mark, word, style = MARKS.get(state, MARKS["unknown"])
    return Text(f"{mark} {word}", style=style)


def age_text(seconds: float | None) -> str:
    """An age for people."""
    if seconds is None:
        return "no data"
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.1f} s"
    if seconds < 7200:  # noqa: PLR2004 - two hours
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def clock_text(moment: str) -> str:
    """The time of an ISO moment, UTC, to the second."""
    return moment.replace("T", " ")[:19]


def _console() -> Console:
    """Units and names are shown as they are: a `[` in them is no markup."""
    return Console(no_color=no_color(), markup=False, highlight=False)


def _score(machine: dict[str, Any]) -> str:
    if machine["limit"] is None:
        return "no model yet"
    if machine["score"] is None:
        return f"unscored ({machine['unscored_reason'] or 'waiting for a full window'})"
    return f"{machine['score']:.2f} / {machine['limit']:.2f}"


def _leading(machine: dict[str, Any]) -> str:
    if machine["state"] != "anomalous" or not machine["leading"]:
        return ""
    return _sensor(machine["leading"][0])


def _sensor(sensor: dict[str, Any]) -> str:
    return (
        f"{sensor['sensor']} {sensor['share']:.0%}: {_quantity(sensor['seen'], sensor['unit'])}, "
        f"expected {_number(sensor['expected'])}"
    )


def _quantity(value: float | None, unit: str) -> str:
    """A value with its unit; the unit of a plain number is `1` and goes without saying."""
    return _number(value) if unit == "1" else f"{_number(value)} {unit}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"  # noqa: RUF001 - a dash for no value
    return f"{value:.0f}" if abs(value) >= _WHOLE else f"{value:.4g}"


def _last(values: Sequence[dict[str, Any]], *, a_line: int) -> str:
    texts = [f"{v['sensor']} {_quantity(v['value'], v['unit'])}" for v in values]
    return "\n".join(" · ".join(texts[at : at + a_line]) for at in range(0, len(texts), max(a_line, 1)))


def _model(model: dict[str, Any] | None) -> str:
    if model is None:
        return "learning"
    mark = " (provisional)" if model["provisional"] else ""
    method = model["name"].rpartition("/")[2]
    return f"{method} v{model['version']}{mark}\n{model['version_hash'][:12]}"
