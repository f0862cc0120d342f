"""The fold of the topic `verdicts`, what is decided on it, and which windows are offered for review. No I/O here."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest
from typing import Final

import orjson

from cloud.labels.port import Asked, Quiet, Verdict
from shared.errors import Conflict, NotFound, Rejected
from shared.event import Event, deterministic_id, to_us
from shared.verdict_events import VerdictGiven, VerdictKind

SOURCE: Final = "cloud/labels"
LONGEST: Final = timedelta(days=90)
QUIET_A_WEEK: Final = 20
QUIET_US: Final = 600_000_000
"""Length of a window that is offered for review: ten minutes, which fit on one screen."""
_WEEK_US: Final = 7 * 86_400_000_000


@dataclass(slots=True)
class State:
    """Verdicts in order of their writing, by id; `requests`: a verdict's id to the digest of what was asked."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """One more event. What was taken before, and other events, change nothing."""
        if not isinstance(event, VerdictGiven) or event.subject in self.verdicts:
            return
        self.verdicts[event.subject] = _verdict(event)
        self.requests[event.subject] = event.request
        old = self.verdicts.get(event.supersedes)
        if old is not None:
            self.verdicts[old.id] = replace(old, superseded_by=event.subject)

    def as_of(self, moment: datetime | None, *, all_of_them: bool = False) -> list[Verdict]:
        """What was known at `moment` (None: now), oldest first: a verdict that was superseded later still holds."""
        known = [one for one in self.verdicts.values() if moment is None or one.as_of <= moment]
        there = {one.id for one in known}
        then = [one if one.superseded_by in there else replace(one, superseded_by="") for one in known]
        return [one for one in then if all_of_them or not one.superseded_by]


def _verdict(event: VerdictGiven) -> Verdict:
    # A kind of a later release is no word that training may act on.
    kind = VerdictKind(event.kind) if event.kind in tuple(VerdictKind) else VerdictKind.UNSURE
    return Verdict(
        event.subject, event.machine, event.begins, event.ends, kind, event.code, event.confidence, event.by,
        event.note, event.occurred_at, event.supersedes,
    )  # fmt: skip


def verdict_id(asked: Asked) -> str:
    """The same verdict for the same person's idempotency key."""
    return f"vd-{deterministic_id(asked.by, asked.request)[:16]}"


def decide(state: State, asked: Asked, now: datetime) -> list[Event]:
    """Let a verdict be written. Raises Rejected, NotFound, Conflict."""
    name, digest = verdict_id(asked), _digest(asked)
    if name in state.verdicts:
        if state.requests[name] != digest:
            raise Conflict("this idempotency key was used for something else")
        return []
    if not asked.begins < asked.ends <= asked.begins + LONGEST:
        raise Rejected(f"a verdict is about a time of more than nothing and at most {LONGEST.days} days")
    if asked.begins > now:
        raise Rejected("a verdict is about what was, not about what will be")
    if asked.code and asked.kind is not VerdictKind.FAULT:
        raise Rejected(f"a failure code is for faults, not for {asked.kind}")
    if asked.supersedes:
        _check_superseded(state, asked)
    return [
        VerdictGiven(
            source=SOURCE, subject=name, occurred_at=now, correlation_id=asked.request, machine=asked.machine,
            begins=asked.begins, ends=asked.ends, kind=asked.kind.value, code=asked.code,
            confidence=asked.confidence, by=asked.by, note=asked.note, supersedes=asked.supersedes,
            request=digest,
        )
    ]  # fmt: skip


def _check_superseded(state: State, asked: Asked) -> None:
    old = state.verdicts.get(asked.supersedes)
    if old is None:
        raise NotFound(f"there is no verdict {asked.supersedes[:40]!r}")
    if old.machine != asked.machine:
        raise Rejected(f"{old.id} is about {old.machine}, not about {asked.machine}")
    if old.superseded_by:
        raise Conflict(f"{old.id} was superseded by {old.superseded_by} already")


def _digest(asked: Asked) -> str:
    what = [
        asked.machine, to_us(asked.begins), to_us(asked.ends), asked.kind, asked.code, asked.confidence,
        asked.note, asked.supersedes,
    ]  # fmt: skip
    return hashlib.blake2b(orjson.dumps(what), digest_size=8).hexdigest()


# Quiet windows


def week_span(week: str) -> tuple[int, int]:
    """Times [from, to) in µs of an ISO week such as `2026-W48`, in UTC. Raises Rejected."""
    try:
        year, number = week.split("-W")
        monday = date.fromisocalendar(int(year), int(number), 1)
        begins = to_us(datetime(monday.year, monday.month, monday.day, tzinfo=UTC))
    except (ValueError, OverflowError) as error:
        raise Rejected(f"{week[:20]!r} is no week: give YEAR-WNUMBER, as 2026-W48") from error
    return begins, begins + _WEEK_US


def drawn(week: str, times: Mapping[str, tuple[int, int]]) -> Iterator[Quiet]:
    """Every window of the week that lies in its machine's times [from, to), in an order that is chance to people.

    It is the same for all who ask. Machines take turns, so that a plant of fifty machines is not judged by one; within
    a machine the order is that of a hash of week, machine and window.
    """
    begins, ends = week_span(week)

    def order(machine: str) -> list[Quiet]:
        first, last = times[machine]
        inside = [one for one in range(begins, ends, QUIET_US) if first <= one and one + QUIET_US <= last]
        chance = sorted(inside, key=lambda one: deterministic_id("review", week, machine, one))
        return [Quiet(machine, one, one + QUIET_US) for one in chance]

    turn = sorted(times, key=lambda machine: deterministic_id("review", week, machine))
    for windows in zip_longest(*(order(machine) for machine in turn)):
        yield from (one for one in windows if one is not None)


# What training may take


@dataclass(frozen=True, slots=True)
class Order:
    """A work order that was closed with a failure code; `begins` is the onset of what it was opened for."""

    id: str
    machine: str
    begins: datetime
    closed: datetime
    code: str
    by: str


@dataclass(frozen=True, slots=True)
class Label:
    """What a stretch of a machine's time is held to be, by a work order or by somebody's verdict."""

    machine: str
    begins: datetime
    ends: datetime
    kind: VerdictKind
    code: str
    by: str
    confirmed: bool
    """By a work order, which outranks a click."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels as of a time, and what was left out: overruled by a work order, or beyond a person's share."""

    labels: tuple[Label, ...]
    overruled: int
    capped: int

    @property
    def faults(self) -> tuple[Label, ...]:
        """Confirmed events: what a model must not lose."""
        return tuple(one for one in self.labels if one.kind is VerdictKind.FAULT)


PERSON_SHARE: Final = 0.3


def labels_of(verdicts: Sequence[Verdict], orders: Sequence[Order], as_of: datetime) -> Labels:
    """What training may take of verdicts and work orders known at `as_of`.

    Verdicts that overlap a work order are overruled by it, whoever gave them and when. Of the rest nobody gives more
    than 30 % of all labels: the surest and newest of a person's stay.
    """
    closed = [one for one in orders if one.code and one.closed <= as_of]
    given = [one for one in verdicts if one.as_of <= as_of and one.kind is not VerdictKind.UNSURE]
    clicks = [one for one in given if not any(_overlap(one, order) for order in closed)]
    kept = cap(clicks, len(closed))
    labels = [
        Label(one.machine, one.begins, one.closed, VerdictKind.FAULT, one.code, one.by, confirmed=True)
        for one in closed
    ] + [
        Label(one.machine, one.begins, one.ends, one.kind, one.code, one.by, confirmed=False) for one in kept
    ]
    return Labels(tuple(labels), len(given) - len(clicks), len(clicks) - len(kept))


def _overlap(verdict: Verdict, order: Order) -> bool:
    return verdict.machine == order.machine and verdict.begins < order.closed and order.begins < verdict.ends


def cap(clicks: Sequence[Verdict], others: int) -> list[Verdict]:
    """The most verdicts of which nobody gives more than 30 % of all labels; `others` are labels that are no clicks.

    With `others` none it takes four people: three can't each give less than a third.
    """
    by: dict[str, list[Verdict]] = {}
    for one in sorted(clicks, key=lambda one: (-one.confidence, -to_us(one.as_of), one.id)):
        by.setdefault(one.by, []).append(one)
    most = max((len(given) for given in by.values()), default=0)
    while (
        most and most > PERSON_SHARE * (others + sum(min(len(given), most) for given in by.values())) + 1e-9
    ):
        most -= 1
    kept = {one.id for given in by.values() for one in given[:most]}
    return [one for one in clicks if one.id in kept]
