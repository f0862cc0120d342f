"""What a machine's state is, from what its edge reports and how old that is. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

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
) -> MachineStatus:
    """A machine's status from its edge's `state` report; unknown if the edge never reported, or not such a thing."""
    try:
        return _status(machine, site, edge, report, now_us=now_us, stale_after=stale_after)
    except (KeyError, TypeError, AttributeError, ValueError):
        return _status(machine, site, edge, {}, now_us=now_us, stale_after=stale_after)


def _status(
    machine: str, site: str, edge: str, report: Mapping[str, Any], *, now_us: int, stale_after: float
) -> MachineStatus:
    part: Mapping[str, Any] = report.get("machines", {}).get(machine, {})
    arrival = part.get("arrival_us")
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
        last=tuple(
            LastValue(sensor=name, value=v["value"], unit=v["unit"], at=at(v["ts"]))
            for name, v in sorted(part.get("last", {}).items())
        ),
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


def _model(part: Mapping[str, Any]) -> RunningModel | None:
    if not part.get("sha256"):
        return None
    return RunningModel(
        name=part["model"],
        version=part["version"],
        version_hash=part["sha256"],
        provisional=bool(part.get("provisional")),
    )
