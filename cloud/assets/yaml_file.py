"""Assets as YAML: a list for each kind, each asset with its id and fields.

Read by the safe rules, with lines for errors. Anchors and aliases are refused: with them a short file becomes a huge one.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import yaml

from cloud.assets.model import FIELDS, Kind
from cloud.assets.sheet import MAX_ROWS, Row, Unreadable, is_text

VERSION: Final = 1
_MAX_DEPTH: Final = 8
_LISTS: Final = {f"{kind}s": kind for kind in Kind}
_NULL: Final = "tag:yaml.org,2002:null"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def write_yaml(rows: Iterable[Row]) -> str:
    """The file."""
    document: dict[str, Any] = {"version": VERSION}
    for row in rows:
        document.setdefault(f"{row.kind}s", []).append({"id": row.id, **row.fields})
    made: str = yaml.dump(document, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=110)
    return made


def read_yaml(text: str) -> list[Row]:
    """Read back. Raises Unreadable."""
    try:
        _check_events(text)
        root = yaml.compose(text, Loader=_LOADER)
        return list(_rows(root))
    except yaml.MarkedYAMLError as error:
        line = 0 if error.problem_mark is None else error.problem_mark.line
        raise Unreadable(line + 1, f"this is no YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise Unreadable(1, f"this is no YAML: {str(error)[:200]}") from error


def _check_events(text: str) -> None:
    """Refuse what composing would take for ever, before it is composed."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise Unreadable(_line(event), "anchors and aliases are not taken: write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise Unreadable(_line(event), "too deep: there are lists of assets, with fields and attributes")


def _line(node: Any) -> int:  # noqa: ANN401 - yaml's nodes and events
    return int(node.start_mark.line) + 1


def _rows(root: Any) -> Iterator[Row]:  # noqa: ANN401 - yaml's node
    if root is None:
        return
    found = 0
    for name, node in _pairs(root, "the file"):
        if name == "version":
            if node.value != str(VERSION):
                raise Unreadable(_line(node), f"version {node.value!r}: this release reads {VERSION}")
            continue
        if name not in _LISTS:
            raise Unreadable(_line(node), f"unknown list {name[:40]!r}: there are {', '.join(_LISTS)}")
        if node.tag == _NULL:
            continue
        if not isinstance(node, yaml.SequenceNode):
            raise Unreadable(_line(node), f"{name} must be a list")
        for item in node.value:
            found += 1
            if found > MAX_ROWS:
                raise Unreadable(_line(item), f"more than {MAX_ROWS:,} assets")
            yield _row(_LISTS[name], item)


def _row(kind: Kind, node: Any) -> Row:  # noqa: ANN401 - yaml's node
    fields: dict[str, Any] = {}
    asset = ""
    for name, value in _pairs(node, f"a {kind}"):
        if name == "id":
            asset = str(value.value) if isinstance(value, yaml.ScalarNode) else ""
        elif name not in FIELDS[kind].model_fields:
            raise Unreadable(_line(value), f"{name[:40]}: a {kind} has no such field")
        else:
            fields[name] = _value(kind, name, value)
    if not asset:
        raise Unreadable(_line(node), f"a {kind} needs an id")
    return Row(_line(node), kind, asset, fields)


def _pairs(node: Any, what: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - yaml's nodes
    if not isinstance(node, yaml.MappingNode):
        raise Unreadable(_line(node), f"{what} must have names and values")
    seen: set[str] = set()
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        if not name or name in seen:
            raise Unreadable(_line(key), f"{name[:40]!r} is no name, or twice here")
        seen.add(name)
        yield name, value


def _value(kind: Kind, name: str, node: Any) -> Any:  # noqa: ANN401 - any field
    if node.tag == _NULL:
        return None
    if isinstance(node, yaml.MappingNode):
        return {key: _scalar(key, value) for key, value in _pairs(node, name)}
    if not isinstance(node, yaml.ScalarNode):
        raise Unreadable(_line(node), f"{name}: one value is wanted")
    if is_text(kind, name):
        return node.value  # as it is written: a serial number 007 or a name "no" is a text
    return _scalar(name, node)


def _scalar(name: str, node: Any) -> Any:  # noqa: ANN401 - any plain value
    """A number, truth value or text; dates stay the text they are."""
    if not isinstance(node, yaml.ScalarNode):
        raise Unreadable(_line(node), f"{name}: one value is wanted")
    kind = node.tag.rpartition(":")[2]
    if kind not in {"int", "float", "bool", "null"}:
        return node.value
    constructor = yaml.constructor.SafeConstructor()
    try:
        return constructor.construct_object(node)
    except (ValueError, yaml.YAMLError) as error:
        raise Unreadable(_line(node), f"{name}: {node.value[:40]!r} can't be read") from error
