"""What a host knows of one edge node, what it hears of it, and what comes of that."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.sparkplug.births import Contents, Table
from shared.sparkplug.payload import Payload
from shared.sparkplug.topics import NodeId, NodeTopic


@dataclass(frozen=True, slots=True)
class Rules:
    """Waits in seconds, and what one node may take. A birth that passes a bound is refused whole."""

    reorder_seconds: float = 5.0
    rebirth_seconds: float = 10.0
    reorder_messages: int = 64
    reorder_bytes: int = 1024 * 1024
    devices: int = 500
    metrics: int = 20_000


@dataclass(frozen=True, slots=True)
class Message:
    """A decoded message and its bytes. `retained`: the broker kept it, so it says nothing about now."""

    topic: NodeTopic
    payload: Payload
    raw: bytes = b""
    retained: bool = False

    @property
    def key(self) -> tuple[NodeTopic, int | None, int | None]:
        """What a copy of it has in common with it."""
        return self.topic, self.payload.seq, self.payload.timestamp


@dataclass(frozen=True, slots=True)
class Session:
    """What is known of a node. `tables`: the births in force, by device, the node's own under the empty name.

    `expected`: the next sequence number. `waiting`: messages that came ahead of a gap, by theirs. `suspect`: messages
    were lost since the birth, one of which may have redefined a device. `wanted`: why a rebirth is to be asked for.
    """

    node: NodeId
    online: bool = False
    bd_seq: int | None = None
    birth: tuple[NodeTopic, int | None, int | None] | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    expected: int = 0
    waiting: Mapping[int, Message] = field(default_factory=dict)
    gap_since: float = 0.0
    suspect: bool = False
    recent: tuple[tuple[NodeTopic, int | None, int | None], ...] = ()
    wanted: str = ""
    asked_at: float | None = None
    changed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Born:
    """A node or device came up, with these definitions and first values."""

    device: str
    message: Message
    bd_seq: int | None
    table: Table
    contents: Contents


@dataclass(frozen=True, slots=True)
class Data:
    """Values of a node or device that is up."""

    device: str
    message: Message
    contents: Contents


@dataclass(frozen=True, slots=True)
class Died:
    """A node or device is gone: what was last known of it is stale. `message` is empty if no message said so."""

    device: str
    message: Message | None
    bd_seq: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages are lost: `missed` numbers from `expected` on (by modulus 256: at least that many)."""

    expected: int
    found: int
    missed: int


@dataclass(frozen=True, slots=True)
class AskRebirth:
    """Ask the node for new births."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that can't be taken: a dead letter."""

    message: Message
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that changes nothing, and rightly: a copy, or the word of an earlier session."""

    message: Message
    reason: str


Effect = Born | Data | Died | Gap | AskRebirth | Refused | Ignored
Step = tuple[Session, tuple[Effect, ...]]
