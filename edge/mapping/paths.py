"""Where things stand: JSON pointers into a payload, patterns of topics, and templates made of both."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

MISSING: Final = object()
"""What `look` gives for a place that is not there."""

Steps = tuple[str, ...]
_PART: Final = re.compile(r"\{([^{}]*)\}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_MAX_TEXT: Final = 200


def pointer(text: str) -> Steps:
    """The steps of a JSON pointer (RFC 6901): `/data/0/v`; empty for the whole. Raises ValueError."""
    if not text:
        return ()
    if text[0] != "/":
        raise ValueError(
            f"{text!r} is no JSON pointer: it begins with '/', or is empty for the whole payload"
        )
    if re.search(r"~(?![01])", text):
        raise ValueError(f"{text!r} is no JSON pointer: '~' is written '~0' and '/' in a name '~1'")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))


def pointed(steps: Steps) -> str:
    """The pointer with these steps."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def look(document: Any, steps: Steps) -> Any:  # noqa: ANN401 - JSON
    """What stands at the pointer, MISSING if nothing does."""
    for step in steps:
        if type(document) is dict:
            document = document.get(step, MISSING)
        elif type(document) is list and step.isascii() and step.isdigit() and len(step) < 7:  # noqa: PLR2004
            document = document[int(step)] if int(step) < len(document) else MISSING
        else:
            return MISSING
    return document


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """Topics of one shape: `factory/{line}/+/{tag}`; `{*tag}` as the last level takes all that follow.

    `names` are the levels that have one; the others tell nothing.
    """

    text: str
    names: tuple[str, ...]
    regex: re.Pattern[str]
    filter: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        names: list[str] = []
        levels, filters = [], []
        parts = text.split("/")
        for at, part in enumerate(parts):
            if part == "+":
                levels.append("[^/]*")
                filters.append("+")
            elif found := _PART.fullmatch(part):
                rest = found[1].startswith("*")
                name = found[1].removeprefix("*")
                if not _NAME.fullmatch(name) or name in names:
                    raise ValueError(f"topic {text!r}: {{{name}}} is no name, or is there twice")
                if rest and at != len(parts) - 1:
                    raise ValueError(f"topic {text!r}: {{*{name}}} takes all that follow, so it comes last")
                names.append(name)
                levels.append(f"(?P<{name}>.+)" if rest else f"(?P<{name}>[^/]+)")
                filters.append("#" if rest else "+")
            elif re.search(r"[{}#+\0]", part):
                raise ValueError(
                    f"topic {text!r}: a level is a text, '+', '{{name}}' or, at the end, '{{*name}}'"
                )
            else:
                levels.append(re.escape(part))
                filters.append(part)
        return cls(text, tuple(names), re.compile("/".join(levels), re.DOTALL), "/".join(filters))

    def match(self, topic: str) -> dict[str, str] | None:
        """The named levels of a topic of this shape, else None."""
        found = self.regex.fullmatch(topic)
        return None if found is None else found.groupdict()


def covers(wide: str, narrow: str) -> bool:
    """Whether MQTT filter `wide` takes every topic that `narrow` takes."""
    one, other = wide.split("/"), narrow.split("/")
    for at, level in enumerate(one):
        if level == "#":
            return True
        if at >= len(other) or other[at] == "#" or (level != "+" and level != other[at]):
            return False
    return len(one) == len(other)


@dataclass(frozen=True, slots=True)
class Template:
    """A text with parts to fill in: `{line}` is a level of the topic, `{/id}` what stands there in the payload.

    `parts`: texts as they are, steps of pointers, and names of levels (in a list of one, to tell them apart).
    """

    text: str
    parts: tuple[str | Steps | list[str], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        parts: list[str | Steps | list[str]] = []
        end = 0
        for found in _PART.finditer(text):
            parts += [
                text[end : found.start()],
                pointer(found[1]) if found[1].startswith("/") else [found[1]],
            ]
            end = found.end()
        parts.append(text[end:])
        if any(isinstance(part, str) and re.search("[{}]", part) for part in parts) or not any(parts):
            raise ValueError(f"{text!r} is no template: write {{level}} or {{/pointer}} in it, each closed")
        return cls(text, tuple(part for part in parts if part))

    @property
    def levels(self) -> list[str]:
        """The topic's levels that it names."""
        return [part[0] for part in self.parts if isinstance(part, list)]

    @property
    def static(self) -> bool:
        """Whether the topic alone makes it."""
        return not any(isinstance(part, tuple) for part in self.parts)

    def fill(self, levels: Mapping[str, str], item: object, message: object) -> str | None:
        """The text; None if a part of it is not there, or is neither text nor whole number, or all is too long."""
        made = []
        for part in self.parts:
            if isinstance(part, str):
                made.append(part)
            elif isinstance(part, list):
                made.append(levels[part[0]])
            else:
                found = look(item, part)
                found = look(message, part) if found is MISSING else found
                if type(found) is not str and type(found) is not int:
                    return None
                made.append(str(found))
        text = "".join(made)
        return text if 1 <= len(text) <= _MAX_TEXT else None
