"""Events of the topic `commands`: what somebody asked of an edge, and what the edge answered. `subject` is the command's id."""

from typing import Any, ClassVar

from shared.event import Event, Moment


class CommandIssued(Event):
    """Somebody asks an edge to do something; it is refused if the edge receives it after `expires_at`."""

    type: ClassVar[str] = "command.issued"
    identity: ClassVar[tuple[str, ...]] = ("edge",)

    edge: str
    kind: str
    arguments: dict[str, Any]
    by: str
    expires_at: Moment
    request: str


class CommandAnswered(Event):
    """What became of it, as the edge says, by the edge's clock."""

    type: ClassVar[str] = "command.answered"
    identity: ClassVar[tuple[str, ...]] = ("edge",)

    edge: str
    outcome: str
    detail: str
