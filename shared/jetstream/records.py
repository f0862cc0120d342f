"""A JetStream message as the log's record."""

from typing import Final, NamedTuple

from shared.eventlog import Stored
from shared.nats.session import Message, sequence, stamp_us

PARTITION: Final = "0"
"""A JetStream topic is one ordered stream: one partition."""

_PLAIN_TOKENS: Final = 9


class Delivered(NamedTuple):
    """What a consumer tells in the subject that takes the ack."""

    stream: str
    offset: int
    nanoseconds: int


def delivered(message: Message) -> Delivered:
    """Read the ack's subject (ADR-15)."""
    # $JS.ACK.STREAM.CONSUMER.DELIVERED.STREAM_SEQ.CONSUMER_SEQ.NANOSECONDS.PENDING; in a domain two more tokens
    # come after ACK and a random one at the end.
    tokens = message.reply.split(".")
    shift = 0 if len(tokens) == _PLAIN_TOKENS else 2
    return Delivered(tokens[2 + shift], int(tokens[5 + shift]), int(tokens[7 + shift]))


def stored_directly(topic: str, message: Message) -> Stored:
    """From a direct get, which tells subject, sequence and time in headers."""
    headers = message.headers or {}
    key = headers.get("Nats-Subject", "").removeprefix(f"log.{topic}.")
    return Stored(topic, key, message.data, _own(headers), PARTITION, sequence(message), stamp_us(message))


def stored_delivered(topic: str, message: Message) -> Stored:
    """From a consumer's delivery."""
    place = delivered(message)
    key = message.subject.removeprefix(f"log.{topic}.")
    headers = _own(message.headers or {})
    return Stored(topic, key, message.data, headers, PARTITION, place.offset, place.nanoseconds // 1000)


def _own(headers: dict[str, str]) -> dict[str, str]:
    return {str(name): value for name, value in headers.items() if not name.startswith("Nats-")}
