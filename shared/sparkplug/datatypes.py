"""Sparkplug's data types (chapter 6.4): their numbers, and a value from and to the field that carries it.

Signed integers travel as two's complement in unsigned fields; arrays travel as packed little-endian bytes.
"""

import math
import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from shared.errors import Rejected

if TYPE_CHECKING:
    from shared.sparkplug.payload import DataSet, Template

Field = Literal[
    "int", "long", "float", "double", "boolean", "string", "bytes", "dataset", "template", "extension"
]
Scalar = int | float | bool | str
Array = tuple[Scalar, ...]
Value: TypeAlias = "Scalar | bytes | Array | DataSet | Template"


class DataType(IntEnum):
    """A value's type, by its number on the wire."""

    UNKNOWN = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    DATASET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTY_SET = 20
    PROPERTY_SET_LIST = 21
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31
    BOOLEAN_ARRAY = 32
    STRING_ARRAY = 33
    DATETIME_ARRAY = 34


@dataclass(frozen=True, slots=True)
class Carried:
    """A value as it travels: the field that held it (`int` is `int_value`), and what the field held."""

    field: Field
    value: "Scalar | bytes | DataSet | Template"


@dataclass(frozen=True, slots=True)
class _Integer:
    bits: int
    signed: bool
    field: Literal["int", "long"]

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - int(self.signed))) - 1


_INTEGERS: Final = {
    DataType.INT8: _Integer(8, True, "int"),
    DataType.INT16: _Integer(16, True, "int"),
    DataType.INT32: _Integer(32, True, "int"),
    DataType.INT64: _Integer(64, True, "long"),
    DataType.UINT8: _Integer(8, False, "int"),
    DataType.UINT16: _Integer(16, False, "int"),
    DataType.UINT32: _Integer(32, False, "int"),
    DataType.UINT64: _Integer(64, False, "long"),
    DataType.DATETIME: _Integer(64, False, "long"),
}
_FIELDS: Final[dict[DataType, Field]] = {
    DataType.FLOAT: "float",
    DataType.DOUBLE: "double",
    DataType.BOOLEAN: "boolean",
    DataType.STRING: "string",
    DataType.TEXT: "string",
    DataType.UUID: "string",
    DataType.DATASET: "dataset",
    DataType.BYTES: "bytes",
    DataType.FILE: "bytes",
    DataType.TEMPLATE: "template",
}
_ITEMS: Final = {
    DataType.INT8_ARRAY: "b",
    DataType.INT16_ARRAY: "h",
    DataType.INT32_ARRAY: "i",
    DataType.INT64_ARRAY: "q",
    DataType.UINT8_ARRAY: "B",
    DataType.UINT16_ARRAY: "H",
    DataType.UINT32_ARRAY: "I",
    DataType.UINT64_ARRAY: "Q",
    DataType.FLOAT_ARRAY: "f",
    DataType.DOUBLE_ARRAY: "d",
    DataType.DATETIME_ARRAY: "Q",
}
_ARRAYS: Final = frozenset(DataType) & frozenset(range(DataType.INT8_ARRAY, DataType.DATETIME_ARRAY + 1))
_WIDTH: Final = {"int": 32, "long": 64}
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", re.ASCII)

NUMERIC: Final = frozenset(_INTEGERS) - {DataType.DATETIME} | {
    DataType.FLOAT,
    DataType.DOUBLE,
    DataType.BOOLEAN,
}
"""Types whose values are readings."""
CELLS: Final = frozenset(_INTEGERS) | {
    DataType.FLOAT,
    DataType.DOUBLE,
    DataType.BOOLEAN,
    DataType.STRING,
    DataType.TEXT,
}
"""Types that a data set's cell, a property or a template's parameter may have."""
METRICS: Final = CELLS | frozenset(_FIELDS) | _ARRAYS
"""Types that a metric may have."""


def data_type(number: int) -> DataType:
    """The type of that number. Raises Rejected for one that the specification does not name."""
    try:
        return DataType(number)
    except ValueError as error:
        raise Rejected(f"unknown data type {number}") from error


def typed(carried: Carried, kind: DataType) -> Value:
    """The value of type `kind` in what a field carried. Raises Rejected if they don't fit.

    Integers are taken from either integer field: implementations differ in where they put 32 unsigned bits.
    """
    if kind in _INTEGERS and carried.field in _WIDTH:
        return _integer(carried, kind)
    if kind in _ARRAYS and isinstance(carried.value, bytes):
        return _unpack(carried.value, kind)
    if kind in {DataType.FLOAT, DataType.DOUBLE} and isinstance(carried.value, float):
        return carried.value
    if kind not in METRICS or carried.field != _FIELDS.get(kind):
        raise Rejected(f"{kind.name} does not travel as {carried.field}_value")
    if kind is DataType.UUID and not _UUID.fullmatch(str(carried.value)):
        raise Rejected(f"{str(carried.value)[:40]!r} is no UUID")
    return carried.value


def carry(value: Value, kind: DataType) -> Carried:
    """The field and content in which a value of type `kind` travels. Raises Rejected if it is out of its range."""
    integer = _INTEGERS.get(kind)
    if integer is not None:
        if type(value) is not int or not integer.low <= value <= integer.high:
            raise Rejected(f"{value!r} is no {kind.name}")
        return Carried(integer.field, value & ((1 << _WIDTH[integer.field]) - 1))
    if kind in _ARRAYS and isinstance(value, tuple):
        return Carried("bytes", _pack(value, kind))
    field = _FIELDS.get(kind)
    if field is None:
        raise Rejected(f"a metric can't be {kind.name}")
    if kind is DataType.FLOAT and isinstance(value, float):
        value = _single(value)
    carried = Carried(field, value)  # type: ignore[arg-type]
    typed(carried, kind)
    return carried


def _single(value: float) -> float:
    """The nearest of 32 bits; too large becomes infinite, as a device's own conversion does."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _integer(carried: Carried, kind: DataType) -> int:
    """The two's complement of the type's own width, or one extended to the field's or to 32 bits."""
    raw, integer = int(carried.value), _INTEGERS[kind]  # type: ignore[arg-type]
    if not integer.signed:
        if raw > integer.high:
            raise Rejected(f"{raw} is no {kind.name}")
        return raw
    for bits in (integer.bits, 32, 64):
        if bits >= integer.bits and raw < 1 << bits:
            signed = raw - (1 << bits) if raw >> (bits - 1) else raw
            if integer.low <= signed <= integer.high:
                return signed
    raise Rejected(f"{raw} is no {kind.name}")


def _unpack(data: bytes, kind: DataType) -> Array:
    if kind is DataType.BOOLEAN_ARRAY:
        count = int.from_bytes(data[:4], "little")
        if len(data) < 4 or len(data) - 4 != (count + 7) // 8:  # noqa: PLR2004 - the count's own width
            raise Rejected(f"{len(data)} bytes are no BOOLEAN_ARRAY of {count}")
        return tuple(bool(data[4 + i // 8] >> (7 - i % 8) & 1) for i in range(count))
    if kind is DataType.STRING_ARRAY:
        if data and data[-1]:
            raise Rejected("a STRING_ARRAY ends with a zero byte")
        try:
            return tuple(part.decode() for part in data.split(b"\0")[:-1])
        except UnicodeDecodeError as error:
            raise Rejected(f"a STRING_ARRAY of no text: {error}") from error
    item = _ITEMS[kind]
    size = struct.calcsize(f"<{item}")
    if len(data) % size:
        raise Rejected(f"{len(data)} bytes are no {kind.name}: an item has {size}")
    return struct.unpack(f"<{len(data) // size}{item}", data)


def _pack(values: Array, kind: DataType) -> bytes:
    if kind is DataType.BOOLEAN_ARRAY:
        bits = bytearray((len(values) + 7) // 8)
        for i, value in enumerate(values):
            bits[i // 8] |= bool(value) << (7 - i % 8)
        return len(values).to_bytes(4, "little") + bytes(bits)
    if kind is DataType.STRING_ARRAY:
        texts = [str(value) for value in values]
        if any("\0" in text for text in texts):
            raise Rejected("a text in a STRING_ARRAY has no zero byte")
        return b"".join(text.encode() + b"\0" for text in texts)
    try:
        return struct.pack(f"<{len(values)}{_ITEMS[kind]}", *values)
    except (struct.error, OverflowError) as error:
        raise Rejected(f"no {kind.name}: {error}") from error
