"""Dead letters: whole or head and hash, there and back."""

import hashlib

import orjson
import pytest

from shared.dead_letter import HEAD_BYTES, MAX_PAYLOAD, DeadLetter
from shared.errors import Rejected


@pytest.mark.parametrize("payload", [b"", b"\x00\xff not text", b"x" * MAX_PAYLOAD])
def test_a_payload_up_to_64_kib_is_whole(payload: bytes) -> None:
    letter = DeadLetter.of(
        "because", "plant/a/b/c", payload, source="edge-1", received_us=17, position={"0": 4}
    )
    assert letter.whole
    assert letter.payload == payload
    assert letter.size == len(payload)
    assert DeadLetter.decode(letter.encode()) == letter


def test_a_larger_payload_is_its_head_and_hash() -> None:
    payload = bytes(range(256)) * 257
    letter = DeadLetter.of("too long", "t", payload, source="gateway-1", received_us=17)
    assert not letter.whole
    assert letter.payload == payload[:HEAD_BYTES]
    assert letter.size == len(payload)
    assert letter.sha256 == hashlib.sha256(payload).hexdigest()
    assert DeadLetter.decode(letter.encode()) == letter


def test_texts_are_bounded_and_utf_8() -> None:
    letter = DeadLetter.of("r\ud800" * 5000, "t" * 70_000, b"", source="e", received_us=0)
    assert len(letter.encode()) < 4000
    assert DeadLetter.decode(letter.encode()).reason == letter.reason


def _without(key: str) -> bytes:
    raw = orjson.loads(DeadLetter.of("r", "t", b"p", source="e", received_us=0).encode())
    del raw[key]
    return orjson.dumps(raw)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"version":1}',
        b'{"version":2}',
        _without("payload"),
        _without("position"),
    ],
)
def test_anything_else_is_rejected(data: bytes) -> None:
    with pytest.raises(Rejected, match="dead letter"):
        DeadLetter.decode(data)
