"""Proposed rules, before they are written: what a mapping file says, and what is to be said about it beside."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class ProposedSensor:
    """A row of a table of sensors. `note` is its comment; `guessed` says that a person must look at its unit."""

    key: str
    sensor: str
    unit: str | None
    unit_at: str | None = None
    words: dict[str, float] = field(default_factory=dict)
    note: str = ""
    guessed: bool = False


@dataclass(slots=True)
class ProposedRule:
    """A rule of a mapping, with the machines and topics that it was made from."""

    topic: str
    machine: str
    sensors: list[ProposedSensor]
    name: str | None = None
    value: str = ""
    each: str | None = None
    text: bool = False
    split: str = ""
    decimal: str | None = None
    time: tuple[str, str, str] | None = None
    quality: tuple[str, str] | None = None
    topics: int = 0
    machines: list[str] = field(default_factory=list)
    interval: float | None = None


@dataclass(slots=True)
class ProposedNode:
    """A Sparkplug node or device."""

    group: str
    node: str
    device: str
    machine: str
    metrics: list[ProposedSensor]


@dataclass(slots=True)
class Proposal:
    """A whole proposal. `unread`: topics that nothing could be made of, and why; `ignored`: those among them that a rule's filter takes in."""

    rules: list[ProposedRule] = field(default_factory=list)
    nodes: list[ProposedNode] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    machines: list[str] = field(default_factory=list)

    @property
    def unknown(self) -> int:
        """How many units nobody knows."""
        return sum(row.unit == "?" for row in self._rows())

    @property
    def guessed(self) -> int:
        """How many units are guesses from names."""
        return sum(row.guessed for row in self._rows())

    def _rows(self) -> list[ProposedSensor]:
        return [row for rule in self.rules for row in rule.sensors] + [
            row for node in self.nodes for row in node.metrics
        ]
