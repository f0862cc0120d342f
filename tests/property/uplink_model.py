"""The reference model of the uplink: one edge, two gateways, a broker that loses, doubles and reorders, a log.

It does no I/O and knows no time: every step is a method, and whoever drives it picks the steps, crashes included.
`Rules` are the protocol's decisions; a test mutates one at a time and expects the model to notice. The real outbox
and the real flight control run in the same world behind the `Edge` protocol.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from shared.ranges import Range, RangeSet


class Frame(NamedTuple):
    """Rows `first` to `last` as the bytes that travel; `content` are the device rows inside, in order."""

    first: int
    last: int
    data: bytes
    content: tuple[int, ...]


@dataclass(frozen=True)
class Rules:
    """The decisions of the protocol. The defaults are the product's; anything else must be caught."""

    ack_after_confirm: bool = True
    ack_ranges: bool = True  # False: an ack means "everything up to here"
    cut_is_atomic: bool = True  # False: a crash may fall between the frame's numbers and the frame
    keep_frames: bool = True  # False: a resend is cut anew from its rows, with whatever waits by then
    bound_flight: bool = True


class Edge(Protocol):
    """What the world asks of an edge. All but `in_flight` must survive `crash`."""

    def commit(self, machine: str, rows: Sequence[int]) -> None:
        """Make rows that arrived together durable."""

    def cut(self) -> None:
        """Give every waiting row its number and its frame."""

    def send(self, *, resend: bool) -> list[Frame]:
        """Frames to publish now; with `resend` also those whose ack is overdue."""

    def ack(self, ranges: Sequence[Range]) -> None:
        """Free what the log confirmed."""

    def crash(self) -> None:
        """Lose everything that is not durable and start again."""

    def waiting(self) -> list[int]:
        """Rows that are committed and not yet cut."""

    def frames(self) -> list[Frame]:
        """Frames that are kept."""

    def produced(self) -> int:
        """How many row numbers were given out."""

    def in_flight(self) -> int:
        """Frames sent and not freed."""


class ModelEdge:
    """The outbox as the wire's contract describes it, in plain lists."""

    def __init__(self, limit: int, rules: Rules) -> None:
        self._limit, self._rules = limit, rules
        self._waiting: list[tuple[str, tuple[int, ...]]] = []
        self._frames: dict[int, Frame] = {}
        self._next = 1
        self._torn = False
        self._acked = RangeSet()
        self._flying: set[int] = set()

    def commit(self, machine: str, rows: Sequence[int]) -> None:
        self._waiting.append((machine, tuple(rows)))

    def cut(self) -> None:
        machines = dict.fromkeys(machine for machine, _ in self._waiting)
        for machine in machines:
            content = tuple(row for name, rows in self._waiting if name == machine for row in rows)
            last = self._next + len(content) - 1
            data = f"{machine}:{self._next}:{content}".encode()
            self._frames[self._next] = Frame(self._next, last, data, content)
            self._next = last + 1
            self._torn = not self._rules.cut_is_atomic
        self._waiting = []

    def send(self, *, resend: bool) -> list[Frame]:
        if resend and not self._rules.keep_frames:
            self._recut()
        chosen = [f for first, f in sorted(self._frames.items()) if resend or first not in self._flying]
        if self._rules.bound_flight:
            fresh = [f for f in chosen if f.first not in self._flying][: self._limit - len(self._flying)]
            chosen = [f for f in chosen if f.first in self._flying] + fresh
        self._flying |= {frame.first for frame in chosen}
        return chosen

    def _recut(self) -> None:
        """The mutant: the last frame of a machine takes in what waits since."""
        if self._frames and self._waiting:
            first, old = max(self._frames.items())
            machine, rows = self._waiting.pop(0)
            content = old.content + rows
            self._next = first + len(content)
            data = f"{machine}:{first}:{content}".encode()
            self._frames[first] = Frame(first, self._next - 1, data, content)

    def ack(self, ranges: Sequence[Range]) -> None:
        for first, last in ranges:
            self._acked.add(first, last)
        self._torn = False
        for first, frame in list(self._frames.items()):
            if self._acked.covers(first, frame.last):
                del self._frames[first]
                self._flying.discard(first)

    def crash(self) -> None:
        if self._torn:
            self._frames.popitem()
            self._torn = False
        self._flying = set()
        self._acked = RangeSet()

    def waiting(self) -> list[int]:
        return [row for _, rows in self._waiting for row in rows]

    def frames(self) -> list[Frame]:
        return sorted(self._frames.values())

    def produced(self) -> int:
        return self._next - 1

    def in_flight(self) -> int:
        return len(self._flying)


@dataclass
class Pending:
    """A frame in a gateway's memory; `written` once the log has it."""

    frame: Frame
    written: bool = False


@dataclass
class World:
    """Everything between a device's broker and the log, and the steps it can take."""

    edge: Edge
    limit: int
    rules: Rules = field(default_factory=Rules)
    up: list[Frame] = field(default_factory=list)
    down: list[tuple[Range, ...]] = field(default_factory=list)
    gateways: tuple[list[Pending], list[Pending]] = field(default_factory=lambda: ([], []))
    log: list[Frame] = field(default_factory=list)
    unacked: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)  # in the device's broker
    committed: Counter[int] = field(default_factory=Counter)
    sent: dict[int, bytes] = field(default_factory=dict)
    devices: int = 0

    def device_publishes(self, machine: str, count: int) -> None:
        """A QoS 1 message of `count` rows waits in the device's broker."""
        rows = tuple(range(self.devices + 1, self.devices + count + 1))
        self.devices += count
        self.unacked[rows[0]] = (machine, rows)

    def edge_commits(self, *, ack: bool) -> None:
        """The edge commits all that its broker holds; without `ack` it dies before the acks are out."""
        for first, (machine, rows) in list(self.unacked.items()):
            self.edge.commit(machine, rows)
            self.committed.update(rows)
            if ack:
                del self.unacked[first]
        if not ack:
            self.edge.crash()

    def edge_sends(self, *, resend: bool) -> None:
        """The edge publishes; the same rows must always be the same bytes."""
        for frame in self.edge.send(resend=resend):
            assert self.sent.setdefault(frame.first, frame.data) == frame.data, "a resend differs"
            self.up.append(frame)

    def gateway_receives(self, gateway: int, at: int) -> None:
        """The broker hands a gateway any one of the frames under way."""
        frame = self.up.pop(at % len(self.up))
        self.gateways[gateway].append(Pending(frame))
        if not self.rules.ack_after_confirm:
            self._acknowledge(frame)

    def gateway_writes(self, gateway: int, at: int) -> None:
        """The log stores a pending frame; its confirmation is still under way."""
        pending = self.gateways[gateway][at % len(self.gateways[gateway])]
        if not pending.written:
            self.log.append(pending.frame)
            pending.written = True

    def gateway_acks(self, gateway: int) -> None:
        """The confirmations reach the gateway, and it acks them in one message."""
        written = [pending for pending in self.gateways[gateway] if pending.written]
        self.gateways[gateway][:] = [p for p in self.gateways[gateway] if not p.written]
        if written and self.rules.ack_after_confirm:
            self._acknowledge(*(pending.frame for pending in written))

    def _acknowledge(self, *frames: Frame) -> None:
        if self.rules.ack_ranges:
            self.down.append(tuple((frame.first, frame.last) for frame in frames))
        else:
            self.down.append(((1, max(frame.last for frame in frames)),))

    def edge_hears(self, at: int) -> None:
        """Any one of the acks under way reaches the edge."""
        self.edge.ack(self.down.pop(at % len(self.down)))

    def settle(self) -> None:
        """No more faults: run until nothing is left to do."""
        for _ in range(10 + self.devices):
            self.edge_commits(ack=True)
            self.edge.cut()
            self.edge_sends(resend=True)
            while self.up:
                self.gateway_receives(0, 0)
            for gateway in (0, 1):
                for at in range(len(self.gateways[gateway])):
                    self.gateway_writes(gateway, at)
                self.gateway_acks(gateway)
            while self.down:
                self.edge_hears(0)
            if not self.edge.frames() and not self.unacked:
                return
        raise AssertionError("the edge never got rid of its rows")

    def check(self) -> None:
        """The invariants that hold after every step."""
        frames, waiting = self.edge.frames(), self.edge.waiting()
        logged = RangeSet((frame.first, frame.last) for frame in self.log)
        held = RangeSet((frame.first, frame.last) for frame in frames)
        for first, last in held.gaps(1, self.edge.produced()):
            assert logged.covers(first, last), f"rows {first} to {last} were freed before the log had them"
        assert len(held) == sum(len(frame.content) for frame in frames), "two frames share a row number"
        unique = {frame.first: frame.content for frame in [*self.log, *frames]}
        assert sum(map(len, unique.values())) == self.edge.produced(), "row numbers have a gap"
        present = Counter(row for content in unique.values() for row in content) + Counter(waiting)
        assert present == self.committed, "a committed row is lost or was made twice"
        assert self.edge.in_flight() <= self.limit, "too many frames in flight"

    def check_settled(self) -> None:
        """At the end the log holds every row once after deduplication, and every device row."""
        unique = {frame.first: frame for frame in self.log}
        numbers = [n for frame in unique.values() for n in range(frame.first, frame.last + 1)]
        assert sorted(numbers) == list(range(1, self.edge.produced() + 1))
        assert Counter(row for frame in unique.values() for row in frame.content) == self.committed
        assert set(self.committed) == set(range(1, self.devices + 1))
        assert all(frame.data == unique[frame.first].data for frame in self.log)
