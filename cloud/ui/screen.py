"""What one browser shows, part by part, and which parts of it are news."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

Key = tuple[str, str]
"""A component's id and its property."""


@dataclass(frozen=True, slots=True)
class Part:
    """A property of a component that follows the plant.

    `model` is what it shows, comparable; `build` makes the property's value of it. `inside`: the part whose value
    contains this one, so that sending that one sends this one too.
    """

    id: str
    prop: str
    model: Hashable
    build: Callable[[], Any]
    inside: Key | None = None

    @property
    def key(self) -> Key:
        """Which property."""
        return self.id, self.prop


class Screen:
    """Remembers what a browser was sent."""

    def __init__(self) -> None:
        self._sent: dict[Key, Hashable] = {}

    def news(self, parts: Iterable[Part]) -> list[tuple[str, str, Any]]:
        """(id, property, value) for each part that differs from what was sent, which it then is taken to be."""
        found: list[tuple[str, str, Any]] = []
        now: dict[Key, Hashable] = {}
        fresh: set[Key] = set()
        for part in parts:
            now[part.key] = part.model
            if part.key in self._sent and self._sent[part.key] == part.model:
                if part.inside in fresh:
                    fresh.add(part.key)
                continue
            fresh.add(part.key)
            if part.inside not in fresh:
                found.append((part.id, part.prop, part.build()))
        self._sent = now
        return found

    def forget(self) -> None:
        """Take everything for news: the browser shows another page, or is new."""
        self._sent.clear()
