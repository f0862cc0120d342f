"""What the payloads in `sparkplug/*.hex` hold. The bytes were put together field by field from the specification."""

from pathlib import Path
from typing import Final

from shared.sparkplug.datatypes import DataType
from shared.sparkplug.payload import DataSet, Parameter, Payload, Property, Template, metric

FOLDER: Final = Path(__file__).parent / "sparkplug"
T: Final = 1_700_000_000_000

SAMPLES: Final = {
    "nbirth": Payload(
        T,
        (
            metric("bdSeq", DataType.INT64, 7, timestamp=T),
            metric("Node Control/Rebirth", DataType.BOOLEAN, False, timestamp=T),
            metric(
                "Bearing/Temp",
                DataType.FLOAT,
                21.5,
                alias=1,
                timestamp=T,
                properties={
                    "engUnit": Property(DataType.STRING, "°C"),
                    "Quality": Property(DataType.INT32, 192),
                },
            ),
        ),
        0,
    ),
    "ndata": Payload(
        T + 1000,
        (
            metric(None, DataType.FLOAT, 22.0, alias=1, timestamp=T + 1000, typeless=True),
            metric(None, DataType.FLOAT, 20.0, alias=1, timestamp=T - 60_000, typeless=True, historical=True),
        ),
        1,
    ),
    "ndeath": Payload(T, (metric("bdSeq", DataType.INT64, 7, timestamp=T),)),
    "ncmd-rebirth": Payload(T, (metric("Node Control/Rebirth", DataType.BOOLEAN, True),)),
    "scalars": Payload(
        T,
        (
            metric("a", DataType.INT8, -1),
            metric("b", DataType.INT16, -30_000),
            metric("c", DataType.INT32, -(2**31)),
            metric("d", DataType.INT64, -1),
            metric("e", DataType.UINT8, 255),
            metric("f", DataType.UINT32, 2**32 - 1),
            metric("g", DataType.UINT64, 2**64 - 1),
            metric("h", DataType.DATETIME, T),
            metric("i", DataType.DOUBLE, -0.5),
            metric("j", DataType.INT32, None),
        ),
        255,
    ),
    "dataset": Payload(
        T,
        (
            metric(
                "table",
                DataType.DATASET,
                DataSet(("n", "what"), (DataType.INT32, DataType.STRING), ((-5, "five"), (None, "none"))),
            ),
        ),
        2,
    ),
    "template": Payload(
        T,
        (
            metric(
                "Motor 1",
                DataType.TEMPLATE,
                Template(
                    (metric("RPM", DataType.INT32, 1480),),
                    (Parameter("Rated", DataType.DOUBLE, 7.5),),
                    "1.0",
                    "Motor",
                    is_definition=False,
                ),
            ),
        ),
        3,
    ),
    "arrays": Payload(
        T,
        (
            metric("bytes", DataType.BYTES, b"\x00\x01\xff"),
            metric("i8", DataType.INT8_ARRAY, (-23, 123)),
            metric("i16", DataType.INT16_ARRAY, (-30_000, 30_000)),
            metric("i32", DataType.INT32_ARRAY, (-1, 315_338_746)),
            metric(
                "bool",
                DataType.BOOLEAN_ARRAY,
                (False, False, True, True, False, True, False, False, True, True, False, True),
            ),
            metric("text", DataType.STRING_ARRAY, ("ABC", "hello")),
        ),
        4,
    ),
}


def golden_bytes(name: str) -> bytes:
    """A file's bytes, its comments left out."""
    lines = (FOLDER / f"{name}.hex").read_text(encoding="utf-8").splitlines()
    return bytes.fromhex(" ".join(line.split("#", 1)[0] for line in lines))
