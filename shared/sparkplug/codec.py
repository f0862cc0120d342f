"""The codec between a payload's bytes and its frozen data.

What spoils one metric is that metric's `fault`; what spoils the whole message is Rejected. Bounds keep a message
from costing more than it should: bytes, metrics, depth, cells.
"""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError

from shared.errors import Rejected
from shared.sparkplug import sparkplug_b_pb2 as pb
from shared.sparkplug.datatypes import CELLS, Carried, DataType, Field, Scalar, carry, data_type, typed
from shared.sparkplug.payload import (
    DataSet,
    MetaData,
    Metric,
    Parameter,
    Payload,
    Properties,
    Property,
    Template,
)

MAX_PAYLOAD: Final = 4 * 1024 * 1024
MAX_METRICS: Final = 20_000
MAX_DEPTH: Final = 8
MAX_CELLS: Final = 100_000
MAX_PROPERTIES: Final = 256
MAX_NAME: Final = 1000

_META: Final = tuple(MetaData.__dataclass_fields__)
_PLAIN: Final = frozenset({"int", "long", "float", "double", "boolean", "string", "bytes"})


def decode(data: bytes) -> Payload:
    """The payload in `data`. Raises Rejected for what is no payload, is too large, or has text that is none."""
    if len(data) > MAX_PAYLOAD:
        raise Rejected(f"payload of {len(data)} bytes: the most is {MAX_PAYLOAD}")
    try:
        raw = pb.Payload.FromString(data)
    except DecodeError as error:
        raise Rejected(f"not a Sparkplug payload: {error}") from error
    if len(raw.metrics) > MAX_METRICS:
        raise Rejected(f"{len(raw.metrics)} metrics: the most is {MAX_METRICS}")
    return Payload(
        _optional(raw, "timestamp"),
        tuple(_metric(each, MAX_DEPTH) for each in raw.metrics),
        _optional(raw, "seq"),
        _text(_optional(raw, "uuid")),
        _optional(raw, "body"),
    )


def encode(payload: Payload) -> bytes:
    """The payload's bytes, the same for the same content. A metric's `fault` is not sent."""
    made = pb.Payload(
        timestamp=payload.timestamp,
        metrics=[_to_metric(each) for each in payload.metrics],
        seq=payload.seq,
        uuid=payload.uuid,
        body=payload.body,
    )
    return made.SerializeToString(deterministic=True)


def _optional(raw: Any, name: str) -> Any:  # noqa: ANN401 - any protobuf message, any of its fields
    return getattr(raw, name) if raw.HasField(name) else None


def _text(value: str | bytes | None) -> str | None:
    """The text. Raises Rejected: protobuf hands over bytes where a text is not UTF-8."""
    if isinstance(value, bytes):
        raise Rejected(f"a text is not UTF-8: {value[:40]!r}")
    return value


def _metric(raw: pb.Metric, depth: int) -> Metric:
    fault, name, metadata, carried = "", None, None, None
    properties: Properties = {}
    try:
        name = _name(raw)
        if raw.HasField("metadata"):
            metadata = MetaData(**{key: _plain(_optional(raw.metadata, key)) for key in _META})
        if raw.HasField("properties"):
            properties = _properties(raw.properties, depth)
        carried = _carried(raw, depth)
    except Rejected as error:
        fault = error.reason
    return Metric(
        name,
        _optional(raw, "alias"),
        _optional(raw, "timestamp"),
        _optional(raw, "datatype"),
        raw.is_historical,
        raw.is_transient,
        raw.is_null,
        metadata,
        properties,
        carried,
        fault,
    )


def _name(raw: pb.Metric) -> str | None:
    name = _text(_optional(raw, "name"))
    if name is not None and not 1 <= len(name) <= MAX_NAME:
        raise Rejected(f"a metric's name has 1 to {MAX_NAME} characters, not {len(name)}")
    return name


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field of the metadata
    return _text(value) if isinstance(value, bytes) else value


def _carried(raw: pb.Metric, depth: int) -> Carried | None:
    field = raw.WhichOneof("value")
    if field is None:
        return None
    name: Field = field.removesuffix("_value")
    value = getattr(raw, field)
    match name:
        case "dataset":
            return Carried(name, _dataset(value))
        case "template":
            return Carried(name, _template(value, depth - 1))
        case "string":
            return Carried(name, _text(value) or "")
        case "extension":
            raise Rejected("the value is a third party's extension")
    return Carried(name, value)


def _scalar(raw: Any, kind: DataType | None) -> Scalar | None:  # noqa: ANN401 - a cell, property or parameter
    """The value of a cell, as its type says or, with none given, as it travelled. Raises Rejected."""
    field = raw.WhichOneof("value")
    if field is None:
        return None
    if field == "extension_value":
        raise Rejected("a value is a third party's extension")
    value = _plain(getattr(raw, field))
    if kind is None:
        return value  # type: ignore[no-any-return]
    return typed(Carried(field.removesuffix("_value"), value), kind)  # type: ignore[return-value]


def _cell_type(number: int) -> DataType:
    kind = data_type(number)
    if kind not in CELLS:
        raise Rejected(f"{kind.name} is no type of a cell, property or parameter")
    return kind


def _properties(raw: pb.PropertySet, depth: int) -> Properties:
    if depth <= 0:
        raise Rejected(f"properties nest deeper than {MAX_DEPTH}")
    if len(raw.keys) != len(raw.values):
        raise Rejected(f"{len(raw.keys)} property keys and {len(raw.values)} values")
    if len(raw.keys) > MAX_PROPERTIES:
        raise Rejected(f"{len(raw.keys)} properties: the most is {MAX_PROPERTIES}")
    made: dict[str, Property] = {}
    for key, value in zip(raw.keys, raw.values, strict=True):
        name = _text(key)
        if name is None or name in made:
            raise Rejected(f"the property {str(name)[:60]!r} is there twice")
        made[name] = _property(value, depth)
    return made


def _property(raw: pb.PropertyValue, depth: int) -> Property:
    number = _optional(raw, "type")
    kind = None if number is None else data_type(number)
    if raw.is_null:
        return Property(kind, None)
    match raw.WhichOneof("value"):
        case "propertyset_value":
            return Property(DataType.PROPERTY_SET, _properties(raw.propertyset_value, depth - 1))
        case "propertysets_value":
            sets = raw.propertysets_value.propertyset
            return Property(DataType.PROPERTY_SET_LIST, tuple(_properties(each, depth - 1) for each in sets))
    return Property(kind, _scalar(raw, None if number is None else _cell_type(number)))


def _dataset(raw: pb.DataSet) -> DataSet:
    columns = tuple(_text(each) or "" for each in raw.columns)
    if not raw.num_of_columns == len(columns) == len(raw.types):
        raise Rejected(
            f"a data set says {raw.num_of_columns} columns, names {len(columns)} and types {len(raw.types)}"
        )
    if len(columns) * len(raw.rows) > MAX_CELLS:
        raise Rejected(f"a data set of {len(columns)} by {len(raw.rows)}: the most is {MAX_CELLS} cells")
    types = tuple(_cell_type(each) for each in raw.types)
    rows = []
    for row in raw.rows:
        if len(row.elements) != len(columns):
            raise Rejected(f"a data set's row has {len(row.elements)} cells for {len(columns)} columns")
        rows.append(tuple(_scalar(cell, kind) for cell, kind in zip(row.elements, types, strict=True)))
    return DataSet(columns, types, tuple(rows))


def _template(raw: pb.Template, depth: int) -> Template:
    if depth <= 0:
        raise Rejected(f"templates nest deeper than {MAX_DEPTH}")
    metrics = tuple(_metric(each, depth) for each in raw.metrics)
    faults = [each.fault for each in metrics if each.fault]
    if faults:
        raise Rejected(f"in the template: {faults[0]}")
    return Template(
        metrics,
        tuple(_parameter(each) for each in raw.parameters),
        _text(_optional(raw, "version")),
        _text(_optional(raw, "template_ref")),
        _optional(raw, "is_definition"),
    )


def _parameter(raw: pb.Parameter) -> Parameter:
    name = _text(_optional(raw, "name"))
    if not name:
        raise Rejected("a template's parameter has no name")
    number = _optional(raw, "type")
    kind = None if number is None else _cell_type(number)
    return Parameter(name, kind, _scalar(raw, kind))


def _to_metric(metric: Metric) -> pb.Metric:
    made = pb.Metric(
        name=metric.name,
        alias=metric.alias,
        timestamp=metric.timestamp,
        datatype=metric.datatype,
        # False is what absence means.
        is_historical=metric.is_historical or None,
        is_transient=metric.is_transient or None,
        is_null=metric.is_null or None,
        metadata=_to_metadata(metric.metadata),
        properties=_to_properties(metric.properties) if metric.properties else None,
    )
    match metric.carried:
        case Carried("dataset", DataSet() as value):
            made.dataset_value.MergeFrom(_to_dataset(value))
        case Carried("template", Template() as value):
            made.template_value.CopyFrom(_to_template(value))
        case Carried(field, value) if field in _PLAIN:
            setattr(made, f"{field}_value", value)
    return made


def _to_metadata(metadata: MetaData | None) -> pb.MetaData | None:
    if metadata is None:
        return None
    return pb.MetaData(**{key: getattr(metadata, key) for key in _META})


def _set(message: Any, value: Scalar | None, kind: DataType | None) -> None:  # noqa: ANN401 - see _scalar
    if value is None:
        return
    carried = carry(value, kind) if kind is not None else _guess(value)
    setattr(message, f"{carried.field}_value", carried.value)


def _guess(value: Scalar) -> Carried:
    """The field of a value with no type: the widest of its kind."""
    match value:
        case bool():
            return Carried("boolean", value)
        case int():
            return Carried("long", value)
        case float():
            return Carried("double", value)
    return Carried("string", value)


def _to_properties(properties: Properties) -> pb.PropertySet:
    return pb.PropertySet(keys=properties, values=[_to_property(each) for each in properties.values()])


def _to_property(each: Property) -> pb.PropertyValue:
    made = pb.PropertyValue(
        type=None if each.type is None else int(each.type), is_null=True if each.value is None else None
    )
    match each.value:
        case dict() as inner:
            made.propertyset_value.CopyFrom(_to_properties(inner))
        case tuple() as inner:
            made.propertysets_value.CopyFrom(pb.PropertySetList(propertyset=map(_to_properties, inner)))
        case int() | float() | str() | None as value:
            _set(made, value, each.type)
    return made


def _to_dataset(table: DataSet) -> pb.DataSet:
    made = pb.DataSet(num_of_columns=len(table.columns), columns=table.columns, types=map(int, table.types))
    for row in table.rows:
        cells = made.rows.add()
        for value, kind in zip(row, table.types, strict=True):
            _set(cells.elements.add(), value, kind)
    return made


def _to_template(template: Template) -> pb.Template:
    made = pb.Template(
        version=template.version,
        metrics=_all(template.metrics),
        template_ref=template.template_ref,
        is_definition=template.is_definition,
    )
    for each in template.parameters:
        one = made.parameters.add(name=each.name, type=None if each.type is None else int(each.type))
        _set(one, each.value, each.type)
    return made


def _all(metrics: Iterable[Metric]) -> list[pb.Metric]:
    return [_to_metric(each) for each in metrics]
