"""What the control room knows of the plant: the last of everything, bounded, fed by one stream and a few readers."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from cloud.ui.lives import Lives
from shared.clock import MICROSECONDS
from shared.events import to_us

EVENTS_KEPT: Final = 100
ANOMALIES_KEPT: Final = 100
MODELS_KEPT: Final = 64
RECENT_KEPT: Final = 900
"""Points of a series kept as they came, for charts that are open."""

State = Literal["learning", "normal", "anomalous", "stale", "unknown"]


class _Told(BaseModel):
    """Told by the data API; what a later release adds is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Running(_Told):
    """The model that runs for a machine."""

    name: str
    version: int
    version_hash: str
    provisional: bool = False


class Lead(_Told):
    """A sensor's part in a deviation."""

    sensor: str
    share: float
    seen: float | None = None
    expected: float | None = None
    unit: str = ""


class Last(_Told):
    """A sensor's newest value. `at` is event time."""

    sensor: str
    value: float
    unit: str = ""
    at: datetime


class Status(_Told):
    """A machine's line of `/v1/machines`."""

    machine: str
    site: str = ""
    edge: str = ""
    state: State = "unknown"
    score: float | None = None
    limit: float | None = None
    unscored_reason: str = ""
    model: Running | None = None
    leading: tuple[Lead, ...] = ()
    last: tuple[Last, ...] = ()
    data_age_seconds: float | None = None


class Anomaly(_Told):
    """An episode; still open while `ended_at` is None."""

    id: str
    machine: str
    onset: datetime
    ended_at: datetime | None = None
    score: float
    limit: float
    model: str = ""
    version_hash: str = ""
    sensors: tuple[Lead, ...] = ()


class Band(_Told):
    """A sensor's unit and the range that training saw of it, in that unit."""

    sensor: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    learnt: bool | None = None


_ANOMALIES: Final = TypeAdapter(list[Anomaly])
_BANDS: Final = TypeAdapter(list[Band])


class Series:
    """One quantity: a coarse trend of the last hours, and the newest points as they came."""

    def __init__(self, span_us: int, points: int) -> None:
        self._span_us = span_us
        self._points = points
        self.trend: deque[tuple[int, float]] = deque()
        self.recent: deque[tuple[int, float]] = deque(maxlen=RECENT_KEPT)

    @property
    def last(self) -> tuple[int, float] | None:
        """The newest point."""
        return self.recent[-1] if self.recent else self.trend[-1] if self.trend else None

    @property
    def step_us(self) -> int:
        """How far apart the trend's points are."""
        return (self.trend[-1][0] - self.trend[0][0]) // self._points if self.trend else 0

    def replace(self, times_us: Sequence[int], values: Sequence[float | None]) -> None:
        """Take a trend read anew; live points that are newer stay."""
        self.trend.clear()
        self.trend.extend((t, v) for t, v in zip(times_us, values, strict=True) if v is not None)
        newest = self.trend[-1][0] if self.trend else 0
        for time_us, value in self.recent:
            if time_us > newest:
                self._to_trend(time_us, value)

    def add(self, time_us: int, value: float) -> bool:
        """Take a live point; one that is not newer than the last changes nothing (False)."""
        newest = self.last
        if newest is not None and time_us <= newest[0]:
            return False
        self.recent.append((time_us, value))
        self._to_trend(time_us, value)
        return True

    def _to_trend(self, time_us: int, value: float) -> None:
        """A point nearer than a step replaces the last, so that the trend stays as coarse as it is and bounded."""
        if len(self.trend) > 1 and time_us - self.trend[-2][0] < self.step_us:
            self.trend.pop()
        self.trend.append((time_us, value))
        while self.trend[0][0] < time_us - self._span_us:
            self.trend.popleft()
        if len(self.trend) > 2 * self._points:
            self.trend = deque(list(self.trend)[::2])


class MachineNow:
    """A machine as last heard of."""

    def __init__(self, status: Status, arrival_us: int | None, span_us: int, points: int) -> None:
        self.status = status
        self.arrival_us = arrival_us
        self.bands: dict[str, Band] = {}
        self.contributions: dict[str, float] = {}
        self.events: deque[Mapping[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self.sensors: dict[str, Series] = {}
        self._span_us, self._points = span_us, points
        self.score = Series(span_us, points)
        self.take_status(status, arrival_us)

    def series(self, sensor: str) -> Series:
        """The sensor's series, made at first use."""
        return self.sensors.setdefault(sensor, Series(self._span_us, self._points))

    def take_status(self, status: Status, arrival_us: int | None) -> None:
        """The status as of now. Its last values count where no reading was newer."""
        self.status, self.arrival_us = status, arrival_us
        for last in status.last:
            self.series(last.sensor).add(to_us(last.at), last.value)

    def moments(self, kind: str) -> list[tuple[Mapping[str, Any], int]]:
        """Events of a kind, each with its time in µs."""
        return [
            (event, to_us(datetime.fromisoformat(str(event["time"]))))
            for event in self.events
            if event.get("type") == kind
        ]

    def unit(self, sensor: str) -> str:
        """The sensor's unit, as known."""
        if sensor in self.bands and self.bands[sensor].unit:
            return self.bands[sensor].unit
        return next((last.unit for last in self.status.last if last.sensor == sensor), "")


class PlantView:
    """The plant, as one process sees it for all its browsers. Bounded by machines, sensors and the constants above."""

    def __init__(self, *, trend_hours: float, trend_points: int, stale_after_seconds: float) -> None:
        self._span_us = int(trend_hours * 3600 * MICROSECONDS)
        self._points = trend_points
        self.stale_after_us = int(stale_after_seconds * MICROSECONDS)
        self.machines: dict[str, MachineNow] = {}
        self.anomalies: list[Anomaly] = []
        self.models: dict[str, Mapping[str, Any]] = {}
        self.lives = Lives()
        self.connected = False
        self.heard_us: int | None = None
        """When the data API was last heard, this process's clock."""
        self.away_us: int | None = None
        """Since when the data API is away; None while it is there."""

    def heard(self, now_us: int) -> None:
        """The data API said something."""
        self.connected, self.heard_us, self.away_us = True, now_us, None

    def away(self, now_us: int) -> None:
        """The data API can't be heard."""
        if self.connected or self.away_us is None:
            self.connected, self.away_us = False, now_us

    def apply(self, message: Mapping[str, Any], now_us: int) -> bool:
        """Take a message of the live stream. True if an anomaly began or ended: read them anew."""
        self.heard(now_us)
        told = message.get("machines")
        if told is not None:
            self.take_machines(told, now_us, whole=message.get("type") == "snapshot")
        for name, sensors in (message.get("readings") or {}).items():
            if name in self.machines:
                self._take_readings(self.machines[name], sensors)
        for name, scores in (message.get("scores") or {}).items():
            if name in self.machines:
                for time_us, score, *_ in scores:
                    if score is not None:
                        self.machines[name].score.add(time_us, score)
        return self._take_events(message.get("events") or ())

    def take_machines(self, told: Iterable[Mapping[str, Any]], now_us: int, *, whole: bool) -> None:
        """Statuses; `whole`: a machine that is not among them is gone."""
        named = set()
        for each in told:
            status = Status.model_validate(each)
            named.add(status.machine)
            age = status.data_age_seconds
            arrival = None if age is None else now_us - int(age * MICROSECONDS)
            known = self.machines.get(status.machine)
            if known is None:
                self.machines[status.machine] = MachineNow(status, arrival, self._span_us, self._points)
            else:
                known.take_status(status, arrival)
        if whole:
            for gone in set(self.machines) - named:
                del self.machines[gone]

    def take_anomalies(self, told: Sequence[Mapping[str, Any]]) -> None:
        """All episodes, newest first."""
        self.anomalies = _ANOMALIES.validate_python(list(told))[:ANOMALIES_KEPT]

    def take_bands(self, machine: str, told: Sequence[Mapping[str, Any]]) -> None:
        """Units and normal ranges of a machine's sensors."""
        if machine in self.machines:
            self.machines[machine].bands = {b.sensor: b for b in _BANDS.validate_python(list(told))}

    def take_trends(self, machine: str, told: Iterable[Mapping[str, Any]]) -> None:
        """Curves of a machine's sensors, read anew."""
        if machine in self.machines:
            for curve in told:
                self.machines[machine].series(curve["sensor"]).replace(curve["time_us"], curve["value"])

    def take_scores(self, machine: str, told: Mapping[str, Any]) -> None:
        """The score's curve and the newest window's contributions, read anew."""
        if machine in self.machines:
            known = self.machines[machine]
            known.score.replace(told["time_us"], told["score"])
            known.contributions = {part["sensor"]: part["share"] for part in told.get("contributions") or ()}

    def take_events(self, machine: str, told: Sequence[Mapping[str, Any]]) -> None:
        """A machine's events, newest first, read anew."""
        if machine in self.machines:
            events = self.machines[machine].events
            events.clear()
            events.extend(told[:EVENTS_KEPT])

    def take_model(self, version_hash: str, told: Mapping[str, Any]) -> None:
        """What is registered of a version: `/v1/models/{hash}`."""
        self.models.pop(version_hash, None)
        self.models[version_hash] = told
        while len(self.models) > MODELS_KEPT:
            del self.models[next(iter(self.models))]

    def state(self, machine: MachineNow, now_us: int, grace_us: int = MICROSECONDS) -> State:
        """The state to show: nothing is normal that was not heard of lately."""
        if machine.arrival_us is None:
            return machine.status.state
        away = self.away_us is not None and now_us - self.away_us > grace_us
        old = now_us - machine.arrival_us > self.stale_after_us
        return "stale" if away or old else machine.status.state

    def _take_readings(self, machine: MachineNow, sensors: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        for sensor, points in sensors.items():
            series = machine.series(sensor)
            for time_us, value, *_ in points:
                series.add(time_us, value)

    def _take_events(self, events: Iterable[Mapping[str, Any]]) -> bool:
        episodes = False
        for event in events:
            machine = self.machines.get(str(event.get("subject", "")))
            if machine is not None:
                machine.events.appendleft(event)
                if str(event.get("type", "")).startswith("model.") and machine.status.model is not None:
                    self.models.pop(machine.status.model.version_hash, None)  # what is said of it has changed
            episodes = episodes or str(event.get("type", "")).startswith("anomaly.")
        return episodes
