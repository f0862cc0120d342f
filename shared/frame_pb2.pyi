from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    READINGS: _ClassVar[Kind]
    SCORES: _ClassVar[Kind]
    EVENT: _ClassVar[Kind]
    AGGREGATE: _ClassVar[Kind]
    WAVE: _ClassVar[Kind]
    REJECT: _ClassVar[Kind]
KIND_UNSPECIFIED: Kind
READINGS: Kind
SCORES: Kind
EVENT: Kind
AGGREGATE: Kind
WAVE: Kind
REJECT: Kind

class Frame(_message.Message):
    __slots__ = ("version", "kind", "site", "edge", "machine", "epoch", "first", "count", "crc32", "body")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    EDGE_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    version: int
    kind: Kind
    site: str
    edge: str
    machine: str
    epoch: bytes
    first: int
    count: int
    crc32: int
    body: bytes
    def __init__(self, version: _Optional[int] = ..., kind: _Optional[_Union[Kind, str]] = ..., site: _Optional[str] = ..., edge: _Optional[str] = ..., machine: _Optional[str] = ..., epoch: _Optional[bytes] = ..., first: _Optional[int] = ..., count: _Optional[int] = ..., crc32: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...

class Readings(_message.Message):
    __slots__ = ("sensor_names", "units", "sensor", "time_delta", "arrival_delta", "value", "quality")
    SENSOR_NAMES_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    SENSOR_FIELD_NUMBER: _ClassVar[int]
    TIME_DELTA_FIELD_NUMBER: _ClassVar[int]
    ARRIVAL_DELTA_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    sensor_names: _containers.RepeatedScalarFieldContainer[str]
    units: _containers.RepeatedScalarFieldContainer[str]
    sensor: _containers.RepeatedScalarFieldContainer[int]
    time_delta: _containers.RepeatedScalarFieldContainer[int]
    arrival_delta: _containers.RepeatedScalarFieldContainer[int]
    value: bytes
    quality: bytes
    def __init__(self, sensor_names: _Optional[_Iterable[str]] = ..., units: _Optional[_Iterable[str]] = ..., sensor: _Optional[_Iterable[int]] = ..., time_delta: _Optional[_Iterable[int]] = ..., arrival_delta: _Optional[_Iterable[int]] = ..., value: _Optional[bytes] = ..., quality: _Optional[bytes] = ...) -> None: ...

class Scores(_message.Message):
    __slots__ = ("model", "version_hash", "limit", "sensor_names", "time_delta", "score", "state", "contribution", "expected")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_HASH_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SENSOR_NAMES_FIELD_NUMBER: _ClassVar[int]
    TIME_DELTA_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    model: str
    version_hash: str
    limit: float
    sensor_names: _containers.RepeatedScalarFieldContainer[str]
    time_delta: _containers.RepeatedScalarFieldContainer[int]
    score: bytes
    state: bytes
    contribution: bytes
    expected: bytes
    def __init__(self, model: _Optional[str] = ..., version_hash: _Optional[str] = ..., limit: _Optional[float] = ..., sensor_names: _Optional[_Iterable[str]] = ..., time_delta: _Optional[_Iterable[int]] = ..., score: _Optional[bytes] = ..., state: _Optional[bytes] = ..., contribution: _Optional[bytes] = ..., expected: _Optional[bytes] = ...) -> None: ...

class Aggregates(_message.Message):
    __slots__ = ("sensor_names", "units", "width_us", "sensor", "start_delta", "rows", "minimum", "maximum", "mean", "replaces")
    SENSOR_NAMES_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    WIDTH_US_FIELD_NUMBER: _ClassVar[int]
    SENSOR_FIELD_NUMBER: _ClassVar[int]
    START_DELTA_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    sensor_names: _containers.RepeatedScalarFieldContainer[str]
    units: _containers.RepeatedScalarFieldContainer[str]
    width_us: int
    sensor: _containers.RepeatedScalarFieldContainer[int]
    start_delta: _containers.RepeatedScalarFieldContainer[int]
    rows: _containers.RepeatedScalarFieldContainer[int]
    minimum: bytes
    maximum: bytes
    mean: bytes
    replaces: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, sensor_names: _Optional[_Iterable[str]] = ..., units: _Optional[_Iterable[str]] = ..., width_us: _Optional[int] = ..., sensor: _Optional[_Iterable[int]] = ..., start_delta: _Optional[_Iterable[int]] = ..., rows: _Optional[_Iterable[int]] = ..., minimum: _Optional[bytes] = ..., maximum: _Optional[bytes] = ..., mean: _Optional[bytes] = ..., replaces: _Optional[_Iterable[int]] = ...) -> None: ...

class Records(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, record: _Optional[_Iterable[bytes]] = ...) -> None: ...
