"""The shape of a topic's messages: where its values, times, units, qualities and names stand."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from edge.discover import words
from edge.discover.seen import Sample
from edge.mapping.paths import MISSING, Steps, look
from edge.mapping.values import time_us
from shared.clock import MICROSECONDS
from shared.errors import Rejected
from shared.frames import Quality

_NEAR_US: Final = 2 * 24 * 3600 * MICROSECONDS
_NOW_US: Final = 3600 * MICROSECONDS
_FORMS: Final = ("s", "ms", "us", "ns", "iso", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S")
_MAX_LEAVES: Final = 500
_NUMBER_TEXT: Final = re.compile(r"\s*[-+]?\d[\d.,' ]*(?:[eE][-+]?\d+)?\s*(\D{0,12})", re.ASCII)
_SWITCH: Final = {"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0, "open": 1.0, "closed": 0.0}
_OPC_UA_LEAST: Final = 0x4000_0000


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a time stands, how it is written, and the zone that fits where it has none of its own."""

    at: Steps
    form: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a message. `raws` are samples of it; `unit` what the messages say it is in, `unit_at` where."""

    at: Steps
    raws: tuple[object, ...]
    unit: str | None = None
    unit_at: Steps | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a topic's messages look like. `each`: values are in a list's parts; `name`: where a part or message says whose value it is."""

    text: bool = False
    split: str = ""
    each: Steps | None = None
    name: Steps | None = None
    names: tuple[str, ...] = ()
    values: tuple[Value, ...] = ()
    stamp: Stamp | None = None
    quality: tuple[Steps, str] | None = None
    passed_over: tuple[Steps, ...] = ()
    problem: str = ""

    @property
    def single(self) -> bool:
        """Whether a message is one value, named by its topic."""
        return (
            self.each is None
            and self.name is None
            and len(self.values) == 1
            and not self.split
            and (not self.values[0].at or words.key(self.values[0].at[-1]) in words.VALUE)
        )


@dataclass(slots=True)
class _Leaves:
    """The leaves of a topic's documents: pointer to what stood there."""

    found: dict[Steps, list[object]] = field(default_factory=dict)

    def add(self, document: object, above: Steps = ()) -> None:
        if isinstance(document, dict):
            for key, inner in document.items():
                self.add(inner, (*above, key))
        elif isinstance(document, list):
            for at, inner in enumerate(document[:50]):
                self.add(inner, (*above, str(at)))
        elif len(self.found) < _MAX_LEAVES or above in self.found:
            self.found.setdefault(above, []).append(document)


def shape_of(samples: Sequence[Sample]) -> Shape:
    """The shape of one topic's messages; `problem` says why it has none."""
    documents, texts = [], []
    for sample in samples:
        try:
            found = orjson.loads(sample.message.payload)
        except orjson.JSONDecodeError:
            try:
                texts.append((sample, sample.message.payload.decode()))
            except UnicodeDecodeError:
                continue
        else:
            documents.append((sample, found))
    if len(documents) >= max(1, len(texts)):
        return _json_shape(documents)
    if texts:
        return _text_shape(texts)
    return Shape(problem="neither JSON nor text")


def _text_shape(texts: Sequence[tuple[Sample, str]]) -> Shape:
    marks = Counter(mark for _, text in texts for mark in (";", "\t", "|") if mark in text)
    if marks:
        mark = marks.most_common(1)[0][0]
        parts = [(sample, text.split(mark)) for sample, text in texts]
        made = _fields(parts)
        return Shape(text=True, split=mark, values=made.values, stamp=made.stamp, problem=made.problem)
    raws = tuple(text for _, text in texts)
    if not any(is_value(raw) for raw in raws):
        return Shape(problem=f"a text that is no number: {raws[-1][:40]!r}")
    return Shape(text=True, values=(Value((), raws, _text_unit(raws)),))


def _json_shape(documents: Sequence[tuple[Sample, Any]]) -> Shape:
    newest = documents[-1][1]
    if not isinstance(newest, dict | list):
        raws = tuple(document for _, document in documents)
        if not any(is_value(raw) for raw in raws):
            return Shape(problem=f"no number: {str(newest)[:40]!r}")
        return Shape(values=(Value((), raws, _text_unit(raws)),))
    listed = next((at for at in _lists(newest) if _tags(look(newest, at))), None)
    return _fields(documents) if listed is None else _each(documents, listed)


def _lists(document: object, above: Steps = ()) -> Iterator[Steps]:
    """Where lists of objects stand, the outermost first."""
    if isinstance(document, list):
        if document and all(isinstance(part, dict) for part in document):
            yield above
        return
    if isinstance(document, dict):
        for key, inner in document.items():
            yield from _lists(inner, (*above, key))


def _tags(parts: list[dict[str, Any]]) -> bool:
    """Whether a list's parts are a name and a value each, or several messages of one shape."""
    return all(any(words.key(key) in words.VALUE for key in part) for part in parts)


def _each(documents: Sequence[tuple[Sample, Any]], each: Steps) -> Shape:
    parts = [
        (sample, part)
        for sample, document in documents
        if isinstance(found := look(document, each), list)
        for part in found
    ]
    inner = _fields(parts)
    if inner.stamp is None:
        outer = _Leaves()
        for _, document in documents:
            if isinstance(document, dict):
                outer.add({key: found for key, found in document.items() if not isinstance(found, list)})
        stamp = _stamp(outer.found, documents)
    else:
        stamp = inner.stamp
    if inner.name is None:
        return Shape(problem=f"a list at {'/'.join(each) or 'the top'!r} whose parts have no name")
    return Shape(
        each=each,
        name=inner.name,
        names=inner.names,
        values=inner.values,
        stamp=stamp,
        quality=inner.quality,
    )


def _fields(documents: Sequence[tuple[Sample, Any]]) -> Shape:
    leaves = _Leaves()
    for _, document in documents:
        leaves.add(document)
    stamp = _stamp(leaves.found, documents)
    quality = next(
        ((at, form) for at, raws in leaves.found.items() if (form := _quality_form(at, raws))), None
    )
    taken = {stamp.at if stamp else None, quality[0] if quality else None}
    values, passed = [], []
    for at, raws in leaves.found.items():
        said = [raw for raw in raws if raw is not None]
        if at in taken or not said or not any(is_value(raw) for raw in said):
            continue
        name = words.key(at[-1]) if at else ""
        if name in words.META or name in words.TIME or (name in words.QUALITY and quality is not None):
            passed.append(at)
            continue
        unit_at, unit = _unit_of(at, leaves.found)
        values.append(Value(at, tuple(said), unit or _text_unit(said), unit_at))
    if not values:
        return Shape(problem="there is no number in it", passed_over=tuple(passed))
    whole = [
        value
        for value in values
        if value.at and words.key(value.at[-1]) in words.VALUE and len(value.at) == 1
    ]
    named = _name(leaves.found)
    if len(whole) == 1 and named is not None:
        names = tuple(dict.fromkeys(str(raw) for raw in leaves.found[named]))
        return Shape(name=named, names=names, values=(whole[0],), stamp=stamp, quality=quality)
    if len(whole) == 1:
        return Shape(values=(whole[0],), stamp=stamp, quality=quality, passed_over=tuple(passed))
    return Shape(values=tuple(values), stamp=stamp, quality=quality, passed_over=tuple(passed))


def _name(leaves: dict[Steps, list[object]]) -> Steps | None:
    """Where the message says whose value it is."""
    return next(
        (
            at
            for at, raws in leaves.items()
            if len(at) == 1
            and words.key(at[0]) in words.NAME
            and all(isinstance(raw, str) and raw for raw in raws)
        ),
        None,
    )


def is_value(raw: object) -> bool:
    """Whether a value can be read as a number."""
    if isinstance(raw, bool | int | float):
        return True
    if not isinstance(raw, str):
        return False
    found = _NUMBER_TEXT.fullmatch(raw)
    if found is not None:
        return not found[1].strip() or words.known_unit(found[1]) is not None
    return raw.strip().lower() in _SWITCH


def switch_words(raws: Sequence[object]) -> dict[str, float]:
    """The words that stand for 1 and 0 among texts, with their counterparts."""
    texts = [raw.strip() for raw in raws if isinstance(raw, str) and raw.strip().lower() in _SWITCH]
    made = {}
    for text in texts:
        made[text] = _SWITCH[text.lower()]
        for pair in (("on", "off"), ("true", "false"), ("open", "closed")):
            for one, other in (pair, pair[::-1]):
                if text.lower() == one:
                    cased = other.upper() if text.isupper() else other.title() if text.istitle() else other
                    made[cased] = _SWITCH[other]
    return made


def decimal_mark(raws: Sequence[object]) -> str | None:
    """The decimal mark of numbers that are texts; None if none is one."""
    texts = [raw for raw in raws if isinstance(raw, str) and _NUMBER_TEXT.fullmatch(raw)]
    if not texts:
        return None
    last = [max(text.rfind(","), text.rfind(".")) for text in texts]
    marks = Counter(text[at] for text, at in zip(texts, last, strict=True) if at >= 0)
    return marks.most_common(1)[0][0] if marks else "."


def _text_unit(raws: Sequence[object]) -> str | None:
    """The unit behind numbers that are texts."""
    found = {
        match[1].strip() for raw in raws if isinstance(raw, str) and (match := _NUMBER_TEXT.fullmatch(raw))
    } - {""}
    units = {words.known_unit(text) for text in found} - {None}
    return units.pop() if len(units) == 1 else None


def _unit_of(at: Steps, leaves: dict[Steps, list[object]]) -> tuple[Steps | None, str | None]:
    """Where the unit of the value at `at` is said, beside it, and what it is."""
    for other, raws in leaves.items():
        beside = bool(at and other) and other[:-1] == at[:-1] and other != at
        if beside and words.key(other[-1]) in words.UNIT:
            units = {words.known_unit(raw) for raw in raws}
            known = units - {None}
            if known:
                return other, known.pop() if len(units) == 1 else None
    return None, None


def _stamp(leaves: dict[Steps, list[object]], documents: Sequence[tuple[Sample, Any]]) -> Stamp | None:
    """The time of the messages: by its key, near the arrival, the best known key and the outermost first."""
    ranked = sorted(
        (words.TIME.index(key), len(at), at)
        for at in leaves
        if at and (key := words.key(at[-1])) in words.TIME
    )
    ranked += [(99, len(at), at) for at in leaves if at and words.key(at[-1]) not in words.TIME]
    for rank, _, at in ranked:
        pairs = [(look(document, at), sample.at_us) for sample, document in documents]
        pairs = [(raw, at_us) for raw, at_us in pairs if raw is not MISSING and raw is not None]
        found = _time_form(pairs, any_key=rank == 99)  # noqa: PLR2004 - the rank of keys that say nothing
        if found is not None:
            return Stamp(at, *found)
    return None


def _time_form(pairs: Sequence[tuple[object, int]], *, any_key: bool) -> tuple[str, str] | None:
    """Form and zone of times that all fall near their arrivals; within the hour under a key that says nothing."""
    near_us = _NOW_US if any_key else _NEAR_US
    for form in _FORMS if pairs else ():
        zone = ""
        offsets = []
        for raw, at_us in pairs:
            if isinstance(raw, bool):
                break
            try:
                offsets.append(time_us(raw, form, None) - at_us)
            except Rejected as error:
                if "has no zone" not in error.reason:
                    break
                offset_us = time_us(raw, form, UTC) - at_us
                zone = _zone(offset_us)
                offsets.append(offset_us)
        if len(offsets) == len(pairs) and all(abs(each) < near_us for each in offsets):
            return form, zone
    return None


def _zone(offset_us: int) -> str:
    """The offset from UTC, in quarters of an hour, that makes a local time be now."""
    quarters = round(offset_us / (900 * MICROSECONDS))
    offset = timedelta(minutes=15 * max(-56, min(56, quarters)))
    if not offset:
        return "UTC"
    sign, offset = ("-", -offset) if offset < timedelta(0) else ("+", offset)
    return sign + (datetime(2000, 1, 1, tzinfo=UTC) + offset).strftime("%H:%M")


def _quality_form(at: Steps, raws: Sequence[object]) -> str:
    """The table of the quality codes that stand there; empty if none fits."""
    said = [raw for raw in raws if raw is not None]
    if not at or words.key(at[-1]) not in words.QUALITY or not said:
        return ""
    if all(isinstance(raw, bool) for raw in said):
        return "bool"
    if all(
        isinstance(raw, str) and raw.strip().lower() in {q.name.lower() for q in Quality} | {"ok"}
        for raw in said
    ):
        return "word"
    if all(type(raw) is int for raw in said):
        codes = {raw for raw in said if isinstance(raw, int)}
        if all(code == 0 or _OPC_UA_LEAST <= code <= 0xFFFF_FFFF for code in codes):  # noqa: PLR2004
            return "opc-ua" if words.key(at[-1]) in {"statuscode", "code"} or codes != {0} else ""
        if all(0 <= code < 256 for code in codes) and codes & set(range(192, 256)):  # noqa: PLR2004
            return "opc-da"
    return ""
