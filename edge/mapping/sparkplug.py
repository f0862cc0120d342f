"""Sparkplug nodes and devices that the edge reads itself: births, data and deaths into readings and events.

The edge is a second host beside the plant's primary one: it says nothing of itself, and asks a node for its births when
it does not know them. Its sessions are in memory: after a restart each node is asked anew.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from edge.input_limits import InputLimits
from edge.mapping.channels import Channels
from edge.mapping.gathered import Gathered, Letter
from edge.mapping.schema import UNKNOWN_UNIT, MappingFile, SparkplugMetric, SparkplugRule
from shared.errors import Rejected
from shared.events import Event, NodeGap, NodeOffline, NodeOnline, at
from shared.names import fitted
from shared.paho import MqttMessage
from shared.sparkplug import codec
from shared.sparkplug import session as sessions
from shared.sparkplug.births import Contents, Fault, Sample, Table
from shared.sparkplug.channels import Channel, is_control, unit_of
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
from shared.sparkplug.topics import HEARD, NAMESPACE, NodeId, NodeTopic, parse_topic
from shared.sparkplug.translate import Row, event, is_reading, reading, reasons, rebirth
from shared.units import NO_UNIT, convert

PREFIX = f"{NAMESPACE}/"


@dataclass(frozen=True, slots=True)
class _Metric:
    """A metric's sensor, the unit of its values and the unit of its readings."""

    channel: Channel
    unit: str


@dataclass(slots=True)
class _Place:
    """A node or device of the mapping. `metrics`: those of the birth in force that are taken."""

    rule: SparkplugRule
    metrics: Mapping[str, _Metric] = field(default_factory=dict)


class SparkplugInputs:
    """The Sparkplug nodes of a mapping, by their own sessions. Bounded by the mapping and the session's rules."""

    def __init__(
        self, mapping: MappingFile, machines: Collection[str], limits: InputLimits, *, edge: str
    ) -> None:
        self._edge = edge
        self._rules = Rules()
        self._channels = Channels(machines, limits)
        self._places = {
            (NodeId(rule.group, rule.node), rule.device): _Place(rule) for rule in mapping.sparkplug
        }
        self._sessions = {
            node: Session(node, wanted="this agent started")
            for node in sorted({key[0] for key in self._places})
        }
        self._connection = 0

    def filters(self) -> list[str]:
        """What to subscribe to: of a node all devices, since its sequence counts over all of them."""
        return [
            f"{NAMESPACE}/{node.group}/{kind}/{node.node}{'/+' if kind.of_device else ''}"
            for node in self._sessions
            for kind in HEARD
        ]

    def take(self, message: MqttMessage, now_us: int, now: float, out: Gathered) -> None:
        """One message under spBv1.0/; `now` in seconds of a clock that never goes back."""
        if message.connection != self._connection:
            if self._connection:
                self._lose(now_us, now, out)
            self._connection = message.connection
        try:
            topic = parse_topic(message.topic)
            if not isinstance(topic, NodeTopic) or topic.node not in self._sessions:
                raise Rejected(f"topic {message.topic[:120]!r} is of no node of the mapping")  # noqa: TRY301
            parsed = Message(topic, codec.decode(message.payload), message.payload, message.retain)
        except Rejected as error:
            out.letters.append(Letter("", error.reason, message.topic, message.payload, now_us))
            out.fates["refused"] += 1
            return
        self._keep(*sessions.receive(self._sessions[topic.node], parsed, now, self._rules), now_us, out)

    def tick(self, now_us: int, now: float, out: Gathered) -> None:
        """What time alone brings: gaps that did not close, births that may be asked for by now."""
        for session in list(self._sessions.values()):
            if session.waiting or session.wanted:
                self._keep(*sessions.tick(session, now, self._rules), now_us, out)

    def _lose(self, now_us: int, now: float, out: Gathered) -> None:
        """The connection was lost: what is known of the nodes is stale."""
        for session in list(self._sessions.values()):
            self._keep(*sessions.lose(session, now, self._rules), now_us, out)
            lost = self._sessions[session.node]
            self._sessions[session.node] = replace(lost, wanted=lost.wanted or "this agent was away")

    def _keep(self, session: Session, effects: tuple[Effect, ...], now_us: int, out: Gathered) -> None:
        self._sessions[session.node] = session
        for effect in effects:
            self._carry_out(session.node, effect, now_us, out)

    def _carry_out(self, node: NodeId, effect: Effect, now_us: int, out: Gathered) -> None:
        match effect:
            case Born():
                self._born(node, effect, now_us, out)
            case Data():
                self._data(node, effect, now_us, out)
            case Died():
                self._died(node, effect, now_us, out)
            case Gap():
                self._gap(node, effect, now_us, out)
            case AskRebirth():
                out.commands.append(rebirth(node, now_us))
                out.told.append(f"asked {node} for a rebirth: {effect.reason}")
            case Refused():
                place = self._places.get((node, effect.message.topic.device))
                self._letter(place, effect.reason, effect.message, now_us, out)
                out.fates["refused"] += 1
            case Ignored():
                out.fates["ignored"] += 1

    def _born(self, node: NodeId, born: Born, now_us: int, out: Gathered) -> None:
        out.fates["state"] += 1
        place = self._places.get((node, born.device))
        if place is None:
            return
        place.metrics, refused = self._metrics(node, place.rule, born.table)
        said = born.message.payload.timestamp
        self._event(
            place,
            NodeOnline(
                source=f"edge/{self._edge}",
                subject=place.rule.machine,
                occurred_at=at(now_us if said is None or said * 1000 > now_us else said * 1000),
                edge=self._edge,
                group=node.group,
                node=node.node,
                device=born.device,
                bd_seq=born.bd_seq,
                metrics=len(born.table),
            ),
            out,
        )
        _, faults = self._samples(node, place, born.contents, now_us, out)
        self._faulty(place, born.message, [*born.contents.faults, *refused, *faults], now_us, out)

    def _metrics(
        self, node: NodeId, rule: SparkplugRule, table: Table
    ) -> tuple[dict[str, _Metric], list[Fault]]:
        """What the birth's metrics become, and why some become nothing."""
        made: dict[str, _Metric] = {}
        faults = []
        for name in sorted(table.by_name):
            row = rule.metrics.get(name) if rule.metrics else SparkplugMetric()
            if row is None or name in rule.ignore or is_control(name):
                continue
            sensor = row.sensor or fitted(name)
            try:
                unit, source = _units(row, table, name)
                self._channels.claim(rule.machine, sensor, (NAMESPACE, str(node), rule.device, name), row)
            except Rejected as error:
                faults.append(Fault(name, error.reason))
                continue
            made[name] = _Metric(Channel(sensor, source), unit)
        return made, faults

    def _data(self, node: NodeId, data: Data, now_us: int, out: Gathered) -> None:
        place = self._places.get((node, data.device))
        if place is None:
            out.fates["ignored"] += 1
            return
        kept, faults = self._samples(node, place, data.contents, now_us, out, live=True)
        faults = [*data.contents.faults, *faults]
        self._faulty(place, data.message, faults, now_us, out)
        out.fates["readings" if kept else "refused" if faults else "ignored"] += 1

    def _samples(
        self,
        node: NodeId,
        place: _Place,
        contents: Contents,
        now_us: int,
        out: Gathered,
        *,
        live: bool = False,
    ) -> tuple[int, list[Fault]]:
        """Keep what can be kept of a message's values; how many that is, and what is wrong with others."""
        kept, faults, newest = 0, [], 0
        machine = place.rule.machine
        for sample in contents.samples:
            metric = place.metrics.get(sample.name)
            if metric is None or sample.value is None or sample.transient:
                continue
            try:
                if is_reading(sample):
                    row = _converted(sample, metric, now_us)
                    out.of(machine).add(row.sensor, row.unit, row.time_us, row.value, row.quality, now_us)
                    newest = max(newest, 0 if sample.historical else row.time_us)
                else:
                    made = event(
                        sample,
                        node,
                        place.rule.device,
                        machine=machine,
                        source=f"edge/{self._edge}",
                        edge=self._edge,
                        now_us=now_us,
                    )
                    self._event(place, made, out)
            except Rejected as error:
                faults.append(Fault(sample.name, error.reason))
                continue
            kept += 1
        if live and newest:
            out.live.append((machine, newest, now_us))
        return kept, faults

    def _died(self, node: NodeId, died: Died, now_us: int, out: Gathered) -> None:
        if died.message is not None:
            out.fates["state"] += 1
        place = self._places.get((node, died.device))
        if place is None:
            return
        offline = NodeOffline(
            source=f"edge/{self._edge}",
            subject=place.rule.machine,
            # A will was written when its node connected: only the arrival says when it died.
            occurred_at=at(now_us),
            edge=self._edge,
            group=node.group,
            node=node.node,
            device=died.device,
            bd_seq=died.bd_seq,
            reason=died.reason,
        )
        self._event(place, offline, out)

    def _gap(self, node: NodeId, gap: Gap, now_us: int, out: Gathered) -> None:
        out.told.append(f"{node} skipped from {gap.expected} to {gap.found}: {gap.missed} messages are lost")
        place = next(place for key, place in sorted(self._places.items()) if key[0] == node)
        missed = NodeGap(
            source=f"edge/{self._edge}",
            subject=place.rule.machine,
            occurred_at=at(now_us),
            edge=self._edge,
            group=node.group,
            node=node.node,
            device="",
            expected=gap.expected,
            found=gap.found,
            missed=gap.missed,
        )
        self._event(place, missed, out)

    def _event(self, place: _Place, made: Event, out: Gathered) -> None:
        out.events.setdefault(place.rule.machine, []).append(made)

    def _faulty(
        self, place: _Place, message: Message, faults: list[Fault], now_us: int, out: Gathered
    ) -> None:
        if faults:
            self._letter(place, reasons(faults), message, now_us, out)

    def _letter(
        self, place: _Place | None, reason: str, message: Message, now_us: int, out: Gathered
    ) -> None:
        machine = "" if place is None else place.rule.machine
        out.letters.append(Letter(machine, reason, str(message.topic), message.raw, now_us))


def _units(row: SparkplugMetric, table: Table, name: str) -> tuple[str, str]:
    """The unit of a metric's readings, and that of its values. Raises Rejected."""
    if row.unit == UNKNOWN_UNIT:
        raise Rejected("its unit is not known yet: write it in the mapping")
    said = unit_of(table.by_name[name].properties)
    if row.unit is None:
        return said, said
    source = row.unit if said == NO_UNIT else said
    convert(0.0, source, row.unit)
    return row.unit, source


def _converted(sample: Sample, metric: _Metric, now_us: int) -> Row:
    """Raises Rejected."""
    row = reading(sample, metric.channel, now_us)
    return (
        row
        if row.unit == metric.unit
        else replace(row, unit=metric.unit, value=convert(row.value, row.unit, metric.unit))
    )
