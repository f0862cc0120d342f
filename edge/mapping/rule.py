"""One rule at work: from a payload to values with their names, units, times and qualities."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final

import orjson

from edge.mapping.paths import MISSING, Steps, Template, TopicPattern, look, pointer
from edge.mapping.schema import ANY, UNKNOWN_UNIT, Rule, SensorRow
from edge.mapping.values import check_time, number, quality, shown, time_us, zone
from shared.device_json import MAX_BATCH, MAX_PAYLOAD
from shared.errors import Rejected
from shared.frames import Quality
from shared.units import NO_UNIT, convert, spelled


@dataclass(frozen=True, slots=True)
class Named:
    """A raw value under the name that its source gives it."""

    name: str
    row: SensorRow
    raw: object


@dataclass(frozen=True, slots=True)
class Item:
    """One of a message's parts (or the whole): `own` is looked at first, `message` then."""

    own: object
    message: object


class RuleAtWork:
    """A rule with its pointers and patterns taken apart once."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.pattern = TopicPattern.parse(rule.topic)
        self.machine = Template.parse(rule.machine)
        self.name = None if rule.name is None else Template.parse(rule.name)
        self.each = None if rule.each is None else pointer(rule.each)
        self.batch = self.each is not None
        self._value = pointer(rule.value)
        self._time = None if rule.time is None else pointer(rule.time.at)
        self._form = "" if rule.time is None else rule.time.form
        self._zone: tzinfo | None = zone(rule.time.zone) if rule.time is not None and rule.time.zone else None
        self._quality = None if rule.quality is None else pointer(rule.quality.at)
        fields = rule.sensors.items() if rule.name is None else ()
        self._fields = [(pointer(key), key, row) for key, row in fields]
        self._any = rule.sensors.get(ANY)
        self._ignored = frozenset(rule.ignore)
        self._units = {
            key: pointer(at)
            for key, row in rule.sensors.items()
            if (at := row.unit_at if row.unit_at is not None else rule.unit_at) is not None
        }

    @property
    def timed(self) -> bool:
        """Whether messages carry their event's time."""
        return self._time is not None

    def document(self, payload: bytes) -> Any:  # noqa: ANN401 - JSON
        """The payload as JSON, or as a text or a list of texts. Raises Rejected."""
        if len(payload) > MAX_PAYLOAD:
            raise Rejected(f"payload of {len(payload)} bytes: the most is {MAX_PAYLOAD}")
        try:
            if self.rule.payload == "json":
                return orjson.loads(payload)
            text = payload.decode()
        except orjson.JSONDecodeError as error:
            raise Rejected(f"not JSON: {error}") from error
        except UnicodeDecodeError as error:
            raise Rejected(f"not a text in UTF-8: byte {error.start}") from error
        return text.split(self.rule.split, MAX_BATCH) if self.rule.split else text

    def items(self, document: object) -> list[Item]:
        """The parts of the message that hold readings. Raises Rejected."""
        if self.each is None:
            return [Item(document, document)]
        found = look(document, self.each)
        if not isinstance(found, list):
            what = "there is nothing" if found is MISSING else f"{shown(found)} is no list"
            raise Rejected(f"{what} at {self.rule.each!r}")
        if not 1 <= len(found) <= MAX_BATCH:
            raise Rejected(f"a list has 1 to {MAX_BATCH} parts, not {len(found)}")
        return [Item(own, document) for own in found]

    def named(self, item: Item, levels: Mapping[str, str]) -> Iterator[Named]:
        """The item's values: one by the name's template, or those fields that are there. Raises Rejected."""
        if self.name is None:
            for steps, key, row in self._fields:
                raw = look(item.own, steps)
                if raw is not MISSING:
                    yield Named(key, row, raw)
            return
        name = self.name.fill(levels, item.own, item.message)
        if name is None:
            raise Rejected(f"there is no name at {self.rule.name!r}")
        if name in self._ignored:
            return
        found = self.rule.sensors.get(name, self._any)
        if found is None:
            raise Rejected(f"{name[:60]!r} is not among the mapping's sensors")
        raw = look(item.own, self._value)
        if raw is MISSING:
            raise Rejected(f"there is no value at {self.rule.value!r}")
        yield Named(name, found, raw)

    def value(self, named: Named, item: Item) -> tuple[float, str]:
        """A value in its unit. Raises Rejected."""
        row = named.row
        if UNKNOWN_UNIT in {row.unit, row.source_unit}:
            raise Rejected("its unit is not known yet: write it in the mapping")
        found, said = number(
            named.raw,
            decimal=self.rule.decimal,
            words=row.words,
            truth=row.unit == NO_UNIT and row.scale == 1,
        )
        found = found * row.scale + row.offset
        at = self._units.get(named.name) or (self._units.get(ANY) if row is self._any else None)
        if at is not None:
            text = look(item.own, at)
            text = look(item.message, at) if text is MISSING else text
            if type(text) is str:
                said = spelled(text)
            elif text is not MISSING and text is not None:
                raise Rejected(f"unit {shown(text)} is not a text")
            elif row.unit is None:
                raise Rejected("there is no unit, and the mapping names none")
        source, unit = said or row.source_unit or row.unit or "", row.unit or said
        return (found if source == unit else convert(found, source, unit)), unit

    def time_us(self, item: Item, now_us: int) -> int | None:
        """When it was measured; None if messages of this shape don't say. Raises Rejected."""
        if self._time is None or self.rule.time is None:
            return None
        raw = self._near(item, self._time)
        if raw is MISSING or raw is None:
            raise Rejected(f"there is no time at {self.rule.time.at!r}")
        return check_time(time_us(raw, self._form, self._zone), now_us)

    def quality(self, item: Item) -> Quality:
        """Its quality; good where the message says nothing of it. Raises Rejected."""
        if self._quality is None or self.rule.quality is None:
            return Quality.GOOD
        raw = self._near(item, self._quality)
        return Quality.GOOD if raw is MISSING else quality(raw, self.rule.quality.form)

    @staticmethod
    def _near(item: Item, steps: Steps) -> Any:  # noqa: ANN401 - JSON
        found = look(item.own, steps)
        return look(item.message, steps) if found is MISSING else found


NOTHING: Final = "none of the mapping's sensors is in it"
