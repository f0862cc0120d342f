"""Who asks, and what they may do: rights, the roles that bundle them, and a principal. Pure.

A role holds every right of the roles before it. A token may be cut down to some of its holder's rights (scopes);
it never has more than its holder.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Right(StrEnum):
    """What a request may do. The same words are the scopes of tokens."""

    READ = "read"
    OPERATE = "operate"
    MAINTAIN = "maintain"
    ENGINEER = "engineer"
    ADMINISTER = "administer"


class Role(StrEnum):
    """What a person is in the plant."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    TECHNICIAN = "technician"
    ENGINEER = "engineer"
    ADMIN = "admin"


_LADDER: Final = tuple(Right)
RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    role: frozenset(_LADDER[: number + 1]) for number, role in enumerate(Role)
}
"""Viewer: read. Operator: also operate (alarms). Technician: also maintain (assets, work orders). Engineer: also
engineer (models, dead letters, rebuilds). Admin: also administer (people, tokens)."""


class Via(StrEnum):
    """By what a principal showed who it is: a token of the settings, a session, an API token, a signed token."""

    SERVICE = "service"
    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a word, no secret
    SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request belongs to. `name` is a person's, a service's or the command line's; `rights` are what it may.

    `credential` is the id of the session or token that was shown, where that has one.
    """

    name: str
    role: Role
    rights: frozenset[Right]
    via: Via = Via.SIGNED
    credential: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        role: Role,
        scopes: Collection[Right] | None = None,
        *,
        via: Via = Via.SIGNED,
        credential: str = "",
    ) -> "Principal":
        """A principal with its role's rights, cut down to `scopes` where those are given."""
        rights = RIGHTS[role] if scopes is None else RIGHTS[role] & frozenset(scopes)
        return cls(name, role, rights, via, credential)

    def may(self, right: Right) -> bool:
        """Whether the principal has the right."""
        return right in self.rights
