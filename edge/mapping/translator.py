"""Messages of a mapping's topics in; readings and dead letters out. Nothing is raised for bad input."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import orjson

from edge.input_limits import InputLimits
from edge.mapping.channels import Channel, Channels
from edge.mapping.gathered import Gathered, Letter
from edge.mapping.paths import TopicPattern, covers
from edge.mapping.rule import NOTHING, Item, Named, RuleAtWork
from edge.mapping.schema import MappingFile
from shared.errors import Rejected
from shared.names import fitted
from shared.paho import MqttMessage

MAX_TOPICS: Final = 20_000
_NAMED: Final = 5


@dataclass(slots=True)
class _Bound:
    """A topic and the rule that has it; `channels` by machine and name, or why there is none."""

    rule: RuleAtWork
    levels: dict[str, str]
    channels: dict[tuple[str, str], Channel | Rejected] = field(default_factory=dict)


class Translator:
    """The JSON and text rules of a mapping. Bounded: it forgets topics beyond 20,000, and learns them anew."""

    def __init__(self, mapping: MappingFile, machines: Collection[str], limits: InputLimits) -> None:
        self._rules = [RuleAtWork(rule) for rule in mapping.rules]
        self._ignored = [TopicPattern.parse(text) for text in mapping.ignore]
        self._channels = Channels(machines, limits)
        self._topics: dict[str, _Bound | None] = {}

    def filters(self) -> list[str]:
        """What to subscribe to: no filter within another, or a message would come twice."""
        return widest([rule.pattern.filter for rule in self._rules])

    def take(self, message: MqttMessage, now_us: int, out: Gathered) -> None:
        """One message."""
        topic = message.topic
        if topic not in self._topics:
            if len(self._topics) >= MAX_TOPICS:
                self._topics.clear()
            try:
                self._topics[topic] = self._bind(topic)
            except Rejected as error:
                self._refuse(message, "", error.reason, now_us, out)
                return
        bound = self._topics[topic]
        if bound is None:
            out.fates["ignored"] += 1
            return
        rule = bound.rule
        try:
            document = rule.document(message.payload)
            if message.retain and not rule.timed:
                raise Rejected("kept by the broker, and it does not say when it was measured")  # noqa: TRY301
            items = rule.items(document)
        except Rejected as error:
            self._refuse(message, "", error.reason, now_us, out)
            return
        self._items(bound, items, message, now_us, out)

    def _bind(self, topic: str) -> _Bound | None:
        """The rule that has the topic, None if it is to be ignored. Raises Rejected."""
        if any(pattern.match(topic) is not None for pattern in self._ignored):
            return None
        for rule in self._rules:
            levels = rule.pattern.match(topic)
            if levels is not None:
                return _Bound(rule, levels)
        raise Rejected(f"topic {topic[:120]!r} fits no rule of the mapping")

    def _items(
        self, bound: _Bound, items: list[Item], message: MqttMessage, now_us: int, out: Gathered
    ) -> None:
        """Each item by itself: what is wrong with one does not touch the others."""
        kept = refused = 0
        live = (bound.rule.timed and not bound.rule.batch) and not (message.retain or message.dup)
        for item in items:
            machine, rows, faults = self._item(bound, item, now_us, out, live=live)
            kept += rows
            if faults:
                refused += 1
                payload = message.payload if len(items) == 1 else orjson.dumps(item.own)
                out.letters.append(Letter(machine, _reasons(faults), message.topic, payload, now_us))
        out.fates["readings" if kept else "refused" if refused else "ignored"] += 1

    def _item(
        self, bound: _Bound, item: Item, now_us: int, out: Gathered, *, live: bool
    ) -> tuple[str, int, list[tuple[str, str]]]:
        """The item's machine, how many readings it gave, and what is wrong with its values by name."""
        rule, machine, faults, kept = bound.rule, "", [], 0
        try:
            text = rule.machine.fill(bound.levels, item.own, item.message)
            if text is None:
                raise Rejected(f"there is no machine at {rule.rule.machine!r}")  # noqa: TRY301
            machine = self._channels.machine(text, rule.rule.machines.get(text))
            time_us = rule.time_us(item, now_us)
            quality = rule.quality(item)
            found = list(rule.named(item, bound.levels))
        except Rejected as error:
            return machine, 0, [("", error.reason)]
        for named in found:
            if named.raw is None and rule.name is None:
                continue  # a field that is null says that there is no value just now
            try:
                channel = self._channel(bound, machine, named)
                value, unit = rule.value(named, item)
            except Rejected as error:
                faults.append((named.name, error.reason))
                continue
            when = channel.arrived(now_us) if time_us is None else time_us
            out.of(machine).add(channel.sensor, unit, when, value, quality, now_us)
            kept += 1
        if kept and live and time_us is not None:
            out.live.append((machine, time_us, now_us))
        if not kept and not faults and (found or rule.name is None):
            faults.append(("", NOTHING))
        return machine, kept, faults

    def _channel(self, bound: _Bound, machine: str, named: Named) -> Channel:
        """Raises Rejected."""
        key = machine, named.name
        known = bound.channels.get(key)
        if known is None:
            sensor = named.row.sensor or fitted(named.name)
            source = (bound.rule.rule.topic, *bound.levels.values(), named.name)
            try:
                self._channels.claim(machine, sensor, source, named.row)
                known = Channel(machine, sensor, named.row)
            except Rejected as error:
                known = error
            if len(bound.channels) >= MAX_TOPICS:
                bound.channels.clear()
            bound.channels[key] = known
        if isinstance(known, Rejected):
            raise known
        return known

    def _refuse(self, message: MqttMessage, machine: str, reason: str, now_us: int, out: Gathered) -> None:
        out.letters.append(Letter(machine, reason, message.topic, message.payload, now_us))
        out.fates["refused"] += 1


def widest(filters: Collection[str]) -> list[str]:
    """The filters without those that another one covers."""
    distinct = list(dict.fromkeys(filters))
    return [each for each in distinct if not any(other != each and covers(other, each) for other in distinct)]


def _reasons(faults: list[tuple[str, str]]) -> str:
    said = "; ".join(f"{name[:80]!r}: {reason}" if name else reason for name, reason in faults[:_NAMED])
    return said if len(faults) <= _NAMED else f"{said}; and {len(faults) - _NAMED} more"
