"""The host without its I/O: messages in, rows, letters and commands out. Nothing is raised for bad input.

Every message has one fate, at once or after it waited its turn: *stored* (it gave readings or events), *state* (a
birth, a death, the host's own STATE), *refused* (a dead letter), or *ignored* (a copy, a command, nothing in it).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.sparkplug.gathered import Gathered
from gateway.sparkplug.names import Home, Homes
from shared.errors import Rejected
from shared.events import NodeGap, NodeOffline, NodeOnline, SparkplugMetric, at
from shared.sparkplug import codec
from shared.sparkplug import session as sessions
from shared.sparkplug.births import Contents, Fault, Sample
from shared.sparkplug.channels import Channel, channels, is_control
from shared.sparkplug.node import (
    AskRebirth,
    Born,
    Data,
    Died,
    Effect,
    Gap,
    Ignored,
    Message,
    Refused,
    Rules,
    Session,
)
from shared.sparkplug.payload import Payload
from shared.sparkplug.state import HostState
from shared.sparkplug.topics import NodeId, StateTopic, parse_topic
from shared.sparkplug.translate import event, is_reading, reading, reasons, rebirth

MAX_NODES: Final = 1000
MAX_METRICS: Final = 200_000
MAX_WAITING: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What all nodes together may take: a node more gives way or is refused, a birth more is refused, waiting ends."""

    nodes: int = MAX_NODES
    metrics: int = MAX_METRICS
    waiting_bytes: int = MAX_WAITING


@dataclass(slots=True)
class _Place:
    """A node's or device's home and channels, or why it has none."""

    home: Home | None = None
    refusal: str = ""
    channels: Mapping[str, Channel] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """The time of a turn (wall clock in µs, and seconds that never go back), and the machines that edges watch."""

    now_us: int
    now: float
    edges: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class Host:
    """What host `host_id` of gateway `edge` knows of all nodes."""

    def __init__(self, host_id: str, edge: str, rules: Rules, bounds: Bounds | None = None) -> None:
        self.state_topic = str(StateTopic(host_id))
        self._edge = edge
        self._rules = rules
        self._bounds = bounds or Bounds()
        self._sessions: dict[NodeId, Session] = {}
        self._places: dict[tuple[NodeId, str], _Place] = {}
        self._homes = Homes()
        self._restless: set[NodeId] = set()
        self._sizes: dict[NodeId, tuple[int, int]] = {}
        self._metrics = self._waiting = 0

    @property
    def online(self) -> int:
        """How many nodes are up."""
        return sum(session.online for session in self._sessions.values())

    @property
    def waiting(self) -> int:
        """How many messages wait behind a gap."""
        return sum(len(self._sessions[node].waiting) for node in self._restless)

    def message(
        self, topic: str, payload: bytes, turn: Turn, out: Gathered, *, retained: bool = False
    ) -> None:
        """Take one message."""
        try:
            parsed = parse_topic(topic)
            if isinstance(parsed, StateTopic):
                self._own_state(topic, payload, out)
                return
            message = Message(parsed, codec.decode(payload), payload, retained)
            session = self._session(parsed.node)
        except Rejected as error:
            out.letter(self._edge, error.reason, topic, payload, source=self._edge, now_us=turn.now_us)
            out.fates["refused"] += 1
            return
        own = self._sizes.get(parsed.node, (0, 0))[0]
        room = min(self._rules.metrics, self._bounds.metrics - self._metrics + own)
        self._keep(
            *sessions.receive(session, message, turn.now, replace(self._rules, metrics=room)), turn, out
        )
        if self._waiting > self._bounds.waiting_bytes:
            session = self._sessions[parsed.node]
            self._keep(*sessions.give_up(session, turn.now, self._rules), turn, out)

    def tick(self, turn: Turn, out: Gathered) -> None:
        """What time alone brings."""
        for node in sorted(self._restless):
            self._keep(*sessions.tick(self._sessions[node], turn.now, self._rules), turn, out)

    def lose(self, turn: Turn, out: Gathered) -> None:
        """The connection was lost: all that is known is stale, and nodes that were up are asked for births."""
        for session in list(self._sessions.values()):
            self._keep(*sessions.lose(session, turn.now, self._rules), turn, out)

    def _own_state(self, topic: str, payload: bytes, out: Gathered) -> None:
        """STATE: if someone says that this host is offline, it says otherwise. Raises Rejected."""
        state = HostState.decode(payload)
        out.announce |= topic == self.state_topic and not state.online
        out.fates["state"] += 1

    def _session(self, node: NodeId) -> Session:
        """The node's session, a new one if there is room: one that has been down longest gives way. Raises Rejected."""
        known = self._sessions.get(node)
        if known is not None:
            return known
        if len(self._sessions) >= self._bounds.nodes:
            down = [each for each in self._sessions.values() if not each.online]
            if not down:
                raise Rejected(f"no room for node {node}: {self._bounds.nodes} are up")
            self._forget(min(down, key=lambda each: each.changed_at).node)
        return Session(node)

    def _forget(self, node: NodeId) -> None:
        del self._sessions[node]
        self._restless.discard(node)
        self._size(node, 0, 0)
        self._homes.forget(node)
        for key in [key for key in self._places if key[0] == node]:
            del self._places[key]

    def _keep(self, session: Session, effects: tuple[Effect, ...], turn: Turn, out: Gathered) -> None:
        node = session.node
        self._sessions[node] = session
        self._size(
            node,
            sum(map(len, session.tables.values())),
            sum(len(message.raw) for message in session.waiting.values()),
        )
        (self._restless.add if session.waiting or session.wanted else self._restless.discard)(node)
        for effect in effects:
            self._carry_out(node, effect, turn, out)

    def _size(self, node: NodeId, metrics: int, waiting: int) -> None:
        had_metrics, had_waiting = self._sizes.pop(node, (0, 0))
        self._metrics += metrics - had_metrics
        self._waiting += waiting - had_waiting
        if metrics or waiting:
            self._sizes[node] = metrics, waiting

    def _carry_out(self, node: NodeId, effect: Effect, turn: Turn, out: Gathered) -> None:
        match effect:
            case Born():
                self._born(node, effect, turn, out)
            case Data():
                self._data(node, effect, turn, out)
            case Died():
                self._died(node, effect, turn, out)
            case Gap():
                self._gap(node, effect, turn, out)
            case AskRebirth():
                out.commands.append(rebirth(node, turn.now_us))
                out.told.append(f"asked {node} for a rebirth: {effect.reason}")
            case Refused():
                self._refused(node, effect.message, effect.reason, turn, out)
            case Ignored():
                out.fates["ignored"] += 1

    def _born(self, node: NodeId, born: Born, turn: Turn, out: Gathered) -> None:
        place = self._places[node, born.device] = _Place()
        try:
            home = place.home = self._homes.claim(node, born.device, turn.edges)
        except Rejected as error:
            place.refusal = error.reason
            self._refused(node, born.message, error.reason, turn, out)
            out.told.append(error.reason)
            return
        place.channels, refused = channels(born.table)
        online = NodeOnline(
            source=f"gateway/{self._edge}",
            subject=home.machine,
            occurred_at=at(self._said(born.message.payload, turn)),
            edge=self._edge,
            group=node.group,
            node=node.node,
            device=born.device,
            bd_seq=born.bd_seq,
            metrics=len(born.table),
        )
        out.event(home, online)
        out.fates["state"] += 1
        _, faults = self._samples(node, born.device, home, born.contents, turn, out)
        self._faulty(home, born.message, [*born.contents.faults, *refused, *faults], turn, out)

    def _data(self, node: NodeId, data: Data, turn: Turn, out: Gathered) -> None:
        place = self._places[node, data.device]
        if place.home is None:
            self._refused(node, data.message, place.refusal, turn, out)
            return
        kept, faults = self._samples(node, data.device, place.home, data.contents, turn, out)
        faults = [*data.contents.faults, *faults]
        self._faulty(place.home, data.message, faults, turn, out)
        out.fates["stored" if kept else "refused" if faults else "ignored"] += 1

    def _samples(
        self, node: NodeId, device: str, home: Home, contents: Contents, turn: Turn, out: Gathered
    ) -> tuple[int, list[Fault]]:
        """Keep what can be kept of a message's values; how many that is, and what is wrong with others."""
        known, kept, faults = self._places[node, device].channels, 0, []
        for sample in contents.samples:
            channel = known.get(sample.name)
            passed = _passed_over(sample, channel)
            if passed or channel is None:
                out.samples[passed or "refused"] += 1
                continue
            try:
                if is_reading(sample):
                    out.row(home, reading(sample, channel, turn.now_us))
                else:
                    out.event(home, self._event(sample, node, device, home, turn))
            except Rejected as error:
                faults.append(Fault(sample.name, error.reason))
                continue
            kept += 1
            out.samples[_kept_as(sample)] += 1
        out.samples["faulty"] += len(faults) + len(contents.faults)
        out.samples["refused"] += contents.refused
        return kept, faults

    def _event(self, sample: Sample, node: NodeId, device: str, home: Home, turn: Turn) -> SparkplugMetric:
        """Raises Rejected."""
        return event(
            sample,
            node,
            device,
            machine=home.machine,
            source=f"gateway/{self._edge}",
            edge=self._edge,
            now_us=turn.now_us,
        )

    def _died(self, node: NodeId, died: Died, turn: Turn, out: Gathered) -> None:
        if died.message is not None:
            out.fates["state"] += 1
        place = self._places.get((node, died.device))
        if place is None or place.home is None:
            return
        offline = NodeOffline(
            source=f"gateway/{self._edge}",
            subject=place.home.machine,
            # A will was written when its node connected: only the arrival says when it died.
            occurred_at=at(turn.now_us),
            edge=self._edge,
            group=node.group,
            node=node.node,
            device=died.device,
            bd_seq=died.bd_seq,
            reason=died.reason,
        )
        out.event(place.home, offline)

    def _gap(self, node: NodeId, gap: Gap, turn: Turn, out: Gathered) -> None:
        out.gaps += 1
        out.missed += gap.missed
        out.told.append(f"{node} skipped from {gap.expected} to {gap.found}: {gap.missed} messages are lost")
        place = self._places.get((node, ""))
        if place is None or place.home is None:
            return
        event = NodeGap(
            source=f"gateway/{self._edge}",
            subject=place.home.machine,
            occurred_at=at(turn.now_us),
            edge=self._edge,
            group=node.group,
            node=node.node,
            device="",
            expected=gap.expected,
            found=gap.found,
            missed=gap.missed,
        )
        out.event(place.home, event)

    def _faulty(self, home: Home, message: Message, faults: list[Fault], turn: Turn, out: Gathered) -> None:
        """One dead letter a message for all that is wrong with its metrics."""
        if faults:
            out.letter(
                home.machine,
                reasons(faults),
                str(message.topic),
                message.raw,
                source=self._edge,
                now_us=turn.now_us,
            )

    def _refused(self, node: NodeId, message: Message, reason: str, turn: Turn, out: Gathered) -> None:
        place = self._places.get((node, message.topic.device))
        key = place.home.machine if place is not None and place.home is not None else self._edge
        out.letter(key, reason, str(message.topic), message.raw, source=self._edge, now_us=turn.now_us)
        out.fates["refused"] += 1

    def _said(self, payload: Payload, turn: Turn) -> int:
        """When the message was sent, by its own word where that is no later than now; else now."""
        said = None if payload.timestamp is None else payload.timestamp * 1000
        return said if said is not None and said <= turn.now_us else turn.now_us


def _kept_as(sample: Sample) -> str:
    return "event" if not is_reading(sample) else "historical" if sample.historical else "reading"


def _passed_over(sample: Sample, channel: Channel | None) -> str:
    """Why a value is neither reading nor event; empty if it is one."""
    if is_control(sample.name):
        return "control"
    if channel is None:
        return "refused"  # told once, with the birth
    if sample.value is None:
        return "null"
    return "transient" if sample.transient else ""
