"""Sparkplug nodes as their births tell them."""

from collections.abc import Sequence

from edge.discover.rules import ProposedNode, ProposedSensor
from edge.discover.seen import Sample
from edge.mapping.schema import UNKNOWN_UNIT
from shared.errors import Rejected
from shared.names import slugs
from shared.sparkplug import codec
from shared.sparkplug.births import Table, read_birth
from shared.sparkplug.channels import is_control, unit_of
from shared.sparkplug.datatypes import NUMERIC
from shared.sparkplug.topics import MessageType, NodeId, NodeTopic, parse_topic
from shared.units import NO_UNIT


def propose_nodes(samples: Sequence[Sample]) -> tuple[list[ProposedNode], dict[str, str]]:
    """A row for each node and device whose birth was heard; for the others why there is none."""
    tables: dict[tuple[NodeId, str], Table] = {}
    unread: dict[str, str] = {}
    for sample in samples:
        try:
            topic = parse_topic(sample.message.topic)
            if not isinstance(topic, NodeTopic):
                continue
            payload = codec.decode(sample.message.payload)
        except Rejected as error:
            unread[sample.message.topic] = error.reason
            continue
        if topic.kind in {MessageType.NBIRTH, MessageType.DBIRTH}:
            tables[topic.node, topic.device], _ = read_birth(payload)
        elif topic.kind in {MessageType.NDATA, MessageType.DDATA}:
            unread.setdefault(str(topic), "no birth of it was heard: listen longer, or ask with --ask-births")
    heard = {(key[0], key[1]) for key in tables}
    unread = {
        topic: why
        for topic, why in unread.items()
        if not (isinstance(each := _node_topic(topic), NodeTopic) and (each.node, each.device) in heard)
    }
    names = slugs([f"{node.node}-{device}" if device else node.node for node, device in tables])
    made = [
        ProposedNode(node.group, node.node, device, machine, rows)
        for ((node, device), table), machine in zip(tables.items(), names, strict=True)
        if (rows := _metrics(table))
    ]
    return made, unread


def unborn(samples: Sequence[Sample]) -> set[NodeId]:
    """Nodes that said something, and whose birth was not heard."""
    topics = [_node_topic(sample.message.topic) for sample in samples]
    nodes = {topic.node for topic in topics if topic is not None}
    return nodes - {topic.node for topic in topics if topic is not None and topic.kind is MessageType.NBIRTH}


def _node_topic(text: str) -> NodeTopic | None:
    try:
        topic = parse_topic(text)
    except Rejected:
        return None
    return topic if isinstance(topic, NodeTopic) else None


def _metrics(table: Table) -> list[ProposedSensor]:
    """The birth's numbers."""
    chosen = [
        name
        for name, definition in sorted(table.by_name.items())
        if not is_control(name) and definition.kind in NUMERIC
    ]
    rows = []
    for name, sensor in zip(chosen, slugs(chosen), strict=True):
        try:
            unit, note = unit_of(table.by_name[name].properties), ""
            note = "its birth names no unit" if unit == NO_UNIT else ""
        except Rejected as error:
            unit, note = UNKNOWN_UNIT, f"unit UNKNOWN: {error.reason}"
        rows.append(ProposedSensor(name, sensor, unit, note=note))
    return rows
