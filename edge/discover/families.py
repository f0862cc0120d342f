"""Which level of a topic is the machine: that under which the same things come again and again."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.discover.words import generic

_SHARED_LEAST: Final = 0.6


@dataclass(frozen=True, slots=True)
class Family:
    """Topics with the same first level, and the level (from 0) that is their machine; None: no level is."""

    topics: tuple[str, ...]
    level: int | None

    def tail(self, topic: str) -> str:
        """The levels after the machine's."""
        return "/".join(topic.split("/")[(-1 if self.level is None else self.level) + 1 :])

    def head(self, topic: str) -> tuple[str, ...]:
        """The levels up to the machine's, it included."""
        return tuple(topic.split("/")[: (-1 if self.level is None else self.level) + 1])


def families(things: Mapping[str, Sequence[str]], *, tagged: bool) -> list[Family]:
    """Families of topics. `things`: what each topic's messages hold; `tagged`: the last level is no machine, it names a value."""
    roots: dict[tuple[str, int], list[str]] = defaultdict(list)
    for topic in things:
        root = topic.split("/")[0]
        roots[root, 0].append(topic)
    return [Family(tuple(topics), _level(topics, things, tagged=tagged)) for topics in roots.values()]


def _level(topics: Sequence[str], things: Mapping[str, Sequence[str]], *, tagged: bool) -> int | None:
    parts = [topic.split("/") for topic in topics]
    last = min(map(len, parts)) - (2 if tagged else 1)
    best: tuple[float, int] | None = None
    before = 0
    for level in range(last + 1):
        heads: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for topic, part in zip(topics, parts, strict=True):
            tail = "/".join(part[level + 1 :])
            heads[tuple(part[: level + 1])] |= {f"{tail}|{thing}" for thing in things[topic]}
        tells_apart = len(heads) > before
        before = len(heads)
        if len(heads) < 2 or not tells_apart or all(generic(part[level]) for part in parts):  # noqa: PLR2004
            continue
        every = set().union(*heads.values())
        shared = (
            sum(sum(thing in each for each in heads.values()) for thing in every) / len(every) / len(heads)
        )
        if shared >= _SHARED_LEAST and (best is None or shared >= best[0]):
            best = shared, level
    if best is not None:
        return best[1]
    return _alone(parts, last, tagged=tagged)


def _alone(parts: Sequence[Sequence[str]], last: int, *, tagged: bool) -> int | None:
    """Where nothing repeats: the last level that could be a name, of values' topics the last that is one for all."""
    fitting = [
        level
        for level in range(last + 1)
        if not all(generic(part[level]) for part in parts)
        and (not tagged or len({part[level] for part in parts}) == 1)
    ]
    return fitting[-1] if fitting else None
