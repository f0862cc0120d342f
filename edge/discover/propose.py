"""From what was heard to a proposed mapping: topics with the same shape and the same place for the machine are one rule."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from edge.discover import words
from edge.discover.families import Family, families
from edge.discover.nodes import propose_nodes
from edge.discover.rules import Proposal, ProposedRule, ProposedSensor
from edge.discover.seen import Seen, TopicSeen
from edge.discover.shapes import Shape, Value, decimal_mark, shape_of, switch_words
from edge.mapping.paths import TopicPattern, covers, pointed
from edge.mapping.schema import UNKNOWN_UNIT
from shared.names import fitted, slugs
from shared.units import NO_UNIT

_SHOWN: Final = 3

Heard = tuple[TopicSeen, Shape]


def propose(seen: Seen) -> Proposal:
    """A mapping for what was heard. It may be wrong where nothing told: its comments say where a person must look."""
    made = Proposal()
    singles: dict[str, Heard] = {}
    others: dict[str, Heard] = {}
    for topic in seen.topics.values():
        shape = shape_of(topic.samples)
        if not all(topic.topic.split("/")) or re.search(r"[{}\0]", topic.topic):
            made.unread[topic.topic] = "a level is empty or has { or } in it: no pattern can name it"
        elif shape.problem:
            made.unread[topic.topic] = shape.problem
        elif shape.single:
            singles[topic.topic] = topic, shape
        else:
            others[topic.topic] = topic, shape
    for family in families({topic: [""] for topic in singles}, tagged=True):
        made.rules += _tagged(family, singles)
    things = {topic: [pointed(value.at) for value in shape.values] for topic, (_, shape) in others.items()}
    for family in families(things, tagged=False):
        made.rules += _structured(family, others)
    made.nodes, refused = propose_nodes(seen.sparkplug)
    made.unread |= refused
    made.rules.sort(key=_breadth)
    filters = [TopicPattern.parse(rule.topic).filter for rule in made.rules]
    made.ignored = [
        topic
        for topic in sorted(made.unread)
        if any(covers(each, topic) for each in filters) and "{" not in topic
    ]
    machines = [machine for rule in made.rules for machine in rule.machines]
    made.machines = sorted({*machines, *(node.machine for node in made.nodes)})
    return made


def _breadth(rule: ProposedRule) -> tuple[int, int]:
    """Narrow topics before wide ones: the first that fits has a message."""
    pattern = TopicPattern.parse(rule.topic)
    return ("#" in pattern.filter, pattern.filter.count("+"))


def _tagged(family: Family, heard: dict[str, Heard]) -> list[ProposedRule]:
    """Rules for topics whose last levels name the value: those of one shape together."""
    groups: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for topic in family.topics:
        groups[_kind(heard[topic][1])].append(topic)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [
        rule
        for at, topics in enumerate(ordered)
        for rule in _tagged_rules(family, topics, heard, wide=at == 0)
    ]


def _kind(shape: Shape) -> tuple[object, ...]:
    """What two topics must have in common to be read by one rule."""
    value = shape.values[0]
    text = shape.text or any(isinstance(raw, str) for raw in value.raws)
    return shape.text, text, value.at, value.unit_at, shape.stamp, shape.quality


def _tagged_rules(
    family: Family, topics: Sequence[str], heard: dict[str, Heard], *, wide: bool
) -> list[ProposedRule]:
    """One rule with a level for the name; for a shape that is the rarer one in its family, a rule a name."""
    tails = list(dict.fromkeys(family.tail(topic) for topic in topics))
    if not wide:
        return [
            _tagged_rule(family, [t for t in topics if family.tail(t) == tail], [tail], heard)
            for tail in tails
        ]
    return [_tagged_rule(family, topics, tails, heard)]


def _tagged_rule(
    family: Family, topics: Sequence[str], tails: Sequence[str], heard: dict[str, Heard]
) -> ProposedRule:
    shape = heard[topics[0]][1]
    ids = dict(zip(tails, slugs([tail.replace("/", "-") for tail in tails]), strict=True))
    rows = []
    for tail in tails:
        here = [heard[topic] for topic in topics if family.tail(topic) == tail]
        values = [shape.values[0] for _, shape in here]
        rows.append(_sensor(tail, ids[tail], tail, values, [seen for seen, _ in here]))
    level = "{*tag}" if any("/" in tail for tail in tails) else "{tag}"
    rule = _rule(family, topics, level if len(tails) > 1 else tails[0], rows, heard)
    rule.name = "{tag}" if len(tails) > 1 else tails[0].replace("{", "").replace("}", "")
    rule.value = pointed(shape.values[0].at)
    rule.time = rule.time if rule.time is not None else _stamped([shape])
    return rule


def _structured(family: Family, heard: dict[str, Heard]) -> list[ProposedRule]:
    """A rule for each ending of the topics: the fields of all their messages, or their lists' names."""
    tails: dict[tuple[str, object, object, str], list[str]] = defaultdict(list)
    for topic in family.topics:
        shape = heard[topic][1]
        tails[family.tail(topic), shape.each, shape.name, shape.split].append(topic)
    made = []
    for (tail, _, _, _), topics in tails.items():
        shapes = [heard[topic][1] for topic in topics]
        name = shapes[0].name
        rows = (
            _named_rows(topics, heard) if name is not None else _field_rows(tail, len(tails), topics, heard)
        )
        rule = _rule(family, topics, tail, rows, heard)
        if name is not None:
            rule.name = f"{{{pointed(name)}}}"
            rule.value = pointed(shapes[0].values[0].at)
        rule.each = None if shapes[0].each is None else pointed(shapes[0].each)
        made.append(rule)
    return made


def _named_rows(topics: Sequence[str], heard: dict[str, Heard]) -> list[ProposedSensor]:
    """The names that the messages themselves say."""
    names = list(dict.fromkeys(name for topic in topics for name in heard[topic][1].names))
    values = [value for topic in topics for value in heard[topic][1].values]
    ids = slugs([name.rsplit(";", 1)[-1].removeprefix("s=") for name in names])
    seen = [heard[topic][0] for topic in topics]
    return [
        _sensor(name, sensor, name, values, seen, several=True)
        for name, sensor in zip(names, ids, strict=True)
    ]


def _field_rows(
    tail: str, endings: int, topics: Sequence[str], heard: dict[str, Heard]
) -> list[ProposedSensor]:
    """The fields of all the messages, each under a short name of its own."""
    fields: dict[tuple[str, ...], list[Value]] = defaultdict(list)
    for topic in topics:
        for value in heard[topic][1].values:
            fields[value.at].append(value)
    labels = [_label(at) for at in fields]
    if endings > 1 and tail:
        labels = [
            f"{tail.replace('/', '-')}-{label}" if not words.generic(tail) else label for label in labels
        ]
    ids = slugs(labels)
    seen = [heard[topic][0] for topic in topics]
    return [
        _sensor(pointed(at), sensor, label, values, seen)
        for (at, values), sensor, label in zip(fields.items(), ids, labels, strict=True)
    ]


def _label(at: tuple[str, ...]) -> str:
    """What a field is called: its way without the steps that name nothing."""
    told = [
        step
        for place, step in enumerate(at)
        if not (words.generic(step) or (place == len(at) - 1 and words.key(step) in words.VALUE))
    ]
    return "-".join(told) if told else "-".join(at) or "value"


def _sensor(
    key: str,
    sensor: str,
    label: str,
    values: Sequence[Value],
    seen: Iterable[TopicSeen],
    *,
    several: bool = False,
) -> ProposedSensor:
    """A row: its unit from the messages, else from its name, else by what is usual, else unknown."""
    raws = [raw for value in values for raw in value.raws]
    units = {value.unit for value in values}
    at = next((value.unit_at for value in values if value.unit_at is not None), None)
    row = ProposedSensor(key, sensor, None, None if at is None else pointed(at), switch_words(raws))
    shown = "" if several else _shown(raws)
    if len(units) == 1 and None not in units and not several:
        row.unit, why = next(iter(units)), ""
    elif at is not None:
        row.unit, why = None, "as each message says"
    elif row.words or (raws and all(isinstance(raw, bool) for raw in raws)):
        row.unit, why = NO_UNIT, ""
    elif (told := words.told_unit(label)) is not None:
        row.unit, why, row.guessed = told[0], "unit by its name", not told[1]
    elif (usual := words.usual_unit(label)) is not None:
        row.unit, why, row.guessed = usual, "", True
    else:
        row.unit, why = UNKNOWN_UNIT, "unit UNKNOWN: write it"
    rates = [each.interval_seconds for each in seen]
    rate = [each for each in rates if each is not None]
    every = f"every {_seconds(median(rate))}" if rate else ""
    if row.guessed:
        why = "unit GUESSED: check"
    row.note = ", ".join(filter(None, (why, shown, every)))
    return row


def _shown(raws: Sequence[object]) -> str:
    """The range of numbers, or a few of the texts."""
    numbers = [raw for raw in raws if type(raw) is int or type(raw) is float]
    if numbers:
        low, high = min(numbers), max(numbers)
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return " ".join(dict.fromkeys(repr(raw)[:20] for raw in raws[:_SHOWN]))


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 120 else f"{seconds / 60:.2g} min"  # noqa: PLR2004 - from there on minutes read better


def _rule(
    family: Family, topics: Sequence[str], tail: str, rows: list[ProposedSensor], heard: dict[str, Heard]
) -> ProposedRule:
    """The parts that all kinds of rules have in common."""
    heads = list(dict.fromkeys(family.head(topic) for topic in topics))
    shapes = [heard[topic][1] for topic in topics]
    levels, template = _levels(heads)
    raws = [raw for shape in shapes for value in shape.values for raw in value.raws]
    quality = next((shape.quality for shape in shapes if shape.quality is not None), None)
    intervals = [rate for topic in topics if (rate := heard[topic][0].interval_seconds) is not None]
    machines = [_machine(template, head) for head in heads]
    return ProposedRule(
        "/".join([*levels, *([tail] if tail else [])]),
        template,
        rows,
        text=shapes[0].text,
        split=shapes[0].split,
        decimal=decimal_mark(raws),
        time=_stamped(shapes),
        quality=None if quality is None else (pointed(quality[0]), quality[1]),
        topics=len(topics),
        machines=sorted({fitted(machine) for machine in machines}),
        interval=median(intervals) if intervals else None,
    )


def _levels(heads: Sequence[tuple[str, ...]]) -> tuple[list[str], str]:
    """The levels up to the machine's as a pattern, and the machine's template: upper levels are in it where they must be."""
    if not heads[0]:
        return [], "machine"
    depth = len(heads[0])
    varied = [len({head[at] for head in heads}) > 1 for at in range(depth)]
    names = [f"level{at + 1}" if at < depth - 1 else "machine" for at in range(depth)]
    if depth == 1 and len(heads) == 1:
        return [heads[0][0]], heads[0][0]  # one level wide open would take everybody's topics
    levels = [
        f"{{{name}}}" if one_of_many or at == depth - 1 else heads[0][at]
        for at, (name, one_of_many) in enumerate(zip(names, varied, strict=True))
    ]
    unique = len({fitted(head[-1]) for head in heads}) == len(heads)
    upper = [f"{{{name}}}" for name, many in zip(names[:-1], varied[:-1], strict=True) if many]
    return levels, "{machine}" if unique else "-".join([*upper, "{machine}"])


def _machine(template: str, head: tuple[str, ...]) -> str:
    """The template filled with the levels of one topic."""
    if not head:
        return template
    for at, level in enumerate(head[:-1]):
        template = template.replace(f"{{level{at + 1}}}", level)
    return template.replace("{machine}", head[-1])


def _stamped(shapes: Sequence[Shape]) -> tuple[str, str, str] | None:
    """The time that most of the messages have."""
    stamps = [shape.stamp for shape in shapes if shape.stamp is not None]
    if not stamps:
        return None
    stamp = max(stamps, key=stamps.count)
    return pointed(stamp.at), stamp.form, stamp.zone
