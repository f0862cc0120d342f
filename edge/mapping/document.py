"""YAML as plain data that remembers the line of each of its parts.

Scalars are read more plainly than YAML 1.1 does: `ON`, `no`, `12:30` and dates stay texts, since plants use them as words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from shared.errors import Misconfigured

MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_NODES: Final = 100_000
_INTEGER: Final = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
_HINT: Final = "see docs/reference/mapping.md"

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The data, and for the way to each part of it the line (from 1) where it stands."""

    data: Any
    lines: Mapping[Place, int]

    def line(self, place: Sequence[str | int]) -> int:
        """The line of the part at `place`, or of the nearest part around it that is there."""
        for end in range(len(place), -1, -1):
            found = self.lines.get(tuple(place[:end]))
            if found is not None:
                return found
        return 1


def read_document(text: str, name: str) -> Document:
    """Parse YAML. Raises Misconfigured with `name` and the line."""
    if len(text) > MAX_BYTES:
        raise Misconfigured(
            f"{name} has {len(text)} characters: the most is {MAX_BYTES}", hint="split the agent's machines"
        )
    lines: dict[Place, int] = {}
    try:
        root = yaml.compose(text, yaml.CSafeLoader)
        return Document(
            None if root is None else _plain(root, (), lines, name, iter(range(_MAX_NODES))), lines
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}, line {mark.line + 1}" if mark is not None else name
        raise Misconfigured(f"{where}: {error.problem or error.context}", hint=_HINT) from error
    except yaml.YAMLError as error:
        raise Misconfigured(f"{name} is not YAML: {error}", hint=_HINT) from error
    except RecursionError as error:
        raise Misconfigured(f"{name} is nested too deep", hint=_HINT) from error


def _plain(node: yaml.Node, place: Place, lines: dict[Place, int], name: str, budget: Iterator[int]) -> Any:  # noqa: ANN401 - plain data
    line = node.start_mark.line + 1
    if next(budget, None) is None:  # aliases within aliases would grow without end
        raise Misconfigured(f"{name}, line {line}: more than {_MAX_NODES} values", hint=_HINT)
    lines.setdefault(place, line)
    match node:
        case yaml.ScalarNode():
            return _scalar(node)
        case yaml.SequenceNode():
            return [_plain(each, (*place, at), lines, name, budget) for at, each in enumerate(node.value)]
        case yaml.MappingNode():
            made: dict[str, Any] = {}
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise Misconfigured(
                        f"{name}, line {key.start_mark.line + 1}: a key is a text", hint=_HINT
                    )
                if key.value in made:
                    raise Misconfigured(
                        f"{name}, line {key.start_mark.line + 1}: {key.value!r} is there twice", hint=_HINT
                    )
                lines[*place, key.value] = key.start_mark.line + 1
                made[key.value] = _plain(value, (*place, key.value), lines, name, budget)
            return made
    raise Misconfigured(f"{name}, line {line}: {node.tag} is nothing that a mapping holds", hint=_HINT)


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    text: str = node.value
    if node.style in {"'", '"', "|", ">"}:  # quoted, or a block: a text whatever it looks like
        return text
    if text in {"true", "false"}:
        return text == "true"
    if text in {"", "null", "~"}:
        return None
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) < 20 else float(text)  # noqa: PLR2004 - beyond 64 bits
    return float(text) if _FLOAT.fullmatch(text) else text
