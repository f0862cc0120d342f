"""Looks into an ONNX file's bytes, before any runtime does, for what a model may not bring along.

Only the wire format of protobuf and the field numbers of onnx.proto3 are needed, so that the edge can refuse a
file that points at other files, brings its own operators or is too large, without the onnx package.
"""

from collections.abc import Iterator
from typing import Final

from shared.errors import Rejected

NODES_MAX: Final = 2000
DEPTH_MAX: Final = 16
DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BITS_MAX: Final = 70

# Field numbers in onnx.proto3.
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_SPARSE_TENSORS = (1, 2)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_OPSET_DOMAIN = 1


def check_onnx(data: bytes) -> int:
    """Return the number of nodes of an ONNX model.

    Raises:
        Rejected: The bytes are no ONNX model, or it has external data, custom domains, functions of its own,
            training parts or too many nodes.
    """
    nodes = 0
    graphs = 0
    view = memoryview(data)
    for field, value in _fields(view):
        if field == _MODEL_GRAPH:
            graphs += 1
            nodes += _graph(_message(value), 0)
        elif field == _MODEL_OPSETS:
            for inner, domain in _fields(_message(value)):
                if inner == _OPSET_DOMAIN:
                    _check_domain(domain)
        elif field in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise Rejected("the ONNX model brings functions or training parts of its own")
    if graphs != 1:
        raise Rejected("the ONNX model has no graph")
    if nodes > NODES_MAX:
        raise Rejected(f"the ONNX model has {nodes} nodes, at most {NODES_MAX} are allowed")
    return nodes


def _graph(view: memoryview, depth: int) -> int:
    if depth > DEPTH_MAX:
        raise Rejected("the ONNX model nests its graphs too deeply")
    nodes = 0
    for field, value in _fields(view):
        if field == _GRAPH_NODE:
            nodes += 1 + _node(_message(value), depth)
        elif field == _GRAPH_INITIALIZER:
            _tensor(_message(value))
        elif field == _GRAPH_SPARSE:
            _sparse(_message(value))
    return nodes


def _node(view: memoryview, depth: int) -> int:
    nodes = 0
    for field, value in _fields(view):
        if field == _NODE_DOMAIN:
            _check_domain(value)
        elif field == _NODE_ATTRIBUTE:
            for inner, part in _fields(_message(value)):
                if inner in _ATTRIBUTE_TENSORS:
                    _tensor(_message(part))
                elif inner in _ATTRIBUTE_SPARSE:
                    _sparse(_message(part))
                elif inner in _ATTRIBUTE_GRAPHS:
                    nodes += _graph(_message(part), depth + 1)
    return nodes


def _sparse(view: memoryview) -> None:
    for field, value in _fields(view):
        if field in _SPARSE_TENSORS:
            _tensor(_message(value))


def _tensor(view: memoryview) -> None:
    for field, value in _fields(view):
        if field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value != 0):
            raise Rejected("the ONNX model keeps data in other files")


def _check_domain(value: memoryview | int) -> None:
    domain = bytes(_message(value)).decode("utf-8", "replace")
    if domain not in DOMAINS:
        raise Rejected(f"the ONNX model uses the custom domain {domain[:60]!r}")


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise Rejected("this is not an ONNX model: a field has the wrong type")
    return value


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field number and value of each field of one protobuf message."""
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(view, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(view, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise Rejected("this is not an ONNX model: unknown wire type")
        if at + size > len(view):
            raise Rejected("this is not an ONNX model: it ends too early")
        yield key >> 3, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(view) and shift < _VARINT_BITS_MAX:
        byte = view[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit of a varint
            return number, at
        shift += 7
    raise Rejected("this is not an ONNX model: it ends too early")
