"""The port of what is kept about people: login links so far."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit

from cloud.people.logic import LoginLink
from shared.clock import Clock
from shared.errors import Misconfigured


class LoginLinks(Protocol):
    """Links that log a person in once. They survive a restart. Every method raises Unavailable."""

    async def make(self) -> LoginLink:
        """A new link, durable on return."""
        ...

    async def redeem(self, code: str) -> None:
        """Use a link up. Raises NotFound: unknown, expired or used, which look the same."""
        ...


@asynccontextmanager
async def open_login_links(url: str, clock: Clock) -> AsyncIterator[LoginLinks]:
    """The links behind `url`: `sqlite:///PATH` (four slashes for an absolute one).

    Raises Misconfigured (unknown scheme, not such a file), Unavailable.
    """
    match urlsplit(url).scheme:
        case "sqlite":
            from cloud.people.sqlite import open_sqlite  # noqa: PLC0415 - a backend loads only when it is chosen

            async with open_sqlite(url.removeprefix("sqlite:///"), clock) as links:
                yield links
        case scheme:
            raise Misconfigured(f"people can't be kept in {scheme!r} ({url!r})", hint="use sqlite:///PATH")
