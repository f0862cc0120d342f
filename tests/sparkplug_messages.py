"""Sparkplug messages of a made-up node, for tests."""

from shared.sparkplug.codec import encode
from shared.sparkplug.datatypes import DataType
from shared.sparkplug.node import Message
from shared.sparkplug.payload import Metric, Payload, Property, metric
from shared.sparkplug.topics import MessageType, NodeId, NodeTopic

NODE = NodeId("Plant A", "Node 1")
T = 1_700_000_000_000


def made(
    kind: MessageType,
    *metrics: Metric,
    seq: int | None = None,
    device: str = "",
    sent: int | None = T,
    node: NodeId = NODE,
    retained: bool = False,
) -> Message:
    payload = Payload(sent, metrics, seq)
    return Message(NodeTopic(node, kind, device), payload, encode(payload), retained)


def temp(value: float, *, at: int = T, **more: object) -> Metric:
    """A temperature by alias, as data messages send it."""
    return metric(None, DataType.DOUBLE, value, alias=1, timestamp=at, typeless=True, **more)  # type: ignore[arg-type]


def definition(name: str = "Temp", alias: int | None = 1, unit: str = "degC", value: float = 20.0) -> Metric:
    """A temperature as births send it."""
    properties = {"engUnit": Property(DataType.STRING, unit)}
    return metric(name, DataType.DOUBLE, value, alias=alias, timestamp=T, properties=properties)


def number(bd_seq: int = 0) -> Metric:
    return metric("bdSeq", DataType.INT64, bd_seq, timestamp=T)


def nbirth(
    *metrics: Metric, bd_seq: int | None = 0, sent: int = T, node: NodeId = NODE, seq: int = 0
) -> Message:
    own = () if bd_seq is None else (number(bd_seq),)
    control = metric("Node Control/Rebirth", DataType.BOOLEAN, False, timestamp=T)
    return made(
        MessageType.NBIRTH, *own, control, *(metrics or (definition(),)), seq=seq, sent=sent, node=node
    )


def ndata(seq: int, *metrics: Metric, sent: int | None = None, node: NodeId = NODE) -> Message:
    when = T + 1000 + seq if sent is None else sent
    return made(MessageType.NDATA, *(metrics or (temp(float(seq), at=when),)), seq=seq, sent=when, node=node)


def ndeath(bd_seq: int | None = 0, node: NodeId = NODE) -> Message:
    return made(MessageType.NDEATH, *(() if bd_seq is None else (number(bd_seq),)), node=node)


def dbirth(seq: int, *metrics: Metric, device: str = "Pump", sent: int = T) -> Message:
    return made(MessageType.DBIRTH, *(metrics or (definition(),)), seq=seq, device=device, sent=sent)


def ddata(seq: int, *metrics: Metric, device: str = "Pump") -> Message:
    when = T + 1000 + seq
    return made(
        MessageType.DDATA, *(metrics or (temp(float(seq), at=when),)), seq=seq, device=device, sent=when
    )


def ddeath(seq: int, device: str = "Pump") -> Message:
    return made(MessageType.DDEATH, seq=seq, device=device, sent=T + 1000 + seq)
