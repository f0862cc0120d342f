"""Whose bearer token it is at the data API: the plant's own services, by tokens of their settings."""

import hmac
from collections.abc import Mapping
from typing import Final

from shared.access import Principal, Role
from shared.asgi_access import Verify

CLI: Final = Principal.of("cli", Role.ADMIN)
"""The command line's principal: the plant's administrator."""
UI: Final = Principal.of("ui", Role.VIEWER)
"""The control room's server."""


def fixed_tokens(tokens: Mapping[Principal, str]) -> Verify:
    """Knows these tokens; an empty one admits nobody. All are compared, each in constant time."""
    known = [(who, token.encode()) for who, token in tokens.items() if token]

    async def verify(given: str) -> Principal | None:
        found = [who for who, token in known if hmac.compare_digest(given.encode(), token)]
        return found[0] if found else None

    return verify
