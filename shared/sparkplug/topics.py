"""The topics of Sparkplug 3.0 (chapter 4): `spBv1.0/{group}/{type}/{node}[/{device}]` and `spBv1.0/STATE/{host}`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.errors import Rejected

NAMESPACE: Final = "spBv1.0"
STATE: Final = "STATE"
MAX_ID: Final = 200
_FORBIDDEN: Final = frozenset("+/#\0\N{REPLACEMENT CHARACTER}")


class MessageType(StrEnum):
    """What a message of a node or device is."""

    NBIRTH = "NBIRTH"
    NDEATH = "NDEATH"
    NDATA = "NDATA"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDEATH = "DDEATH"
    DDATA = "DDATA"
    DCMD = "DCMD"

    @property
    def of_device(self) -> bool:
        """Whether its topic names a device."""
        return self.value[0] == "D"


HEARD: Final = tuple(kind for kind in MessageType if kind not in {MessageType.NCMD, MessageType.DCMD})
"""What a host listens to."""


@dataclass(frozen=True, slots=True, order=True)
class NodeId:
    """An edge node: its group and its own id, together unique in the plant. Case matters."""

    group: str
    node: str

    def __str__(self) -> str:
        return f"{self.group}/{self.node}"


@dataclass(frozen=True, slots=True)
class NodeTopic:
    """A topic of a node, or of a device of it (`device` is empty for the node itself)."""

    node: NodeId
    kind: MessageType
    device: str = ""

    def __str__(self) -> str:
        base = f"{NAMESPACE}/{self.node.group}/{self.kind}/{self.node.node}"
        return f"{base}/{self.device}" if self.device else base


@dataclass(frozen=True, slots=True)
class StateTopic:
    """Where a host application says whether it is online."""

    host: str

    def __str__(self) -> str:
        return f"{NAMESPACE}/{STATE}/{self.host}"


def check_sparkplug_id(text: str, what: str) -> str:
    """Return `text` if it may be a group's, node's, device's or host's id. Raises Rejected."""
    if not 1 <= len(text) <= MAX_ID:
        raise Rejected(f"{what} has {len(text)} characters: 1 to {MAX_ID} are allowed")
    if not _FORBIDDEN.isdisjoint(text):
        raise Rejected(f"{what} {text[:60]!r} has one of + / # in it, or bytes that are no text")
    return text


def parse_topic(topic: str) -> NodeTopic | StateTopic:
    """The parts of a Sparkplug topic. Raises Rejected for any other shape, an unknown type, a forbidden id."""
    match topic.split("/"):
        case [namespace, _, *_] if namespace != NAMESPACE:
            raise Rejected(f"topic {topic[:120]!r} is not under {NAMESPACE}")
        case [_, "STATE", host]:
            return StateTopic(check_sparkplug_id(host, "host"))
        case [_, group, kind, node, *device] if kind in MessageType.__members__ and group != STATE:
            made = MessageType(kind)
            if len(device) != int(made.of_device):
                wanted = "names one device" if made.of_device else "names no device"
                raise Rejected(f"topic {topic[:120]!r}: {kind} {wanted}")
            return NodeTopic(
                NodeId(check_sparkplug_id(group, "group"), check_sparkplug_id(node, "node")),
                made,
                check_sparkplug_id(device[0], "device") if device else "",
            )
    raise Rejected(f"topic {topic[:120]!r} is not {NAMESPACE}/GROUP/TYPE/NODE[/DEVICE]")


def host_filters(host: str) -> tuple[str, ...]:
    """What a host subscribes to: its own STATE first, then all births, deaths and data.

    `#` where one level is due, so that a topic of the wrong depth is refused rather than not heard.
    """
    return (str(StateTopic(host)), *(f"{NAMESPACE}/+/{kind}/#" for kind in HEARD))
