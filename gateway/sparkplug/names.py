"""Which machine a Sparkplug node or device is, and who may have which."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.errors import Rejected
from shared.names import fitted
from shared.sparkplug.topics import NodeId

MAX_HOMES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Home:
    """Where a node's or device's readings go."""

    site: str
    machine: str


class Homes:
    """Who has which machine id. The first of two that come to one id keeps it while it is known."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[NodeId, str]] = {}

    def claim(self, node: NodeId, device: str, edges: Mapping[str, tuple[str, str]]) -> Home:
        """The home of a node (`device` empty) or device. `edges`: machines that an edge watches. Raises Rejected."""
        home = Home(fitted(node.group), fitted(f"{node.node}-{device}" if device else node.node))
        owner = self._owners.get(home.machine)
        if owner is None and len(self._owners) >= MAX_HOMES:
            raise Rejected(f"machine {home.machine} is one more than the {MAX_HOMES} that fit a host")
        if owner is not None and owner != (node, device):
            raise Rejected(
                f"{_called(node, device)} would be machine {home.machine}, which is {_called(*owner)}: rename one"
            )
        if home.machine in edges:
            site, edge = edges[home.machine]
            raise Rejected(
                f"{_called(node, device)} would be machine {home.machine}, which edge {site}/{edge} watches"
            )
        self._owners[home.machine] = (node, device)
        return home

    def forget(self, node: NodeId) -> None:
        """Free what a node and its devices have."""
        self._owners = {machine: owner for machine, owner in self._owners.items() if owner[0] != node}


def _called(node: NodeId, device: str) -> str:
    return f"{node}/{device}" if device else str(node)
