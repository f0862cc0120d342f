"""What a batch of MQTT messages becomes in the event log: the plan that a lane carries out. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.dead_letter import DeadLetter
from shared.eventlog import Record
from shared.frames import Header
from shared.names import UplinkTopic
from shared.ranges import RangeSet
from shared.uplink import Ack

Assignments = Mapping[str, tuple[str, str]]
"""Machine to the (site, edge) that alone may speak for it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something went to `dead-letter`: the class that is counted, and how many rows of an edge it frees."""

    reason: str
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Records of one topic and key, in order, and the messages (by index in their batch) that they came from."""

    topic: str
    key: str
    records: Sequence[Record]
    messages: Sequence[int]


@dataclass(slots=True)
class Plan:
    """What a batch of messages comes to. A message is done when every group that names it is in the log."""

    groups: list[Group] = field(default_factory=list)
    headers: dict[int, Header] = field(default_factory=dict)
    """Message to the frame's header whose rows may be freed once the message is done."""
    refusals: list[Refusal] = field(default_factory=list)
    unassigned: set[str] = field(default_factory=set)
    """Machines that were refused because they are not their sender's; look again before this is carried out."""


class Collected:
    """Records gathered by topic and key, in order of the messages."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], tuple[list[Record], list[int]]] = {}

    def add(self, index: int, topic: str, key: str, records: Sequence[Record]) -> None:
        """Records of the message `index`."""
        gathered, messages = self._groups.setdefault((topic, key), ([], []))
        gathered.extend(records)
        if not messages or messages[-1] != index:
            messages.append(index)

    def groups(self) -> list[Group]:
        """All of them, a group for each topic and key."""
        return [
            Group(topic, key, records, messages) for (topic, key), (records, messages) in self._groups.items()
        ]


def letter(reason: str, topic: str, payload: bytes, *, gateway: str, now_us: int) -> Record:
    """A dead letter of the gateway's own. The same bytes on the same topic, sent again soon, are one letter."""
    made = DeadLetter.of(reason, topic, payload, source=gateway, received_us=now_us)
    digest = hashlib.blake2b(topic.encode("utf-8", "replace") + b"\0" + payload, digest_size=16)
    return Record(made.encode(), id=f"{gateway}/refused/{digest.hexdigest()}")


def record_id(header: Header, row: int) -> str:
    """The same for every resend, so that the log drops those that come soon."""
    return f"{header.site}/{header.edge}/{header.epoch.hex()}/{row}"


def acknowledgements(headers: Sequence[Header]) -> list[tuple[UplinkTopic, Ack]]:
    """One ack an edge and epoch, its ranges merged."""
    merged: dict[tuple[str, str, bytes], RangeSet] = {}
    for header in headers:
        rows = merged.get((header.site, header.edge, header.epoch))
        if rows is None:
            rows = merged[header.site, header.edge, header.epoch] = RangeSet()
        rows.add(header.first, header.last)
    return [
        (UplinkTopic(site, edge, "acks"), Ack(edge, epoch, tuple(ranges)))
        for (site, edge, epoch), ranges in merged.items()
    ]
