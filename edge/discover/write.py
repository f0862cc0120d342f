"""A proposal as a YAML file that a person reads: each row with what was seen of it, each doubt in a comment."""

from collections.abc import Iterator

import orjson

from edge.discover.rules import Proposal, ProposedNode, ProposedRule, ProposedSensor

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_-.")


def written(proposal: Proposal) -> str:
    """The file's text."""
    return "\n".join(_lines(proposal)) + "\n"


def _lines(proposal: Proposal) -> Iterator[str]:
    yield "version: 1"
    if proposal.machines:
        yield f"# edge.machines: {orjson.dumps(proposal.machines).decode()}"
    if proposal.rules:
        yield "rules:"
    for rule in proposal.rules:
        yield from _rule(rule)
    if proposal.nodes:
        yield "sparkplug:"
    for node in proposal.nodes:
        yield from _node(node)
    if proposal.ignored:
        yield "ignore:"
    yield from (f"  - {_text(topic)}" for topic in proposal.ignored)
    if proposal.unread:
        yield "# Not mapped:"
        for topic, why in sorted(proposal.unread.items()):
            yield f"#   {_one_line(topic)}: {_one_line(why)}"


def _rule(rule: ProposedRule) -> Iterator[str]:
    yield f"  - topic: {_text(rule.topic)}  # {rule.topics} topics, {len(rule.machines)} machines"
    words = {
        "machine": rule.machine,
        "payload": "text" if rule.text else None,
        "split": rule.split or None,
        "each": rule.each,
        "name": rule.name,
        "value": rule.value or None,
        "decimal": rule.decimal,
    }
    yield from (f"    {word}: {_text(text)}" for word, text in words.items() if text is not None)
    yield _time(rule)
    if rule.quality is not None:
        yield f"    quality: {{at: {_text(rule.quality[0])}, as: {rule.quality[1]}}}"
    yield "    sensors:"
    yield from map(_row, rule.sensors)


def _time(rule: ProposedRule) -> str:
    if rule.time is None:
        return "    # no time in the messages: the arrival is the time"
    at, form, zone = rule.time
    said = f", zone: {_text(zone)}" if zone else ""
    local = zone not in {"", "UTC"}
    note = "  # local time: name the zone (Europe/Berlin) if it has summer time" if local else ""
    return f"    time: {{at: {_text(at)}, as: {_text(form)}{said}}}{note}"


def _node(node: ProposedNode) -> Iterator[str]:
    yield f"  - group: {_text(node.group)}"
    yield f"    node: {_text(node.node)}"
    if node.device:
        yield f"    device: {_text(node.device)}"
    yield f"    machine: {_text(node.machine)}"
    yield "    metrics:"
    for row in node.metrics:
        yield _row(row)


def _row(row: ProposedSensor) -> str:
    parts = [f"sensor: {_text(row.sensor)}"]
    if row.unit is not None:
        parts.append(f"unit: {_text(row.unit)}")
    if row.unit_at is not None:
        parts.append(f"unit_at: {_text(row.unit_at)}")
    if row.words:
        parts.append(
            f"words: {{{', '.join(f'{_text(word)}: {value:g}' for word, value in row.words.items())}}}"
        )
    note = f"  # {_one_line(row.note)}" if row.note else ""
    return f"      {_text(row.key)}: {{{', '.join(parts)}}}{note}"


def _text(text: str) -> str:
    """A scalar: quoted wherever it could be read as anything but this text."""
    if text and set(text) <= _PLAIN and text[0].isalpha() and text.lower() not in {"true", "false", "null"}:
        return text
    if text.startswith("/") and set(text) <= _PLAIN:
        return text
    return orjson.dumps(text).decode()


def _one_line(text: str) -> str:
    """A comment can't be ended by what is in it."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)[:200]
