"""Which of a machine's time is not trained on, by what the store knows of it and what people say."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np

from cloud.telemetry.port import BEGIN_US, TelemetryReader
from cloud.training.recording import LeftOut, Recording
from shared.errors import Rejected
from shared.event import Event, to_us
from shared.events import AnomalyEnded, AnomalyStarted, parse_event
from shared.machine_events import (
    LimitCleared,
    LimitCrossed,
    MaintenanceEnded,
    MaintenanceStarted,
    ReadingsHeld,
)

BEFORE_FAILURE_US: Final = 14 * 86_400_000_000
TYPES: Final = (
    AnomalyStarted.type,
    AnomalyEnded.type,
    LimitCrossed.type,
    LimitCleared.type,
    MaintenanceStarted.type,
    MaintenanceEnded.type,
    ReadingsHeld.type,
)
LONGER: Final = 1.5  # intervals of a sensor: rows further apart held a value between them
_PAGE: Final = 1000
_MOST: Final = 100_000
"""Events of one machine that are looked at, the newest ones: a bound, not a figure of any plant."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What people say of a stretch of time: `kind` is a verdict's. `confirmed`: it counts as evidence (`cloud.labels.logic`)."""

    kind: str
    begins: datetime
    ends: datetime
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class Thinned:
    """Since when a deadband is known to thin a sensor, and how often it is measured."""

    since_us: int
    interval_us: int


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a machine's time: `alarms` and `maintenance` last until the time of the asking where they did not end."""

    alarms: tuple[LeftOut, ...]
    maintenance: tuple[LeftOut, ...]
    degraded: tuple[LeftOut, ...]
    thinned: Mapping[str, Thinned] = field(default_factory=dict)
    """Sensors that a deadband thins at the edge."""

    @property
    def spans(self) -> tuple[LeftOut, ...]:
        """All."""
        return (*self.degraded, *self.maintenance, *self.alarms)


async def read_past(store: TelemetryReader, machine: str, until_us: int, from_us: int = BEGIN_US) -> Past:
    """What the store knows of the machine's time up to `until_us`. Raises Unavailable."""
    events = [event async for event in _events(store, machine)]
    alarms, maintenance = paired(reversed(events), until_us)
    degraded = []
    for series in await store.series(machine):
        for buckets in await store.aggregates(machine, series.sensor, from_us, until_us):
            width = buckets.width_us
            degraded += [LeftOut("degraded", start, start + width - 1) for start in buckets.start_us.tolist()]
    thinned: dict[str, Thinned] = {}
    for event in events:
        if isinstance(event, ReadingsHeld):
            own = Thinned(to_us(event.occurred_at), round(event.interval_seconds * 1e6))
            known = thinned.get(event.sensor, own)
            thinned[event.sensor] = Thinned(
                min(own.since_us, known.since_us), min(own.interval_us, known.interval_us)
            )
    return Past(tuple(alarms), tuple(maintenance), tuple(merged(degraded)), thinned)


async def _events(store: TelemetryReader, machine: str) -> AsyncIterator[Event]:
    """Newest first."""
    before: tuple[int, int] | None = None
    for _ in range(_MOST // _PAGE):
        page = await store.events(machine, TYPES, limit=_PAGE, before=before)
        for stored in page:
            try:
                yield parse_event(stored.fact.json)
            except Rejected:
                continue  # of a later release
        if len(page) < _PAGE:
            return
        before = (page[-1].fact.occurred_us, page[-1].seq)


def paired(events: Iterable[Event], until_us: int) -> tuple[list[LeftOut], list[LeftOut]]:
    """Stretches under an open alarm and in maintenance, of events in order of time; what did not end lasts to `until_us`."""
    alarms: list[LeftOut] = []
    maintenance: list[LeftOut] = []
    opened: dict[tuple[str, str], int] = {}
    for event in events:
        match event:
            case AnomalyStarted():
                opened.setdefault(("open-alarm", event.rule), to_us(event.onset))
            case LimitCrossed():
                opened.setdefault(("open-alarm", event.rule), to_us(event.onset or event.occurred_at))
            case AnomalyEnded() | LimitCleared():
                begin = opened.pop(("open-alarm", event.rule), None)
                if begin is not None:
                    alarms.append(LeftOut("open-alarm", begin, to_us(event.occurred_at)))
            case MaintenanceStarted():
                opened.setdefault(("maintenance", ""), to_us(event.occurred_at))
            case MaintenanceEnded():
                begin = opened.pop(("maintenance", ""), None)
                if begin is not None:
                    maintenance.append(LeftOut("maintenance", begin, to_us(event.occurred_at)))
    for (reason, _), begin in opened.items():
        (alarms if reason == "open-alarm" else maintenance).append(
            LeftOut(reason, begin, max(begin, until_us))
        )
    return alarms, maintenance


def merged(spans: Sequence[LeftOut]) -> list[LeftOut]:
    """Stretches of one reason, those that touch made one, in order of time."""
    found: list[LeftOut] = []
    for one in sorted(spans, key=lambda each: each.from_us):
        if found and one.from_us <= found[-1].to_us + 1:
            last = found[-1]
            found[-1] = LeftOut(last.reason, last.from_us, max(last.to_us, one.to_us))
        else:
            found.append(one)
    return found


def holds(recording: Recording, thinned: Mapping[str, Thinned]) -> list[LeftOut]:
    """When a deadband held a sensor's value: between two of its rows that are further apart than it is measured.

    Once a deadband is gone such gaps are rare, and leaving these out costs little.
    """
    found: list[LeftOut] = []
    for sensor, known in thinned.items():
        if sensor not in recording.sensors:
            continue
        own = recording.times_us[np.isfinite(recording.values[:, recording.sensors.index(sensor)])]
        long = (np.diff(own) > LONGER * known.interval_us) & (own[1:] > known.since_us)
        found += [
            LeftOut("deadband", begin + 1, end - 1)
            for begin, end in zip(own[:-1][long].tolist(), own[1:][long].tolist(), strict=True)
        ]
    return merged(found)


def judged_out(judged: Iterable[Judged], before_failure_us: int = BEFORE_FAILURE_US) -> list[LeftOut]:
    """What people's words leave out: faults, the time before a confirmed failure, faults of sensors."""
    out: list[LeftOut] = []
    for one in judged:
        begin, end = to_us(one.begins), to_us(one.ends)
        if one.kind == "fault":
            out.append(LeftOut("fault", begin, end))
            if one.confirmed:
                out.append(LeftOut("before-failure", begin - before_failure_us, begin))
        elif one.kind == "sensor-fault":
            out.append(LeftOut("sensor-fault", begin, end))
    return out
