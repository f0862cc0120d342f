"""What a certificate says of itself, read off its PEM: whose it is and how long it holds. No library needed.

An agent has to know when its certificate ends, and Python's own `ssl` tells it of the other side's only. What is read
here is never trusted: the TLS handshake verifies, this reports. X.509: RFC 5280, section 4.1; DER: X.690.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from shared.errors import Rejected

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_LONG: Final = 0x80
_COMMON_NAME: Final = bytes.fromhex("0603550403")  # OBJECT IDENTIFIER 2.5.4.3, as it stands in a name


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate's subject (its common name), its number, and from when to when it holds."""

    name: str
    serial: int
    not_before: datetime
    not_after: datetime

    def lasts_s(self, now: datetime) -> float:
        """Seconds until it ends; negative if it has ended."""
        return (self.not_after - now).total_seconds()


def read_certificate(pem: str) -> Certificate:
    """The first certificate of a PEM text. Raises Rejected."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = pem.find(begin)
    stop = pem.find(end, start)
    if start < 0 or stop < 0:
        raise Rejected("no certificate in PEM")
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[start : stop + len(end)])
        _, outer, _ = _element(der, 0)
        _, body, _ = _element(outer, 0)
        fields = list(_elements(body))
        if fields[0][0] == _VERSION:
            fields = fields[1:]
        serial, _algorithm, _issuer, validity, subject = (content for _, content in fields[:5])
        first, last = (_time(tag, content) for tag, content in _elements(validity))
        return Certificate(_common_name(subject), int.from_bytes(serial, "big"), first, last)
    except (ValueError, IndexError) as error:
        raise Rejected(f"a certificate that can't be read: {error}") from error


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag, content and end of the element at `at`. Raises ValueError, IndexError."""
    tag, length, at = data[at], data[at + 1], at + 2
    if length >= _LONG:
        size = length - _LONG
        length, at = int.from_bytes(data[at : at + size], "big"), at + size
    if at + length > len(data):
        raise ValueError("it is cut off")
    return tag, data[at : at + length], at + length


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        tag, content, at = _element(data, at)
        found.append((tag, content))
    return found


def _time(tag: int, content: bytes) -> datetime:
    """UTCTime has two digits of the year, which count from 1950 (RFC 5280, 4.1.2.5.1)."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _common_name(subject: bytes) -> str:
    at = subject.find(_COMMON_NAME)
    if at < 0:
        return ""
    _, content, _ = _element(subject, at + len(_COMMON_NAME))
    return content.decode("utf-8")
