"""Counters that edges keep up: what a machine ran up goes to its own counters and to those of its components. Pure.

A component that is replaced begins at nought by a reset (`CounterReset`, which keeps what it stood at); its machine's counter runs
on. An increment is taken once: each names the time from which and to which it counts, and a counter the time as of which it stands.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from cloud.assets.fold import SYSTEM, State, evolve_counter
from cloud.assets.logic import SOURCE
from cloud.assets.model import Kind, MeterReading
from shared.asset_events import CounterSet
from shared.event import Event
from shared.machine_events import MachineCounted

RUN_HOURS: Final = "run-hours"
STARTS: Final = "starts"
CYCLES: Final = "cycles"


def decide_counted(state: State, counted: Sequence[MachineCounted], now: datetime) -> list[Event]:
    """The counters after what edges counted, in order of time. What a counter stands for already changes nothing.

    Where somebody set or reset a counter within an increment's time, its run-hours count by the share of the time after that;
    starts and cycles, which can't be divided, count whole.
    """
    made: list[Event] = []
    held: dict[str, MeterReading] = {}
    for event in sorted(counted, key=lambda one: one.occurred_at):
        for owner, begun in _owners(state, event.subject):
            for name, more in ((RUN_HOURS, event.run_hours), (STARTS, event.starts), (CYCLES, event.cycles)):
                counter = f"{owner}.{name}"
                found = held.get(counter) or state.counters.get(counter) or MeterReading(counter)
                share = _share(event, found.as_of or begun)
                added = more * share if name == RUN_HOURS else more
                if not share or not added:
                    continue
                done = CounterSet(
                    source=SOURCE, subject=counter, occurred_at=now, causation_id=event.id,
                    revision=found.revision + 1, by=SYSTEM, value=found.value + added, as_of=event.occurred_at,
                )  # fmt: skip
                made.append(done)
                held[counter] = evolve_counter(found, done) or found
    return made


def _owners(state: State, machine: str) -> Iterator[tuple[str, datetime | None]]:
    """The machine and its components in use, each with the time since which it is known; a machine counts from its first event on."""
    yield machine, None
    for asset in state.live(Kind.COMPONENT):
        if asset.machine == machine:
            yield asset.id, asset.created_at


def _share(event: MachineCounted, after: datetime | None) -> float:
    """How much of the event's time lies after `after`."""
    if after is None or after <= event.since:
        return 1.0
    if after >= event.occurred_at:
        return 0.0
    return (event.occurred_at - after) / (event.occurred_at - event.since)
