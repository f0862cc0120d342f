"""Sparkplug payloads: bytes put together from the specification, every data type, and what is malformed."""

import pytest

from shared.errors import Rejected
from shared.sparkplug import codec
from shared.sparkplug import sparkplug_b_pb2 as pb
from shared.sparkplug.datatypes import METRICS, Carried, DataType, Value, carry, data_type, typed
from shared.sparkplug.payload import DataSet, MetaData, Metric, Payload, Property, metric
from tests.golden.sparkplug_samples import FOLDER, SAMPLES, T, golden_bytes


@pytest.mark.parametrize("name", SAMPLES)
def test_the_bytes_of_the_specification_are_read(name: str) -> None:
    assert codec.decode(golden_bytes(name)) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_bytes_of_the_specification_are_written(name: str) -> None:
    assert codec.encode(SAMPLES[name]) == golden_bytes(name)


def test_every_golden_payload_has_its_meaning() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SAMPLES)


def test_data_types_have_the_numbers_of_the_specification() -> None:
    assert [kind.value for kind in DataType] == list(range(35))
    numbers = {
        "INT8": 1,
        "UINT64": 8,
        "FLOAT": 9,
        "BOOLEAN": 11,
        "DATETIME": 13,
        "TEMPLATE": 19,
        "INT8_ARRAY": 22,
    }
    assert all(DataType[name] == number for name, number in numbers.items())
    with pytest.raises(Rejected, match="35"):
        data_type(35)


VALUES: list[tuple[DataType, Value, str]] = [
    (DataType.INT8, -128, "int"),
    (DataType.INT16, 32_767, "int"),
    (DataType.INT32, -1, "int"),
    (DataType.INT64, -(2**63), "long"),
    (DataType.UINT8, 255, "int"),
    (DataType.UINT16, 65_535, "int"),
    (DataType.UINT32, 2**32 - 1, "int"),
    (DataType.UINT64, 2**64 - 1, "long"),
    (DataType.FLOAT, 0.5, "float"),
    (DataType.DOUBLE, 0.1, "double"),
    (DataType.BOOLEAN, True, "boolean"),
    (DataType.STRING, "ü", "string"),
    (DataType.DATETIME, T, "long"),
    (DataType.TEXT, "", "string"),
    (DataType.UUID, "123e4567-e89b-12d3-a456-426614174000", "string"),
    (DataType.BYTES, b"\0\xff", "bytes"),
    (DataType.FILE, b"#", "bytes"),
    (DataType.FLOAT_ARRAY, (0.5, -2.0), "bytes"),
    (DataType.BOOLEAN_ARRAY, (True,) * 9, "bytes"),
    (DataType.STRING_ARRAY, ("", "a"), "bytes"),
    (DataType.DATETIME_ARRAY, (T, 0), "bytes"),
]


@pytest.mark.parametrize(("kind", "value", "field"), VALUES)
def test_a_value_travels_in_its_field(kind: DataType, value: Value, field: str) -> None:
    carried = carry(value, kind)
    assert carried.field == field
    assert typed(carried, kind) == value
    assert (
        codec.decode(codec.encode(Payload(metrics=(metric("m", kind, value),)))).metrics[0].carried == carried
    )


@pytest.mark.parametrize(
    ("raw", "kind", "value"),
    [
        (0xFF, DataType.INT8, -1),
        (0xFFFFFFFF, DataType.INT8, -1),
        (2**64 - 1, DataType.INT8, -1),
        (0xFFFF8AD0, DataType.INT16, -30_000),
        (2**64 - 5, DataType.INT32, -5),
    ],
)
def test_signed_numbers_are_two_s_complement_of_any_width(raw: int, kind: DataType, value: int) -> None:
    assert typed(Carried("long", raw), kind) == value


@pytest.mark.parametrize("field", ["int", "long"])
def test_32_unsigned_bits_are_read_from_either_field(field: str) -> None:
    assert typed(Carried(field, 4_000_000_000), DataType.UINT32) == 4_000_000_000  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("carried", "kind"),
    [
        (Carried("int", 256), DataType.UINT8),
        (Carried("int", 300), DataType.INT8),
        (Carried("string", "1"), DataType.INT32),
        (Carried("int", 1), DataType.FLOAT),
        (Carried("boolean", True), DataType.INT32),
        (Carried("string", "not one"), DataType.UUID),
        (Carried("bytes", b"123"), DataType.INT16_ARRAY),
        (Carried("bytes", b"\x09\0\0\0\0"), DataType.BOOLEAN_ARRAY),
        (Carried("bytes", b"\1"), DataType.BOOLEAN_ARRAY),
        (Carried("bytes", b"abc"), DataType.STRING_ARRAY),
        (Carried("bytes", b"\xff\0"), DataType.STRING_ARRAY),
        (Carried("int", 1), DataType.UNKNOWN),
        (Carried("int", 1), DataType.PROPERTY_SET),
    ],
)
def test_a_value_that_is_not_of_its_type_is_refused(carried: Carried, kind: DataType) -> None:
    with pytest.raises(Rejected):
        typed(carried, kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (128, DataType.INT8),
        (-1, DataType.UINT64),
        (True, DataType.INT8),
        ("x", DataType.PROPERTY_SET),
        (("a\0b",), DataType.STRING_ARRAY),
        ((1000,), DataType.INT8_ARRAY),
        (1, DataType.UNKNOWN),
    ],
)
def test_a_value_that_its_type_can_not_hold_is_not_written(value: Value, kind: DataType) -> None:
    with pytest.raises(Rejected):
        carry(value, kind)


def test_a_double_beyond_32_bits_becomes_infinite_as_a_float() -> None:
    assert carry(1e300, DataType.FLOAT).value == float("inf")


def test_a_metric_may_have_every_type_but_those_of_properties() -> None:
    assert set(DataType) - METRICS == {
        DataType.UNKNOWN,
        DataType.PROPERTY_SET,
        DataType.PROPERTY_SET_LIST,
    }


def raw(**fields: object) -> bytes:
    """A payload of one metric with these fields."""
    return pb.Payload(metrics=[pb.Metric(name="m", **fields)]).SerializeToString()  # type: ignore[arg-type]


def fault(data: bytes) -> str:
    """What is wrong with the only metric."""
    return codec.decode(data).metrics[0].fault


def cell(**value: object) -> pb.DataSetValue:
    return pb.DataSetValue(**value)  # type: ignore[arg-type]


def nested(depth: int) -> pb.Template:
    inner = [pb.Metric(name="t", template_value=nested(depth - 1))] if depth else []
    return pb.Template(metrics=inner)


def deep(depth: int) -> pb.PropertySet:
    values = (
        [pb.PropertyValue(propertyset_value=deep(depth - 1))] if depth else [pb.PropertyValue(int_value=1)]
    )
    return pb.PropertySet(keys=["k"], values=values)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (raw(properties=pb.PropertySet(keys=["a"])), "1 property keys and 0 values"),
        (raw(properties=pb.PropertySet(keys=["a", "a"], values=[pb.PropertyValue()] * 2)), "twice"),
        (raw(properties=pb.PropertySet(keys=map(str, range(300)), values=[pb.PropertyValue()] * 300)), "300"),
        (
            raw(properties=pb.PropertySet(keys=["a"], values=[pb.PropertyValue(type=99, int_value=1)])),
            "unknown data type 99",
        ),
        (
            raw(properties=pb.PropertySet(keys=["a"], values=[pb.PropertyValue(type=17, int_value=1)])),
            "no type of",
        ),
        (raw(properties=deep(codec.MAX_DEPTH + 1)), "nest deeper"),
        (raw(dataset_value=pb.DataSet(num_of_columns=2, columns=["a"], types=[3])), "says 2 columns"),
        (raw(dataset_value=pb.DataSet(num_of_columns=1, columns=["a"], types=[])), "types 0"),
        (raw(dataset_value=pb.DataSet(num_of_columns=1, columns=["a"], types=[16])), "no type of"),
        (
            raw(dataset_value=pb.DataSet(num_of_columns=1, columns=["a"], types=[3], rows=[pb.Row()])),
            "0 cells for 1",
        ),
        (
            raw(
                dataset_value=pb.DataSet(
                    num_of_columns=1,
                    columns=["a"],
                    types=[3],
                    rows=[pb.Row(elements=[cell(string_value="x")])],
                )
            ),
            "does not travel as string",
        ),
        (
            raw(
                dataset_value=pb.DataSet(
                    num_of_columns=1,
                    columns=["a"],
                    types=[3],
                    rows=[pb.Row(elements=[cell(extension_value=pb.Extension())])],
                )
            ),
            "extension",
        ),
        (
            raw(
                dataset_value=pb.DataSet(
                    num_of_columns=1, columns=["a"], types=[3], rows=[pb.Row()] * (codec.MAX_CELLS + 1)
                )
            ),
            "the most is",
        ),
        (raw(template_value=nested(codec.MAX_DEPTH + 1)), "nest deeper"),
        (raw(template_value=pb.Template(parameters=[pb.Parameter(int_value=1)])), "no name"),
        (raw(extension_value=pb.Extension()), "extension"),
        (b"\x12\x03\x0a\x01\xff", "not UTF-8"),
        (b"\x12\x02\x0a\x00", "1 to 1000 characters"),
        (b"\x12\x06\x0a\x01a\x7a\x01\xff", "not UTF-8"),
    ],
)
def test_a_spoilt_metric_is_named_and_the_others_stand(data: bytes, reason: str) -> None:
    assert reason in fault(data)
    both = codec.decode(data + codec.encode(Payload(metrics=(metric("good", DataType.INT8, 1),))))
    assert both.metrics[1].fault == ""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff", "not a Sparkplug payload"),
        (b"\x08", "not a Sparkplug payload"),
        (b"\x22\x01\xff", "not UTF-8"),
        (bytes(codec.MAX_PAYLOAD + 1), "the most is"),
        (b"\x12\x00" * (codec.MAX_METRICS + 1), "metrics: the most is"),
    ],
)
def test_a_spoilt_payload_is_refused_whole(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        codec.decode(data)


def test_what_third_parties_add_is_passed_over() -> None:
    added = golden_bytes("ndata") + b"\x32\x03abc"  # field 6, from which extensions may come
    assert codec.decode(added) == SAMPLES["ndata"]


def test_presence_is_kept_apart_from_zero() -> None:
    assert codec.decode(codec.encode(Payload(seq=0))).seq == 0
    assert codec.decode(codec.encode(Payload())).seq is None


def test_metadata_and_properties_of_every_kind_survive() -> None:
    each = Metric(
        "m",
        metadata=MetaData(is_multi_part=False, size=3, file_name="a.txt"),
        properties={
            "none": Property(DataType.STRING, None),
            "untyped": Property(None, "x"),
            "set": Property(DataType.PROPERTY_SET, {"in": Property(DataType.INT8, -1)}),
            "list": Property(DataType.PROPERTY_SET_LIST, ({"a": Property(DataType.BOOLEAN, True)}, {})),
        },
    )
    payload = Payload(1, (each,), 2, "schema", b"body")
    assert codec.decode(codec.encode(payload)) == payload


@pytest.mark.parametrize("value", [True, 7, 0.5, "x"])
def test_a_property_without_a_type_travels_by_its_kind(*, value: bool | float | str) -> None:
    payload = Payload(metrics=(Metric("m", properties={"p": Property(None, value)}),))
    assert codec.decode(codec.encode(payload)) == payload


def test_a_data_set_keeps_its_empty_cells() -> None:
    table = DataSet(("a", "b"), (DataType.BOOLEAN, DataType.DOUBLE), ((None, 0.0), (False, None)))
    payload = Payload(metrics=(metric("t", DataType.DATASET, table),))
    assert codec.decode(codec.encode(payload)) == payload
