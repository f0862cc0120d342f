"""Edges' frames into the log, byte for byte. Pure; nothing is raised for bad input."""

from typing import Final

from gateway.logic import Assignments, Collected, Plan, Refusal, letter, record_id
from gateway.port import Arrivals
from shared import names
from shared.errors import Rejected
from shared.eventlog import Record
from shared.frame_codec import decode_body, decode_header
from shared.frames import Header, Kind, Records
from shared.names import UplinkTopic
from shared.origin import origin_headers

_AS_FRAMES: Final = {
    Kind.READINGS: names.SENSOR_READINGS,
    Kind.AGGREGATE: names.SENSOR_READINGS,
    Kind.SCORES: names.SCORES,
    Kind.WAVE: names.WAVEFORMS,
}
_AS_RECORDS: Final = {Kind.EVENT: names.MACHINE_EVENTS, Kind.REJECT: names.DEAD_LETTER}


def plan_frames(arrivals: Arrivals, assignments: Assignments, *, gateway: str, now_us: int) -> Plan:
    """Route frames. A refused one goes to `dead-letter`; its rows are freed only if they are its sender's."""
    plan = Plan()
    collected = Collected()
    for index, (topic, payload) in enumerate(zip(arrivals.topics, arrivals.payloads, strict=True)):
        header: Header | None = None
        try:
            header, body = _own_frame(topic, payload)
            _check_assigned(header, assignments)
            collected.add(index, *_routed(header, body, payload))
        except Rejected as error:
            refused = letter(error.reason, topic, payload, gateway=gateway, now_us=now_us)
            if header is None:
                collected.add(index, names.DEAD_LETTER, gateway, [refused])
                plan.refusals.append(Refusal("unreadable"))
                continue
            collected.add(index, names.DEAD_LETTER, _key(header), [_refused(refused, header)])
            if isinstance(error, _Unassigned):
                plan.unassigned.add(header.machine)
            plan.refusals.append(Refusal("refused", header.count))
        plan.headers[index] = header
    plan.groups = collected.groups()
    return plan


class _Unassigned(Rejected):
    """The machine is not its sender's, as far as is known."""


def _own_frame(topic: str, payload: bytes) -> tuple[Header, bytes]:
    """The header and the encoded body of a frame that came on its edge's own topic. Raises Rejected."""
    sender = UplinkTopic.parse(topic)
    header, body = decode_header(payload)
    if (header.site, header.edge) != (sender.site, sender.edge):
        raise Rejected(f"a frame of {header.site}/{header.edge} on {topic}")
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
        return topic, key, [Record(payload, id=record_id(header, header.first))]
    inner = decode_body(header.kind, body)
    if not isinstance(inner, Records) or len(inner) != header.count:
        raise Rejected(f"the frame says {header.count} rows and holds {len(inner)}")
    records = [
        Record(value, origin_headers(header, row), record_id(header, row))
        for row, value in enumerate(inner.record, start=header.first)
    ]
    return _AS_RECORDS[header.kind], key, records


def _refused(refused: Record, header: Header) -> Record:
    """The letter, with the rows that it stands for, so that the ledger counts them as rejected and not as lost."""
    origin = origin_headers(header, header.first) | {names.HEADER_ROWS: str(header.count)}
    return Record(refused.value, origin, f"{record_id(header, header.first)}/refused")


def _key(header: Header) -> str:
    """The log's key: the machine, or the edge where a refused input named none."""
    return header.machine or header.edge
