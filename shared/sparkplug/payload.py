"""A Sparkplug payload as frozen data. `None` means that the field is not there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.sparkplug.datatypes import Carried, DataType, Scalar, Value, carry


@dataclass(frozen=True, slots=True)
class Property:
    """A metric's property. `type` is None where the sender left it out; the value is then as it travelled."""

    type: DataType | None
    value: "Scalar | Properties | tuple[Properties, ...] | None"


Properties = Mapping[str, Property]


@dataclass(frozen=True, slots=True)
class MetaData:
    """What a metric says of its value beyond its type."""

    is_multi_part: bool | None = None
    content_type: str | None = None
    size: int | None = None
    seq: int | None = None
    file_name: str | None = None
    file_type: str | None = None
    md5: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class DataSet:
    """A table: each row has one cell a column, None where the cell is empty."""

    columns: tuple[str, ...]
    types: tuple[DataType, ...]
    rows: tuple[tuple[Scalar | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A template's parameter."""

    name: str
    type: DataType | None
    value: Scalar | None


@dataclass(frozen=True, slots=True)
class Template:
    """A structured value: a definition (`is_definition`), or an instance of the one called `template_ref`."""

    metrics: tuple["Metric", ...] = ()
    parameters: tuple[Parameter, ...] = ()
    version: str | None = None
    template_ref: str | None = None
    is_definition: bool | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One value, or a birth's definition and first value. `datatype` is the number as it came.

    `fault` says what is wrong with this metric, if something is; the others of its message stand.
    """

    name: str | None = None
    alias: int | None = None
    timestamp: int | None = None
    datatype: int | None = None
    is_historical: bool = False
    is_transient: bool = False
    is_null: bool = False
    metadata: MetaData | None = None
    properties: Properties = field(default_factory=dict)
    carried: Carried | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Payload:
    """A message's content. Times are ms since 1970 UTC."""

    timestamp: int | None = None
    metrics: tuple[Metric, ...] = ()
    seq: int | None = None
    uuid: str | None = None
    body: bytes | None = None


def metric(
    name: str | None,
    kind: DataType,
    value: "Value | None",
    *,
    alias: int | None = None,
    timestamp: int | None = None,
    properties: Properties | None = None,
    typeless: bool = False,
    historical: bool = False,
) -> Metric:
    """A metric that carries `value` of type `kind`, or null. Raises Rejected if the type can't hold it.

    `typeless` leaves the type out, as data messages do.
    """
    return Metric(
        name=name,
        alias=alias,
        timestamp=timestamp,
        datatype=None if typeless else int(kind),
        is_historical=historical,
        is_null=value is None,
        properties=properties or {},
        carried=None if value is None else carry(value, kind),
    )
