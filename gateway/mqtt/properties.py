"""MQTT 5's properties (2.2.2) and variable byte integers (1.5.5)."""

from dataclasses import dataclass, field
from typing import Final

MAX_VARINT: Final = 268_435_455

_REASON_STRING: Final = 0x1F
_USER_PROPERTY: Final = 0x26
_SUBSCRIPTION_ID: Final = 0x0B
# Identifier to the bytes of its number.
_NUMBERS: Final = {
    0x01: 1, 0x02: 4, 0x11: 4, 0x13: 2, 0x17: 1, 0x18: 4, 0x19: 1, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1,
    0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
# Texts and binary data: two bytes of length, then so many.
_TEXTS: Final = frozenset({0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, _REASON_STRING})


@dataclass(frozen=True, slots=True)
class Properties:
    """What a packet's properties say. `end` is where they end in it."""

    numbers: dict[int, int] = field(default_factory=dict)
    reason: str = ""
    end: int = 0


def varint(number: int) -> bytes:
    """A variable byte integer of one to four bytes."""
    if not 0 <= number <= MAX_VARINT:
        raise ValueError(f"{number} does not fit a packet's length")
    made = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer at `at` and where it ends. Raises IndexError if the data ends before, ValueError if it is too long."""
    number = 0
    for shift in (0, 7, 14, 21):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004
            return number, at
    raise ValueError("a length of more than four bytes")


def read_properties(data: bytes, at: int) -> Properties:
    """The properties at `at`. Raises IndexError or ValueError if they don't fit the data or the standard."""
    length, at = read_varint(data, at)
    end = at + length
    if end > len(data):
        raise ValueError("they end beyond their packet")
    numbers: dict[int, int] = {}
    reason = ""
    while at < end:
        name = data[at]
        at += 1
        if name in _NUMBERS:
            numbers[name] = int.from_bytes(data[at : at + _NUMBERS[name]], "big")
            at += _NUMBERS[name]
        elif name in _TEXTS:
            text, at = _field(data, at)
            if name == _REASON_STRING:
                reason = text.decode("utf-8", "replace")
        elif name == _USER_PROPERTY:
            _, at = _field(data, at)
            _, at = _field(data, at)
        elif name == _SUBSCRIPTION_ID:
            _, at = read_varint(data, at)
        else:
            raise ValueError(f"unknown property 0x{name:02x}")
    if at != end:
        raise ValueError("a property ends beyond them")
    return Properties(numbers, reason, end)


def _field(data: bytes, at: int) -> tuple[bytes, int]:
    if at + 2 > len(data):
        raise ValueError("a text has no length")
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    return data[at + 2 : end], end
