"""From a connection's bytes to messages, in one pass over each chunk. The gateway's hottest loop. Pure."""

import struct
from collections.abc import Callable
from typing import Final

from gateway.mqtt.inbox import Inbox
from gateway.mqtt.packets import MQTT5, PUBLISH, Level, Malformed
from gateway.mqtt.properties import read_varint

MOST_BYTES: Final = 1024 * 1024
"""Of a longer message only so much is kept: far more than is ever accepted, so it ends as a dead letter."""

MOST_CONTROL_BYTES: Final = 64 * 1024
_MAX_TOPICS: Final = 65_536
_HEAD: Final = struct.Struct(">BBBH")
_LOW: Final = 0x7F  # the greatest byte that ends a variable byte integer
_USUAL: Final = 0x3A  # PUBLISH, QoS 1, not retained, DUP set
_DUP: Final = 0x08

OnPacket = Callable[[int, bytes], None]


class Stream:
    """What one connection's server sends, cut anywhere into chunks. Messages go to `inbox`, the rest to `on_packet`."""

    def __init__(self, inbox: Inbox, on_packet: OnPacket, level: Level) -> None:
        self._inbox = inbox
        self._on_packet = on_packet
        self._mqtt5 = level == MQTT5
        self._topics: dict[bytes, str] = {}
        self._held: list[bytes] = []  # of a packet that is not complete yet
        self._held_bytes = 0
        self._needed = 0
        self._skip = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises Malformed; what came before the malformed packet is in the inbox."""
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped:]
        if self._held:
            self._held.append(chunk)
            self._held_bytes += len(chunk)
            if self._held_bytes < self._needed:
                return
            chunk = b"".join(self._held)
            self._held = []
        before = len(self._inbox.payloads)
        try:
            at = self._scan(chunk)
        except IndexError as error:
            raise Malformed("a packet's fields end beyond it") from error
        finally:
            self._inbox.put(before)
        if at < len(chunk):
            self._held = [chunk[at:]]
            self._held_bytes = len(chunk) - at

    def _scan(self, data: bytes) -> int:
        """Take all complete packets of `data`; returns where the first incomplete one starts.

        The loop itself knows one shape, QoS 1 and up to 16 KiB; `_packet` knows all.
        """
        inbox, known, mqtt5 = self._inbox, self._topics, self._mqtt5
        add_topic, add_payload, add_handle = (
            inbox.topics.append,
            inbox.payloads.append,
            inbox.handles.append,
        )
        at, size = 0, len(data)
        while at + _HEAD.size <= size:
            # As if the length took two bytes; if it takes one, the fields after it begin one byte earlier.
            head, low, high, name_size = _HEAD.unpack_from(data, at)
            if low > _LOW:
                start = at + 5
                stop = at + 3 + (low & _LOW | high << 7)
            else:
                start = at + 4
                stop = at + 2 + low
                name_size = high << 8 | name_size >> 8
            handle_at = start + name_size
            body = handle_at + 2
            if (head | _DUP) == _USUAL and high <= _LOW and body < stop <= size:
                if mqtt5:
                    body += data[body] + 1
                if body <= stop and not (mqtt5 and data[handle_at + 2] > _LOW):
                    name = data[start:handle_at]
                    handle = data[handle_at] << 8 | data[handle_at + 1]
                    if handle and name:
                        add_topic(known.get(name) or self._topic(name))
                        add_payload(data[body:stop])
                        add_handle(handle)
                        at = stop
                        continue
            after = self._packet(data, at)
            if after < 0:
                return at
            at = after
        while at < size and (after := self._packet(data, at)) >= 0:
            at = after
        return at

    def _packet(self, data: bytes, at: int) -> int:
        """Take the packet at `at`; returns where the next one starts, -1 if it is not complete."""
        head = data[at]
        try:
            length, start = read_varint(data, at + 1)
        except IndexError:
            self._needed = len(data) - at + 1
            return -1
        except ValueError as error:
            raise Malformed(str(error)) from error
        stop = start + length
        is_message = head & 0xF0 == PUBLISH
        if not is_message and length > MOST_CONTROL_BYTES:
            raise Malformed(f"a control packet of {length} bytes")
        if stop > len(data):
            self._needed = min(stop - at, MOST_BYTES)
            if len(data) - at < self._needed:
                return -1
            self._skip, stop = stop - len(data), len(data)  # too long to keep
        if is_message:
            self._message(head, data[start:stop])
        else:
            self._on_packet(head, data[start:stop])
        return stop

    def _message(self, head: int, packet: bytes) -> None:
        """Any PUBLISH (3.3), without its fixed header."""
        if head & 0x04:
            raise Malformed("a message of QoS 2, which nobody subscribed to")
        body = 2 + (packet[0] << 8 | packet[1])
        name = packet[2:body]
        handle = 0
        if head & 0x02:
            handle = packet[body] << 8 | packet[body + 1]
            body += 2
            if not handle:
                raise Malformed("a message with packet id 0")
        if self._mqtt5:
            try:
                length, body = read_varint(packet, body)
            except ValueError as error:
                raise Malformed(str(error)) from error
            body += length
        if body > len(packet):
            raise Malformed("a message's fields end beyond it")
        if not name:
            raise Malformed("a message with no topic")
        self._inbox.topics.append(self._topics.get(name) or self._topic(name))
        self._inbox.payloads.append(packet[body:])
        self._inbox.handles.append(handle)

    def _topic(self, name: bytes) -> str:
        """The topic's text, kept for its next message. Topics that are not UTF-8 are told apart by nobody."""
        try:
            topic = name.decode()
        except UnicodeDecodeError:
            topic = "\N{REPLACEMENT CHARACTER}"
        if len(self._topics) >= _MAX_TOPICS:
            self._topics.clear()
        self._topics[name] = topic
        return topic
