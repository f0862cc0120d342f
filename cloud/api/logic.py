"""What a machine's state is, from what its edge reports and how old that is. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from shared.clock import MICROSECONDS
from shared.events import AnomalyEnded, AnomalyStarted, Event, Sensor, at

State = Literal["learning", "normal", "anomalous", "stale", "unknown"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class LastValue(_View):
    """A sensor's newest reading."""

    sensor: str
    value: float
    unit: str
    at: datetime


class RunningModel(_View):
    """What an edge runs for a machine."""

    name: str
    version: int
    version_hash: str
    provisional: bool


class MachineStatus(_View):
    """One line of `industrialmind status`. `listening`: the edge's subscription to its devices stands."""

    machine: str
    site: str
    edge: str
    state: State
    score: float | None
    limit: float | None
    unscored_reason: str
    model: RunningModel | None
    leading: tuple[Sensor, ...]
    last: tuple[LastValue, ...]
    data_age_seconds: float | None
    clock_skew_seconds: float | None
    outbox_rows: int | None
    listening: bool


@dataclass(frozen=True, slots=True)
class Newest:
    """What the log brought of a machine: when its newest row arrived (µs), and each sensor's newest value."""

    arrival_us: int | None = None
    last: Mapping[str, LastValue] = field(default_factory=dict)


NOTHING: Final = Newest()


class Anomaly(_View):
    """An episode: from its onset to its end, or still open."""

    id: str
    machine: str
    edge: str
    onset: datetime
    ended_at: datetime | None
    score: float
    limit: float
    model: str
    version_hash: str
    sensors: tuple[Sensor, ...]


def machine_status(
    machine: str,
    site: str,
    edge: str,
    report: Mapping[str, Any],
    *,
    now_us: int,
    stale_after: float,
    newest: Newest = NOTHING,
) -> MachineStatus:
    """A machine's status from its edge's `state` report; unknown if the edge never reported, or not such a thing.

    Last values and data age are the log's (`newest`) where it is ahead of the report.
    """
    try:
        return _status(machine, site, edge, report, now_us, stale_after, newest)
    except (KeyError, TypeError, AttributeError, ValueError):
        return _status(machine, site, edge, {}, now_us, stale_after, newest)


def _status(
    machine: str,
    site: str,
    edge: str,
    report: Mapping[str, Any],
    now_us: int,
    stale_after: float,
    newest: Newest,
) -> MachineStatus:
    part: Mapping[str, Any] = report.get("machines", {}).get(machine, {})
    arrival = max((us for us in (part.get("arrival_us"), newest.arrival_us) if us is not None), default=None)
    age = None if arrival is None else max(0.0, (now_us - arrival) / MICROSECONDS)
    state: State = part.get("state", "unknown")
    if age is None:
        state = "unknown"
    elif age > stale_after:
        state = "stale"
    skew = part.get("skew_us")
    return MachineStatus(
        machine=machine,
        site=site,
        edge=edge,
        state=state,
        score=part.get("score"),
        limit=part.get("limit"),
        unscored_reason=part.get("reason", ""),
        model=_model(part),
        leading=tuple(Sensor.model_validate(s) for s in part.get("leading", ())),
        last=_last(part, newest),
        data_age_seconds=age,
        clock_skew_seconds=None if skew is None else skew / MICROSECONDS,
        outbox_rows=report.get("outbox", {}).get("rows"),
        listening=bool(report.get("listening", False)),
    )


def anomalies(events: Sequence[Event]) -> list[Anomaly]:
    """Episodes, newest first, from anomaly events in any order."""
    open_: dict[str, Anomaly] = {}
    ends: dict[str, AnomalyEnded] = {}
    for event in events:
        match event:
            case AnomalyStarted():
                open_[event.id] = Anomaly(
                    id=event.id,
                    machine=event.subject,
                    edge=event.edge,
                    onset=event.onset,
                    ended_at=None,
                    score=event.score,
                    limit=event.limit,
                    model=event.model,
                    version_hash=event.version_hash,
                    sensors=event.sensors,
                )
            case AnomalyEnded():
                ends[_started_id(event)] = event
    for key, end in ends.items():
        if key in open_:
            open_[key] = open_[key].model_copy(
                update={"ended_at": end.occurred_at, "score": max(end.peak_score, open_[key].score)}
            )
    return sorted(open_.values(), key=lambda a: a.onset, reverse=True)


def _started_id(end: AnomalyEnded) -> str:
    """The id of the AnomalyStarted that `end` ends: same subject, rule and onset."""
    return AnomalyStarted.identify(end.subject, end.rule, end.onset)


def _last(part: Mapping[str, Any], newest: Newest) -> tuple[LastValue, ...]:
    told = {
        name: LastValue(sensor=name, value=last["value"], unit=last["unit"], at=at(last["ts"]))
        for name, last in part.get("last", {}).items()
    }
    for name, last in newest.last.items():
        if name not in told or last.at >= told[name].at:
            told[name] = last
    return tuple(last for _, last in sorted(told.items()))


def _model(part: Mapping[str, Any]) -> RunningModel | None:
    if not part.get("sha256"):
        return None
    return RunningModel(
        name=part["model"],
        version=part["version"],
        version_hash=part["sha256"],
        provisional=bool(part.get("provisional")),
    )
