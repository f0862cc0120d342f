"""The port of the vectors: kept by id, found by nearness. What they hold can be made again from the store's events."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from cloud.similar.embedding import Vector
from shared.errors import Misconfigured

MAX_PUT: Final = 1000
"""Vectors that are put at once, at most."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A vector with its id and what was said with it."""

    id: str
    vector: Vector
    about: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Near:
    """What was kept near a vector: `likeness` from 0 to 1."""

    id: str
    about: Mapping[str, str | int]
    likeness: float


class Vectors(Protocol):
    """Raises Unavailable where the server or the disk is away, and Misconfigured where it can't ever work."""

    async def put(self, kept: Sequence[Kept]) -> None:
        """Keep at most MAX_PUT vectors; one with the id of an earlier one takes its place."""
        ...

    async def missing(self, ids: Sequence[str]) -> set[str]:
        """Which of these ids nothing is kept under."""
        ...

    async def get(self, id_: str) -> Kept | None:
        """What is kept under an id."""
        ...

    async def near(self, vector: Vector, most: int) -> list[Near]:
        """The nearest ones, the likest first, those equally like by id."""
        ...


@asynccontextmanager
async def open_vectors(url: str) -> AsyncIterator[Vectors]:
    """The vectors behind `url`: `chroma+file:///PATH` (in this process alone) or `http[s]://HOST:PORT` of Chroma's server.

    Nothing is loaded or connected before the first call: Chroma takes 3 s and 100 MB. Raises Misconfigured.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "chroma+file" if parts.path.startswith("/") and not parts.netloc:
            place: Path | tuple[str, int, bool] = Path(unquote(parts.path))
        case "http" | "https" if parts.hostname:
            place = (parts.hostname, parts.port or 8000, parts.scheme == "https")
        case _:
            raise Misconfigured(
                f"{url!r} is no place for vectors", hint="give chroma+file:///PATH or http://HOST:PORT"
            )
    from cloud.similar.chroma import open_chroma  # noqa: PLC0415 - a backend loads only when it is chosen

    async with open_chroma(place) as opened:
        yield opened
