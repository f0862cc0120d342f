"""What each MQTT message becomes in the event log. Pure: no I/O, no clock, nothing raised for bad input."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from shared import names
from shared.dead_letter import DeadLetter
from shared.device_json import parse_device
from shared.errors import Rejected
from shared.eventlog import Record
from shared.frame_codec import decode_body, decode_header, encode
from shared.frames import (
    EPOCH_BYTES,
    MAX_ROWS,
    Header,
    Kind,
    Readings,
    Records,
    concat_readings,
    slice_readings,
)
from shared.names import DeviceTopic, UplinkTopic
from shared.ranges import RangeSet
from shared.uplink import Ack

Assignments = Mapping[str, tuple[str, str]]
"""Machine to the (site, edge) that alone may speak for it."""

MAX_MACHINES: Final = 10_000
_AS_FRAMES: Final = {
    Kind.READINGS: names.SENSOR_READINGS,
    Kind.AGGREGATE: names.SENSOR_READINGS,
    Kind.SCORES: names.SCORES,
    Kind.WAVE: names.WAVEFORMS,
}
_AS_RECORDS: Final = {Kind.EVENT: names.MACHINE_EVENTS, Kind.REJECT: names.DEAD_LETTER}


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
    records: tuple[Record, ...]
    messages: frozenset[int]


@dataclass(slots=True)
class Plan:
    """What a batch of messages comes to. A message is done when every group that names it is in the log."""

    groups: list[Group] = field(default_factory=list)
    headers: dict[int, Header] = field(default_factory=dict)
    """Message to the frame's header whose rows may be freed once the message is done."""
    refusals: list[Refusal] = field(default_factory=list)
    unassigned: set[str] = field(default_factory=set)
    """Machines that were refused because they are not their sender's; look again before this is carried out."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as the broker delivered it."""

    topic: str
    payload: bytes


class Planner:
    """Plans batches for one gateway, known as edge `gateway` to the ledger."""

    def __init__(self, gateway: str, epoch: bytes) -> None:
        self.gateway = gateway
        self._epoch = epoch
        self._next_row: dict[tuple[str, str], int] = {}

    def frames(self, batch: Sequence[Incoming], assignments: Assignments, *, now_us: int) -> Plan:
        """Route edges' frames. A refused one goes to `dead-letter`; its rows are freed only if they are its sender's."""
        plan = Plan()
        collected = _Collected()
        for index, message in enumerate(batch):
            header: Header | None = None
            try:
                header, body = _own_frame(message)
                _check_assigned(header, assignments)
                collected.add(index, *_routed(header, body, message.payload))
            except Rejected as error:
                letter = self._letter(error.reason, message, message.payload, now_us)
                if header is None:
                    collected.add(index, names.DEAD_LETTER, self.gateway, [letter])
                    plan.refusals.append(Refusal("unreadable"))
                    continue
                collected.add(index, names.DEAD_LETTER, _key(header), [_refused(letter, header)])
                if isinstance(error, _Unassigned):
                    plan.unassigned.add(header.machine)
                plan.refusals.append(Refusal("refused", header.count))
            plan.headers[index] = header
        plan.groups = collected.groups()
        return plan

    def direct(self, batch: Sequence[Incoming], assignments: Assignments, *, now_us: int) -> Plan:
        """Frame the JSON of machines with no edge. Machines that have one are left to it.

        Rows are numbered here: carry out one plan before the next, so that those in the log have no gap.
        """
        plan = Plan()
        collected = _Collected()
        readings: dict[tuple[str, str], list[Readings]] = {}
        senders: dict[tuple[str, str], set[int]] = {}
        for index, message in enumerate(batch):
            key = self.gateway
            if _left_to_its_edge(message.topic, assignments):
                continue
            try:
                topic = DeviceTopic.parse(message.topic)
                key = topic.machine
                self._check_room(topic)
                parsed = parse_device(topic, message.payload, now_us=now_us)
            except Rejected as error:
                letters = [self._letter(error.reason, message, message.payload, now_us)]
                plan.refusals.append(Refusal("payload"))
            else:
                letters = [self._letter(each.reason, message, each.item, now_us) for each in parsed.rejects]
                plan.refusals += [Refusal("reading")] * len(letters)
                if len(parsed.readings):
                    readings.setdefault((topic.site, topic.machine), []).append(parsed.readings)
                    senders.setdefault((topic.site, topic.machine), set()).add(index)
            if letters:
                collected.add(index, names.DEAD_LETTER, key, letters)
        for (site, machine), parts in readings.items():
            frames = self._framed(site, machine, concat_readings(parts))
            for index in senders[site, machine]:
                collected.add(index, names.SENSOR_READINGS, machine, frames)
                frames = []
        plan.groups = collected.groups()
        return plan

    def _framed(self, site: str, machine: str, readings: Readings) -> list[Record]:
        records = []
        epoch = self._epoch_of(site, machine)
        for start in range(0, len(readings), MAX_ROWS):
            part = slice_readings(readings, start, min(start + MAX_ROWS, len(readings)))
            first = self._next_row[site, machine]
            header = Header(site, self.gateway, machine, Kind.READINGS, epoch, first, len(part))
            records.append(Record(encode(header, part), id=_id(header, first)))
            self._next_row[site, machine] = first + len(part)
        return records

    def _check_room(self, topic: DeviceTopic) -> None:
        key = (topic.site, topic.machine)
        if key not in self._next_row:
            if len(self._next_row) >= MAX_MACHINES:
                raise Rejected(
                    f"machine {topic.machine} is one more than the {MAX_MACHINES} that fit a gateway"
                )
            self._next_row[key] = 1

    def _epoch_of(self, site: str, machine: str) -> bytes:
        """One epoch a machine and start: a gateway that dies leaves no gap before rows that the log already has."""
        name = f"{site}/{machine}".encode()
        return hashlib.blake2b(name, key=self._epoch, digest_size=EPOCH_BYTES).digest()

    def _letter(self, reason: str, message: Incoming, payload: bytes, now_us: int) -> Record:
        """A dead letter of the gateway's own. The same bytes on the same topic, sent again soon, are one letter."""
        letter = DeadLetter.of(reason, message.topic, payload, source=self.gateway, received_us=now_us)
        digest = hashlib.blake2b(message.topic.encode("utf-8", "replace") + b"\0" + payload, digest_size=16)
        return Record(letter.encode(), id=f"{self.gateway}/refused/{digest.hexdigest()}")


class _Unassigned(Rejected):
    """The machine is not its sender's, as far as is known."""


class _Collected:
    """Records gathered by topic and key."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], tuple[list[Record], set[int]]] = {}

    def add(self, index: int, topic: str, key: str, records: Sequence[Record]) -> None:
        gathered, messages = self._groups.setdefault((topic, key), ([], set()))
        gathered.extend(records)
        messages.add(index)

    def groups(self) -> list[Group]:
        return [
            Group(topic, key, tuple(records), frozenset(messages))
            for (topic, key), (records, messages) in self._groups.items()
        ]


def _own_frame(message: Incoming) -> tuple[Header, bytes]:
    """The header and the encoded body of a frame that came on its edge's own topic. Raises Rejected."""
    topic = UplinkTopic.parse(message.topic)
    header, body = decode_header(message.payload)
    if (header.site, header.edge) != (topic.site, topic.edge):
        raise Rejected(f"a frame of {header.site}/{header.edge} on {message.topic}")
    return header, body


def _check_assigned(header: Header, assignments: Assignments) -> None:
    """Raises _Unassigned. An edge may report what it refused of any machine."""
    if header.kind is Kind.REJECT:
        return
    if assignments.get(header.machine) != (header.site, header.edge):
        raise _Unassigned(f"machine {header.machine} is not assigned to {header.site}/{header.edge}")


def _routed(header: Header, body: bytes, payload: bytes) -> tuple[str, str, list[Record]]:
    """Topic, key and records of an accepted frame. Raises Rejected."""
    key = _key(header)
    topic = _AS_FRAMES.get(header.kind)
    if topic is not None:
        return topic, key, [Record(payload, id=_id(header, header.first))]
    inner = decode_body(header.kind, body)
    if not isinstance(inner, Records) or len(inner) != header.count:
        raise Rejected(f"the frame says {header.count} rows and holds {len(inner)}")
    records = [
        Record(value, _origin(header, row), _id(header, row))
        for row, value in enumerate(inner.record, start=header.first)
    ]
    return _AS_RECORDS[header.kind], key, records


def _refused(letter: Record, header: Header) -> Record:
    """The letter, with the rows that it stands for, so that the ledger counts them as rejected and not as lost."""
    origin = _origin(header, header.first) | {names.HEADER_ROWS: str(header.count)}
    return Record(letter.value, origin, f"{_id(header, header.first)}/refused")


def _key(header: Header) -> str:
    """The log's key: the machine, or the edge where a refused input named none."""
    return header.machine or header.edge


def _origin(header: Header, row: int) -> dict[str, str]:
    return {
        names.HEADER_SITE: header.site,
        names.HEADER_EDGE: header.edge,
        names.HEADER_EPOCH: header.epoch.hex(),
        names.HEADER_ROW: str(row),
    }


def _id(header: Header, row: int) -> str:
    """The same for every resend, so that the log drops those that come soon."""
    return f"{header.site}/{header.edge}/{header.epoch.hex()}/{row}"


def acknowledgements(headers: Sequence[Header]) -> list[tuple[UplinkTopic, Ack]]:
    """One ack an edge and epoch, its ranges merged."""
    merged: dict[tuple[str, str, bytes], RangeSet] = {}
    for header in headers:
        merged.setdefault((header.site, header.edge, header.epoch), RangeSet()).add(header.first, header.last)
    return [
        (UplinkTopic(site, edge, "acks"), Ack(edge, epoch, tuple(ranges)))
        for (site, edge, epoch), ranges in merged.items()
    ]


def _left_to_its_edge(topic: str, assignments: Assignments) -> bool:
    """Whether an edge hears this topic too, good or bad: `plant/SITE/MACHINE/…` of four parts, of its machine."""
    parts = topic.split("/")
    return len(parts) == 4 and parts[2] in assignments  # noqa: PLR2004 - the grammar of device topics
