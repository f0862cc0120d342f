"""The Machine page's chart: read for one time range, drawn in the browser, which knows the viewer's zone and theme."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from cloud.ui.client import ApiClient
from cloud.ui.plant import MachineNow, PlantView
from cloud.ui.route import Route
from cloud.ui.text import number, unit
from shared.errors import NotFound
from shared.events import to_us

POINTS: Final = 600
TAIL_POINTS: Final = 60
"""Live points sent at once: a gap of a minute heals by itself."""
_MODEL_EVENT: Final = "model.activated"


@dataclass(frozen=True, slots=True)
class Line:
    """One series: times in µs, values."""

    name: str
    unit: str
    time_us: Sequence[int]
    value: Sequence[float | None]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Something on the time axis: an episode (`end_us` None: it lasts) or a model change."""

    kind: str
    text: str
    start_us: int
    end_us: int | None = None


@dataclass(frozen=True, slots=True)
class ChartData:
    """What the chart draws. `problem`: why there is nothing."""

    start_us: int
    end_us: int
    live: bool
    score: Line
    limit: Sequence[float | None]
    overlays: tuple[Line, ...] = ()
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the browser."""
        shown = asdict(self)
        for line in shown["overlays"]:
            line["unit"] = unit(line["unit"])
        return shown

    def said(self) -> str:
        """What the chart shows, in words."""
        values = [v for v in self.score.value if v is not None]
        if not values:
            return "no scores in this range"
        over = sum(
            v is not None and limit is not None and v > limit
            for v, limit in zip(self.score.value, self.limit, strict=True)
        )
        lines = "".join(f", {line.name} below it" for line in self.overlays)
        return (
            f"anomaly score over time{lines}: lowest {number(min(values))}, highest {number(max(values))}, last "
            f"{number(values[-1])}, {over} of {len(values)} points over the limit"
        )

    def note(self) -> str:
        """The line below the chart."""
        if self.problem:
            return self.problem
        if not len(self.score.time_us):
            return (
                "No scores in this range. Drag in the chart to look closer, double-click for the whole range."
            )
        return "Drag in the chart to look closer, double-click for the whole range. Times are in your zone."


async def load(client: ApiClient, plant: PlantView, route: Route, now_us: int) -> ChartData:
    """Read the range that a route asks for. Raises Unavailable."""
    start, end = route.window(now_us)
    base = f"/v1/machines/{route.machine}"
    query: dict[str, str | float] = {"from": str(start), "to": str(end), "max_points": POINTS}

    async def read(path: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = await client.get(path, **query)
        except NotFound:
            return {"time_us": [], "value": [], "score": [], "limit": []}
        return found

    scores, *readings = await asyncio.gather(
        read(f"{base}/scores"), *(read(f"{base}/readings/{sensor}") for sensor in route.sensors)
    )
    machine = plant.machines[route.machine]
    overlays = [_line(machine, sensor, found) for sensor, found in zip(route.sensors, readings, strict=True)]
    return ChartData(
        start,
        end,
        route.live,
        Line("score", "", scores["time_us"], scores["score"]),
        scores["limit"],
        tuple(overlays),
    )


def unread(route: Route, now_us: int, problem: str) -> ChartData:
    """A chart without data, and why."""
    start, end = route.window(now_us)
    return ChartData(start, end, route.live, Line("score", "", (), ()), (), problem=problem)


def marks(plant: PlantView, machine: str) -> tuple[Mark, ...]:
    """A machine's episodes and model changes, as far back as they are known."""
    episodes = [
        Mark("anomaly", "anomaly", to_us(a.onset), None if a.ended_at is None else to_us(a.ended_at))
        for a in plant.anomalies
        if a.machine == machine
    ]
    known = plant.machines.get(machine)
    changes = [
        Mark("model", f"model v{event['data']['model_version']}", time_us)
        for event, time_us in (known.moments(_MODEL_EVENT) if known else ())
    ]
    return (*episodes, *changes)


def tail(machine: MachineNow, route: Route) -> dict[str, Any]:
    """The newest points of each line, for the browser to add what it has not got."""
    limit = machine.status.limit
    return {
        "score": [[t, v, limit] for t, v in list(machine.score.recent)[-TAIL_POINTS:]],
        "overlays": [
            {
                "name": sensor,
                "points": [[t, v] for t, v in list(machine.series(sensor).recent)[-TAIL_POINTS:]],
            }
            for sensor in route.sensors
        ],
    }


def _line(machine: MachineNow, sensor: str, found: Mapping[str, Any]) -> Line:
    band = machine.bands.get(sensor)
    learnt = band is not None and band.learnt
    return Line(
        sensor,
        machine.unit(sensor),
        found["time_us"],
        found["value"],
        band.low if band and learnt else None,
        band.high if band and learnt else None,
    )
