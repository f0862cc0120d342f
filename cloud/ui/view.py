"""From the plant's state to what a screen says of it. Pure: the same state and time give the same view."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cloud.ui.lives import Lives
from cloud.ui.plant import Anomaly, MachineNow, PlantView, Running, Series, State
from shared.clock import MICROSECONDS
from shared.events import to_us

RANK: Final[Mapping[State, int]] = {"anomalous": 0, "stale": 1, "unknown": 2, "learning": 3, "normal": 4}
"""Worst first."""
STATES: Final[tuple[State, ...]] = ("anomalous", "stale", "learning", "normal", "unknown")
NEW_ANOMALY_US: Final = 120 * MICROSECONDS

SPARK_WIDTH: Final = 200
SPARK_HEIGHT: Final = 40
GAP_STEPS: Final = 8
"""Nothing was measured in between: there is no line."""


@dataclass(frozen=True, slots=True)
class Spark:
    """A sparkline, quantised to its pixels so that what looks the same is the same.

    `path` is SVG in a box of SPARK_WIDTH by SPARK_HEIGHT; `band` and `line` are heights in it, from the top.
    """

    label: str
    unit: str
    path: str
    band: tuple[int, int] | None
    line: int | None
    low: float
    high: float
    last: float
    minutes: int


@dataclass(frozen=True, slots=True)
class SensorLead:
    """A leading sensor: what is seen beside what the model expected."""

    sensor: str
    unit: str
    share: float
    seen: float | None
    expected: float | None


@dataclass(frozen=True, slots=True)
class LifeLine:
    """A machine's remaining life in a line: the lower end of its 90 % interval, or None without evidence.

    `more`: no wear shows, and it is more than that. `old`: the inference API is away.
    """

    hours: float | None
    days: float | None
    more: bool
    old: bool


@dataclass(frozen=True, slots=True)
class Tile:
    """A machine on the fleet page."""

    machine: str
    state: State
    score: float | None
    limit: float | None
    reason: str
    lead: SensorLead | None
    arrival_s: int | None
    model: Running | None
    life: LifeLine | None = None


@dataclass(frozen=True, slots=True)
class Strip:
    """How many machines there are, run, and are in each state."""

    machines: int
    running: int
    states: tuple[tuple[State, int], ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """Whether the data API is heard, and when it was last."""

    connected: bool
    heard_s: int | None


def strip(plant: PlantView, now_us: int) -> Strip:
    """Counts over the whole plant."""
    states = [plant.state(machine, now_us) for machine in plant.machines.values()]
    counts = tuple((state, states.count(state)) for state in STATES)
    return Strip(len(states), sum(state not in {"stale", "unknown"} for state in states), counts)


def tiles(plant: PlantView, now_us: int, state: str = "") -> tuple[Tile, ...]:
    """Machines worst first: by state, then the score's share of its limit in tens of per cent, then by name.

    `state` keeps only those in it.
    """
    found = [tile(plant, machine, now_us) for machine in plant.machines.values()]
    return tuple(sorted((t for t in found if not state or t.state == state), key=_worst_first))


def _worst_first(each: Tile) -> tuple[int, int, str]:
    share = 0
    if each.state == "anomalous" and each.score is not None and each.limit:
        share = -min(100, round(each.score / each.limit))
    return RANK[each.state], share, each.machine


def tile(plant: PlantView, machine: MachineNow, now_us: int) -> Tile:
    """One machine."""
    status = machine.status
    state = plant.state(machine, now_us)
    leading = leads(machine) if status.state == "anomalous" else ()
    return Tile(
        status.machine,
        state,
        status.score,
        status.limit,
        status.unscored_reason,
        leading[0] if leading else None,
        None if machine.arrival_us is None else machine.arrival_us // MICROSECONDS,
        status.model,
        life_line(plant.lives, status.machine),
    )


def life_line(lives: Lives, machine: str) -> LifeLine | None:
    """What a tile says of the machine's remaining life; None while nothing is told of it."""
    life = lives.of(machine)
    if life is None or isinstance(life, str):
        return None
    old = lives.away_us is not None
    if not life.enough:
        return LifeLine(None, None, more=False, old=old)
    hours = life.run_hours.interval_90[0]
    return LifeLine(hours, life.calendar_days.interval_90[0], more=life.more_than_hours is not None, old=old)


def leads(machine: MachineNow) -> tuple[SensorLead, ...]:
    """Leading sensors, the largest part first."""
    found = [
        SensorLead(each.sensor, each.unit or machine.unit(each.sensor), each.share, each.seen, each.expected)
        for each in machine.status.leading
    ]
    return tuple(sorted(found, key=lambda each: (-each.share, each.sensor)))


def tile_spark(machine: MachineNow, now_us: int) -> Spark | None:
    """The leading sensor's trend in an anomaly, else the score's, else the first sensor's."""
    status = machine.status
    leading = leads(machine)
    if status.state == "anomalous" and leading:
        return sensor_spark(machine, leading[0].sensor, now_us)
    if len(machine.score.trend) > 1 and status.limit is not None:
        return spark("score", "", machine.score, now_us, line=status.limit)
    first = next(iter(sorted(machine.sensors)), None)
    return None if first is None else sensor_spark(machine, first, now_us)


def sensor_spark(machine: MachineNow, sensor: str, now_us: int) -> Spark | None:
    """A sensor's trend over its normal band."""
    band = machine.bands.get(sensor)
    known = (
        (band.low, band.high)
        if band is not None and band.learnt and band.low is not None and band.high is not None
        else None
    )
    if sensor not in machine.sensors:
        return None
    return spark(sensor, machine.unit(sensor), machine.sensors[sensor], now_us, band=known)


def spark(
    label: str,
    unit: str,
    series: Series,
    now_us: int,
    *,
    band: tuple[float, float] | None = None,
    line: float | None = None,
) -> Spark | None:
    """A series as a line in a small box; None with fewer than two points."""
    points = list(series.trend)
    if len(points) < 2:  # noqa: PLR2004 - a line
        return None
    values = [value for _, value in points]
    low, high = min(values), max(values)
    shown = [low, high, *(band or ()), *(() if line is None else (line,))]
    bottom, top = min(shown), max(shown)
    room = (top - bottom) * 0.08 or abs(top) * 0.05 or 1.0
    bottom, top = bottom - room, top + room
    first, last = points[0][0], max(points[-1][0], now_us - series.step_us)
    width = max(1, last - first)

    def height(value: float) -> int:
        return int((top - value) / (top - bottom) * SPARK_HEIGHT + 0.5)

    gap = GAP_STEPS * max(series.step_us, MICROSECONDS)
    drawn = [
        f"{'M' if before is None or t - before > gap else 'L'}{round((t - first) / width * SPARK_WIDTH)} {height(v)}"
        for before, (t, v) in zip([None, *(t for t, _ in points)], points, strict=False)
    ]
    return Spark(
        label,
        unit,
        "".join(drawn),
        None if band is None else (height(band[1]), height(band[0])),
        None if line is None else height(line),
        low,
        high,
        values[-1],
        max(1, round(width / 60 / MICROSECONDS)),
    )


def connection(plant: PlantView) -> Connection:
    """The header's word on the data API. Its last word's time is told only once it is away, when it matters."""
    heard = plant.heard_us
    return Connection(plant.connected, None if heard is None else heard // MICROSECONDS)


def open_anomalies(plant: PlantView) -> tuple[Anomaly, ...]:
    """Episodes that last, newest first."""
    return tuple(each for each in plant.anomalies if each.ended_at is None)


def new_anomaly(plant: PlantView, now_us: int) -> Anomaly | None:
    """The newest open episode, while it is new enough to be announced."""
    found = next(iter(open_anomalies(plant)), None)
    return found if found is not None and now_us - to_us(found.onset) < NEW_ANOMALY_US else None


def search_index(plant: PlantView) -> tuple[tuple[str, str, str], ...]:
    """(what is found, what kind it is, where it leads): machines, then each one's sensors."""
    machines = [(name, "machine", f"/machine/{name}") for name in sorted(plant.machines)]
    sensors = [
        (f"{name} · {sensor}", "sensor", f"/machine/{name}?sensor={sensor}")
        for name, machine in sorted(plant.machines.items())
        for sensor in sorted(set(machine.sensors) | set(machine.bands))
    ]
    return (*machines, *sensors)


def exceedances(scores: Iterable[tuple[int, float]], limit: float | None, last: int) -> int:
    """How many of the last scored windows are over the limit."""
    if limit is None:
        return 0
    return sum(score > limit for _, score in list(scores)[-last:])
