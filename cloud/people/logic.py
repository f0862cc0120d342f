"""People, and what shows who they are: names, passwords, tokens, sessions, links. Pure."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final

from shared.access import Principal, Right, Role, Via
from shared.clock import MICROSECONDS
from shared.errors import Rejected

LIFE_US: Final = 600 * MICROSECONDS
"""How long a login link works."""
CODE_BYTES: Final = 32
MAX_OPEN: Final = 100
"""Links that wait to be used; another one ends the oldest."""
MAX_USERS: Final = 10_000
MAX_TOKENS: Final = 100
"""Tokens of one user; another one is refused."""
MAX_SESSIONS: Final = 50
"""Sessions of one user; another one ends the one seen longest ago."""
USED_AFTER_US: Final = 60 * MICROSECONDS
"""How far the time at which something was last used may lag."""
FIRST_ADMIN: Final = "admin"
"""Whom a login link signs in."""
NAMES_OF_SERVICES: Final = frozenset({"cli", "ui", "api", "inference", "system"})

NAME_PATTERN: Final = r"[a-z0-9](?:[a-z0-9._@-]{0,98}[a-z0-9])?"
_NAME: Final = re.compile(NAME_PATTERN)
PASSWORD_MIN: Final = 12
PASSWORD_MAX: Final = 256
TOKEN_PREFIX: Final = "im_"  # noqa: S105 - what tokens begin with, so that a leaked one is recognised
SESSION_PREFIX: Final = "ims_"


@dataclass(frozen=True, slots=True)
class User:
    """A person. `subject`: issuer and id at the OIDC provider that vouches for them; empty for a local one."""

    name: str
    display_name: str
    role: Role
    active: bool = True
    subject: str = ""
    has_password: bool = False
    created_us: int = 0


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as listed: the secret is known to its holder alone. `used_us` 0: never; `expires_us` 0: never."""

    id: str
    owner: str
    label: str
    scopes: frozenset[Right]
    created_us: int
    expires_us: int = 0
    used_us: int = 0


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody is signed in, somewhere, since `created_us`, by `method`: password, link, oidc."""

    id: str
    owner: str
    method: str
    created_us: int
    expires_us: int
    seen_us: int


@dataclass(frozen=True, slots=True)
class LoginLink:
    """A link as its maker gets it, once: only the code's hash is kept."""

    code: str
    expires_us: int


@dataclass(frozen=True, slots=True)
class Credential:
    """A token or session that was shown, and its owner as the owner is now."""

    via: Via
    id: str
    owner: str
    role: Role
    active: bool
    scopes: frozenset[Right] | None
    expires_us: int
    used_us: int

    def principal(self, now_us: int, idle_us: int) -> Principal | None:
        """Whom it lets in now; None: nobody. `idle_us`: how long a session may go unused."""
        idle = self.via is Via.SESSION and now_us >= self.used_us + idle_us
        if not self.active or idle or (self.expires_us and now_us >= self.expires_us):
            return None
        return Principal.of(self.owner, self.role, self.scopes, via=self.via, credential=self.id)


def digest(code: str) -> bytes:
    """SHA-256 of a code. It is random and long, so a slow hash would add nothing."""
    return hashlib.sha256(code.encode()).digest()


def new_secret(prefix: str = "") -> str:
    """A code that can't be guessed."""
    return f"{prefix}{secrets.token_urlsafe(CODE_BYTES)}"


def new_id() -> str:
    """An id that may be shown and logged."""
    return secrets.token_hex(8)


def check_name(name: str) -> str:
    """The name, if a user may have it. Raises Rejected."""
    if not _NAME.fullmatch(name):
        raise Rejected(
            f"{name[:60]!r} is no user name: use a-z, 0-9 and . _ @ - between them, at most 100 characters"
        )
    if name in NAMES_OF_SERVICES:
        raise Rejected(f"{name!r} is the name of a service of the plant")
    return name


def sane_name(name: str) -> str:
    """The name if it has the form of one, for an audit event; else `?`: it may be a password typed in the wrong field."""
    return name if _NAME.fullmatch(name) else "?"


def check_password(name: str, password: str) -> None:
    """Raises Rejected if a user of that name may not have the password."""
    if len(password) < PASSWORD_MIN:
        raise Rejected(f"a password has at least {PASSWORD_MIN} characters")
    if len(password) > PASSWORD_MAX:
        raise Rejected(f"a password has at most {PASSWORD_MAX} characters")
    folded = password.casefold()
    parts = {name, *re.split(r"[._@-]", name)}
    rest = folded
    for part in sorted((part for part in parts if len(part) > 2), key=len, reverse=True):  # noqa: PLR2004 - syllables
        rest = rest.replace(part, "")
    if len(rest) < PASSWORD_MIN - 4:
        raise Rejected("the password is hardly more than the user's name")
    if len(set(folded)) < 5:  # noqa: PLR2004 - "aaaaaaaaaaaa" and the like
        raise Rejected("the password repeats a few characters")
