"""Dead letters: their ids, which are asked for, what became of each, and where one is sent again. No I/O here."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, NamedTuple, Self

from shared import names
from shared.clock import MICROSECONDS
from shared.dead_letter import DeadLetter
from shared.errors import Conflict, Rejected
from shared.eventlog import Stored
from shared.events import DeadLetterDropped, DeadLetterReplayed, Event, to_us
from shared.sparkplug.topics import HEARD, NAMESPACE

SOURCE: Final = "cloud/deadletters"
SUBJECT: Final = "dead-letters"
"""Subject of the events, and their records' key in the topic `audit`."""
RESEND_US: Final = 120 * MICROSECONDS
"""So long the log takes a second letter of the same bytes for a resend of the first, and drops it."""
MAX_REQUESTS: Final = 10_000
"""Idempotency keys that are remembered."""

_ID: Final = re.compile(r"([0-9]{1,9})-([0-9]{1,18})")
_SPARKPLUG: Final = tuple(f"{NAMESPACE}/+/{kind}/#" for kind in HEARD)
_HEARD: Final = (*names.UPLINK_FILTERS, *names.DEVICE_FILTERS, *_SPARKPLUG)
_CUT: Final = 1000
"""A letter's topic of this length may have been cut."""
_STORED: Final = (names.SENSOR_READINGS, names.SCORES, names.WAVEFORMS, names.MACHINE_EVENTS)

Via = Literal["mqtt", "log"]
Assignments = Mapping[str, tuple[str, str]]
"""Machine to the (site, edge) that alone may speak for it."""


class Place(NamedTuple):
    """Where a record is in its topic. Written `PARTITION-OFFSET`, it is a dead letter's id."""

    partition: str
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id. Raises Rejected."""
        found = _ID.fullmatch(text)
        if found is None:
            raise Rejected(f"{text[:40]!r} is no dead letter's id: they look like 0-17")
        return cls(found[1], int(found[2]))


@dataclass(frozen=True, slots=True)
class Letter:
    """A record of the topic `dead-letter`. `time_us` is when the log took it, `content` what it says."""

    place: Place
    key: str
    time_us: int
    headers: Mapping[str, str]
    content: DeadLetter

    @classmethod
    def of(cls, record: Stored) -> Self:
        """Read a record; one that is no dead letter is shown as one that says so."""
        try:
            content = DeadLetter.decode(record.value)
        except Rejected as error:
            content = DeadLetter.of(error.reason, "", record.value, source="", received_us=record.time_us)
        place = Place(record.partition, record.offset)
        return cls(place, record.key, record.time_us, record.headers, content)

    @property
    def author(self) -> tuple[str, str] | None:
        """Site and edge of an edge's own letter, whose every word is the edge's; None for the cloud's own."""
        if names.HEADER_ROW not in self.headers or names.HEADER_ROWS in self.headers:
            return None
        return self.headers.get(names.HEADER_SITE, ""), self.headers.get(names.HEADER_EDGE, "")

    def without_payload(self) -> "Letter":
        """The same, small."""
        return replace(self, content=replace(self.content, payload=b""))


Accept = Callable[[Letter], bool]
"""Whether a letter is one of those that are asked for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are asked for. Empty fields ask for nothing.

    `reason` is a part of the reason in any case, `topic` an MQTT filter, `since_us` when the log took the letter.
    """

    reason: str = ""
    topic: str = ""
    source: str = ""
    since_us: int = 0
    handled: bool = False

    def accepts(self, letter: Letter, fate: "Fate | None") -> bool:
        """Whether it is one of them."""
        content = letter.content
        return (
            letter.time_us >= self.since_us
            and (self.handled or fate is None)
            and self.reason.casefold() in content.reason.casefold()
            and self.source in {"", content.source}
            and (not self.topic or topic_matches(self.topic, content.topic))
        )


def topic_matches(pattern: str, topic: str) -> bool:
    """Whether an MQTT filter with `+` and `#` matches (MQTT 3.1.1, section 4.7)."""
    wanted, given = pattern.split("/"), topic.split("/")
    for level, part in enumerate(wanted):
        if part == "#":
            return True
        if level >= len(given) or part not in ("+", given[level]):
            return False
    return len(wanted) == len(given)


# What became of each


class Fate(NamedTuple):
    """What somebody did about a letter, and when. The latest counts."""

    at_us: int
    outcome: Literal["replayed", "dropped"]
    by: str
    note: str
    """Why it was dropped; the topic it was sent on."""


@dataclass(slots=True)
class Fates:
    """The fold of the topic `audit`: letters that somebody saw to, and the requests that asked for it."""

    letters: dict[Place, Fate] = field(default_factory=dict)
    requests: dict[str, tuple[str, Place]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """One more event; others' events, and those taken before, change nothing."""
        match event:
            case DeadLetterReplayed():
                fate = Fate(to_us(event.occurred_at), "replayed", event.by, event.topic)
            case DeadLetterDropped():
                fate = Fate(to_us(event.occurred_at), "dropped", event.by, event.why)
            case _:
                return
        place = Place.parse(event.letter)
        self.letters[place] = max(fate, self.letters.get(place, fate))
        if event.correlation_id and event.correlation_id not in self.requests:
            self.requests[event.correlation_id] = (fate.outcome, place)
            if len(self.requests) > MAX_REQUESTS:
                del self.requests[next(iter(self.requests))]


def decide(fates: Fates, outcome: str, place: Place, request: str, *, again: bool) -> bool:
    """Whether it is to be done; False where this request did it already.

    Raises Conflict (the request's key was used for something else; somebody saw to the letter and not `again`).
    """
    if request in fates.requests:
        if fates.requests[request] != (outcome, place):
            raise Conflict("this idempotency key was used for something else")
        return False
    fate = fates.letters.get(place)
    if fate is not None and not again:
        raise Conflict(f"letter {place} was {fate.outcome} by {fate.by} already")
    return True


def replayed(
    place: Place, via: Via, topic: str, *, by: str, at: datetime, request: str
) -> DeadLetterReplayed:
    """The event of a confirmed replay."""
    return DeadLetterReplayed(
        source=SOURCE, subject=SUBJECT, occurred_at=at, correlation_id=request,
        letter=str(place), by=by, via=via, topic=topic,
    )  # fmt: skip


def dropped(place: Place, why: str, *, by: str, at: datetime, request: str) -> DeadLetterDropped:
    """The event of a letter that needs nothing more."""
    return DeadLetterDropped(
        source=SOURCE, subject=SUBJECT, occurred_at=at, correlation_id=request,
        letter=str(place), by=by, why=why,
    )  # fmt: skip


# Where it goes


def route(letter: Letter, assignments: Assignments) -> Via:
    """How the input is sent again: to the broker, or to the log. Raises Rejected with the reason why it can't be."""
    content = letter.content
    if content.topic in _STORED:
        if letter.author is not None or len(content.position) != 1:
            raise Rejected("the letter does not say where in the log the input is")
        return "log"
    if not any(topic_matches(heard, content.topic) for heard in _HEARD) or len(content.topic) >= _CUT:
        raise Rejected("nobody takes inputs on this letter's topic")
    if any(letter in content.topic for letter in "+#\0"):
        raise Rejected("the letter's topic is no topic to publish on")
    if letter.author is not None and not _of_its_own(letter.author, content.topic, assignments):
        raise Rejected("an edge's letter of a machine that is not assigned to it")
    if not content.whole:
        raise Rejected(
            f"only the first {len(content.payload)} of its {content.size} bytes were kept: the sender must send it"
        )
    return "mqtt"


def replay_from_us(letter: Letter, via: Via) -> int:
    """From when on a second refusal of the same bytes is a letter of its own; 0 if it always is.

    The log drops a record whose id came shortly before. An edge's letter is a row with a number of its own, and one
    of ingest has its record's new place; the gateway's id is made from the bytes.
    """
    return 0 if via == "log" or letter.author is not None else letter.time_us + RESEND_US


def log_place(content: DeadLetter) -> Place:
    """Where in the log the input of a letter of ingest is."""
    [(partition, offset)] = content.position.items()
    return Place(partition, offset)


def _of_its_own(author: tuple[str, str], topic: str, assignments: Assignments) -> bool:
    """Whether `topic` is a device's topic of a machine that the edge speaks for: no edge lends us another's voice."""
    match topic.split("/"):
        case ["plant", site, machine, *_]:
            return assignments.get(machine) == author and site == author[0]
    return False
