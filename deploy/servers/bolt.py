"""As much of Neo4j's Bolt protocol 5.1 as it takes to log on and to run a statement that yields integers.

Source: the Bolt protocol and PackStream documentation of Neo4j. Messages: HELLO, LOGON, RUN, PULL; short texts and
small maps only.
"""

import socket
import struct
from collections.abc import Mapping
from typing import Final

from deploy.servers.process import HOST

_HANDSHAKE: Final = bytes.fromhex("6060b017") + bytes([0, 0, 1, 5]) + bytes(12)
_HELLO, _LOGON, _RUN, _PULL = 0x01, 0x6A, 0x10, 0x3F
_SUCCESS, _RECORD = 0x70, 0x71
_INTEGERS: Final = {0xC8: ">b", 0xC9: ">h", 0xCA: ">i", 0xCB: ">q"}


def run_statement(
    port: int, username: str, password: str, statement: str, *, wait: float = 30.0
) -> list[int]:
    """Run a statement; the result is the first column, which must be integers.

    Raises OSError (nobody there, or no Neo4j), PermissionError among them (refused).
    """
    with socket.create_connection((HOST, port), timeout=wait) as opened:
        opened.sendall(_HANDSHAKE)
        if _read(opened, 4) != bytes([0, 0, 1, 5]):
            raise ConnectionError(f"port {port} does not speak Bolt 5.1")
        _call(opened, _HELLO, _pack({"user_agent": "industrialmind/1"}))
        _call(opened, _LOGON, _pack({"scheme": "basic", "principal": username, "credentials": password}))
        _call(opened, _RUN, _pack(statement), _pack({}), _pack({}))
        return _call(opened, _PULL, _pack({"n": -1}))


def _call(opened: socket.socket, tag: int, *fields: bytes) -> list[int]:
    """Send a message and read its records up to the summary."""
    message = bytes([0xB0 + len(fields), tag]) + b"".join(fields)
    opened.sendall(struct.pack(">H", len(message)) + message + b"\0\0")
    records: list[int] = []
    while True:
        answer = _message(opened)
        if answer[1] == _SUCCESS:
            return records
        if answer[1] != _RECORD:
            raise PermissionError(f"Neo4j refused: {answer[2:].decode(errors='replace')}")
        records.append(_integer(answer[3:]))


def _message(opened: socket.socket) -> bytes:
    """A message's chunks joined; empty messages keep the connection open and say nothing."""
    message = b""
    while True:
        size = int.from_bytes(_read(opened, 2), "big")
        if size:
            message += _read(opened, size)
        elif message:
            return message


def _read(opened: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = opened.recv(count - len(got))
        if not more:
            raise ConnectionError(f"Neo4j hung up after {len(got)} of {count} bytes")
        got += more
    return got


def _pack(value: str | int | Mapping[str, str | int]) -> bytes:
    match value:
        case str():
            raw = value.encode()
            return b"\xd1" + struct.pack(">H", len(raw)) + raw
        case int():
            return b"\xcb" + struct.pack(">q", value)
        case _:
            return bytes([0xA0 + len(value)]) + b"".join(_pack(k) + _pack(v) for k, v in value.items())


def _integer(raw: bytes) -> int:
    kind = _INTEGERS.get(raw[0])
    if kind is None:
        return int(struct.unpack(">b", raw[:1])[0])  # a small one is its own marker
    return int(struct.unpack(kind, raw[1 : 1 + struct.calcsize(kind)])[0])
