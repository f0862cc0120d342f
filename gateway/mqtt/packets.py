"""MQTT control packets as bytes, for 3.1.1 and 5 (OASIS standards; section numbers are those of MQTT 5.0).

Pure. Only what a client needs that sends QoS 0 and 1 and receives QoS 0 and 1. Received PUBLISH packets are
`gateway.mqtt.stream`'s.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from gateway.mqtt.properties import Properties, read_properties, varint
from gateway.port import Will

Level = Literal[4, 5]
"""The protocol level on the wire: 4 is MQTT 3.1.1, 5 is MQTT 5."""

MQTT5: Final = 5

CONNECT: Final = 0x10
CONNACK: Final = 0x20
PUBLISH: Final = 0x30
PUBACK: Final = 0x40
SUBSCRIBE: Final = 0x82  # with the flags that the standard fixes
SUBACK: Final = 0x90
PINGRESP: Final = 0xD0
DISCONNECT: Final = 0xE0

PINGREQ: Final = b"\xc0\x00"
FAILURE: Final = 0x80
"""Reason codes from here on are failures (2.4)."""

_ID_BYTES: Final = 2
_MOST_FIELD: Final = 0xFFFF

UNSUPPORTED_VERSION: Final = {4: 0x01, 5: 0x84}

_REASONS_3: Final = {
    1: "unacceptable protocol version",
    2: "client id rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorized",
}
_REASONS_5: Final = {
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "unsupported protocol version",
    0x85: "client id not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8B: "server shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep alive timeout",
    0x8E: "session taken over by another client of the same id",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x93: "receive maximum exceeded",
    0x94: "topic alias invalid",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x99: "payload format invalid",
    0x9A: "retain not supported",
    0x9B: "QoS not supported",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9E: "shared subscriptions not supported",
    0x9F: "connection rate exceeded",
    0xA0: "maximum connect time",
    0xA1: "subscription identifiers not supported",
    0xA2: "wildcard subscriptions not supported",
}


class Malformed(ValueError):  # noqa: N818 - the standard's word
    """Bytes that are no packet, or none that a server may send. The connection is closed."""


@dataclass(frozen=True, slots=True)
class Connack:
    """A server's answer to CONNECT: 0 is yes. What it does not say is None."""

    code: int
    session_present: bool
    reason: str = ""
    keepalive: int | None = None
    shares: bool = True


def reason(code: int, level: Level) -> str:
    """A reason or return code in words."""
    return (_REASONS_5 if level == MQTT5 else _REASONS_3).get(code, f"code 0x{code:02x}")


def connect(
    client_id: str,
    level: Level,
    *,
    clean: bool,
    keepalive: int,
    username: str = "",
    password: str = "",
    will: Will | None = None,
    receive_maximum: int = 0xFFFF,
    session_seconds: int = 0,
) -> bytes:
    """CONNECT (3.1). A session that is not clean lasts `session_seconds` on MQTT 5; 3.1.1 can't say how long."""
    flags = 0x02 if clean else 0
    payload = _text(client_id)
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        payload += (b"\0" if level == MQTT5 else b"") + _text(will.topic) + _binary(will.payload)
    if username:
        flags |= 0x80
        payload += _text(username)
        if password:
            flags |= 0x40
            payload += _text(password)
    head = _text("MQTT") + struct.pack(">BBH", level, flags, keepalive)
    if level == MQTT5:
        properties = struct.pack(
            ">BIBH", 0x11, 0 if clean else session_seconds, 0x21, min(receive_maximum, 0xFFFF)
        )
        head += varint(len(properties)) + properties
    return _packet(CONNECT, head + payload)


def publish(
    topic: str,
    payload: bytes,
    level: Level,
    *,
    packet_id: int = 0,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """PUBLISH (3.3): QoS 1 with a packet id, QoS 0 with 0."""
    head = _text(topic)
    if packet_id:
        head += packet_id.to_bytes(2, "big")
    if level == MQTT5:
        head += b"\0"
    return _packet(PUBLISH | dup << 3 | bool(packet_id) << 1 | retain, head + payload)


def pubacks(packet_ids: Sequence[int]) -> bytes:
    """PUBACK packets (3.4) one after the other, success each. Both versions write it in these four bytes."""
    packets: bytes = (np.array(packet_ids, np.uint32) | 0x40020000).astype(">u4").tobytes()
    return packets


def subscribe(packet_id: int, filters: Sequence[tuple[str, int]], level: Level) -> bytes:
    """SUBSCRIBE (3.8) to filters, each with its most QoS."""
    head = packet_id.to_bytes(2, "big") + (b"\0" if level == MQTT5 else b"")
    return _packet(SUBSCRIBE, head + b"".join(_text(each) + bytes([qos]) for each, qos in filters))


def disconnect(level: Level) -> bytes:
    """DISCONNECT (3.14): a normal good-bye, so that no will is published."""
    del level  # the reason "normal" is left out on MQTT 5 too
    return b"\xe0\x00"


def read_connack(body: bytes, level: Level) -> Connack:
    """CONNACK (3.2) without its fixed header. A server of 3.1.1 alone answers MQTT 5 in its own form."""
    if len(body) < _ID_BYTES or body[0] > 1:
        raise Malformed("CONNACK of another shape")
    code = body[1]
    if level == MQTT5 and len(body) == _ID_BYTES and code == UNSUPPORTED_VERSION[4]:
        return Connack(UNSUPPORTED_VERSION[5], session_present=False, reason=reason(code, 4))
    properties = _properties(body, 2) if level == MQTT5 else Properties()
    return Connack(
        code,
        bool(body[0]),
        _because(code, level, properties),
        properties.numbers.get(0x13),
        properties.numbers.get(0x2A, 1) == 1,
    )


def read_puback(body: bytes, level: Level) -> tuple[int, str]:
    """PUBACK (3.4): its packet id, and why the server refuses the message, or nothing."""
    code, more = body[_ID_BYTES : _ID_BYTES + 1], body[_ID_BYTES + 1 :]
    if len(body) < _ID_BYTES or (code and level != MQTT5):
        raise Malformed("PUBACK of another shape")
    properties = _properties(more, 0) if more else Properties()
    refused = code >= bytes([FAILURE])
    return int.from_bytes(body[:2], "big"), _because(code[0], level, properties) if refused else ""


def read_suback(body: bytes, level: Level) -> tuple[int, list[str]]:
    """SUBACK (3.9): its packet id, and for each filter why it is refused, or nothing."""
    start, properties = 2, Properties()
    if level == MQTT5:
        properties = _properties(body, 2)
        start = properties.end
    codes = body[start:]
    if not codes:
        raise Malformed("SUBACK of another shape")
    refused = [
        "" if code < FAILURE else (_because(code, level, properties) if level == MQTT5 else "refused")
        for code in codes
    ]
    return int.from_bytes(body[:2], "big"), refused


def read_disconnect(body: bytes, level: Level) -> str:
    """DISCONNECT (3.14) from a server: why. Only MQTT 5 has it."""
    if level != MQTT5:
        raise Malformed("DISCONNECT from a server of MQTT 3.1.1")
    code = body[0] if body else 0
    return _because(code, level, _properties(body, 1) if len(body) > 1 else Properties()) or "good-bye"


def _because(code: int, level: Level, properties: Properties) -> str:
    if not code:
        return ""
    return f"{reason(code, level)}: {properties.reason}" if properties.reason else reason(code, level)


def _properties(body: bytes, start: int) -> Properties:
    try:
        return read_properties(body, start)
    except (IndexError, ValueError, struct.error) as error:
        raise Malformed(f"properties can't be read: {error}") from error


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + varint(len(body)) + body


def _text(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    if len(data) > _MOST_FIELD:
        raise ValueError(f"a field of {len(data)} bytes: MQTT takes at most 65535")
    return len(data).to_bytes(2, "big") + data
