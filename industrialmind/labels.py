"""What people say of a machine's time as training takes it: verdicts and closed work orders, as of a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cloud.labels.app import VerdictBook
from cloud.labels.logic import Labels, Order, labels_of
from cloud.telemetry.port import TelemetryReader
from cloud.training.history import Judged
from industrialmind.repairs import Repairs
from shared.eventlog import EventLog
from shared.events import AnomalyStarted, parse_event
from shared.verdict_events import VerdictKind


@dataclass(frozen=True, slots=True)
class Words:
    """Labels of a machine, and every stretch that somebody judged, labels first. `told`: when each verdict and order came to be known."""

    labels: Labels
    judged: tuple[Judged, ...]
    told: tuple[datetime, ...]

    def since(self, moment: datetime) -> int:
        """How many came after."""
        return sum(one > moment for one in self.told)


async def read_words(events: EventLog, store: TelemetryReader, machine: str, as_of: datetime) -> Words:
    """What was said of a machine as of a time. Raises Unavailable."""
    verdicts = [one for one in (await VerdictBook(events).look()).as_of(as_of) if one.machine == machine]
    orders = await read_orders(events, store, machine)
    labels = labels_of(verdicts, orders, as_of)
    confirmed = [Judged(one.kind.value, one.begins, one.ends, confirmed=True) for one in labels.labels]
    # A verdict that counts as no evidence leaves its time out of the rows all the same.
    said = [
        Judged(one.kind.value, one.begins, one.ends) for one in verdicts if one.kind is not VerdictKind.UNSURE
    ]
    told = [one.as_of for one in verdicts] + [one.closed for one in orders if one.closed <= as_of]
    return Words(labels, (*confirmed, *said), tuple(told))


async def read_orders(events: EventLog, store: TelemetryReader, machine: str) -> list[Order]:
    """Work orders of a machine that were closed with a failure code; they begin with the anomaly that they were opened for."""
    repairs = await Repairs(events).of(machine)
    onsets = await _onsets(store, machine) if any(one.anomaly for one in repairs) else {}
    return [
        Order(one.order, machine, onsets.get(one.anomaly, one.opened), one.closed, one.failure_code, one.by)
        for one in repairs
    ]


async def _onsets(store: TelemetryReader, machine: str) -> Mapping[str, datetime]:
    """Ids of the machine's newest anomalies to their onsets."""
    found = {}
    for stored in await store.events(machine, [AnomalyStarted.type]):
        event = parse_event(stored.fact.json)
        if isinstance(event, AnomalyStarted):
            found[stored.fact.id] = event.onset
    return found
