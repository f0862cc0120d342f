"""In which form an answer is given: JSON, CSV or Parquet, by `format=` or `Accept`. Tables as bytes or as a stream."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
import orjson
from fastapi import Query, Request
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from shared.problems import documented

Format = Literal["json", "csv", "parquet"]

JSON: Final = "application/json"
CSV: Final = "text/csv; charset=utf-8"
PARQUET: Final = "application/vnd.apache.parquet"
MEDIA: Final[Mapping[Format, str]] = {"json": JSON, "csv": CSV, "parquet": PARQUET}
_BY_TYPE: Final[Mapping[str, Format]] = {
    "application/json": "json",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/*": "json",
    "text/*": "csv",
    "*/*": "json",
}
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Columns = Mapping[str, Any]
"""Names to columns of one length: sequences, numpy arrays, or Texts. A name that ends in `_us` is a time in µs."""


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """A column of texts, few of them different: `index` int64[n] into `names`."""

    names: Sequence[str]
    index: NDArray[np.int64]


async def negotiated(
    request: Request,
    wanted: Annotated[
        Format | None, Query(alias="format", description="instead of the header Accept")
    ] = None,
) -> Format:
    """A dependency: the format that the client wants most. Raises HTTPException (406)."""
    return wanted or chosen(request.headers.get("accept", ""), tuple(MEDIA))


async def exported(
    request: Request,
    wanted: Annotated[
        Literal["csv", "parquet"] | None, Query(alias="format", description="instead of the header Accept")
    ] = None,
) -> Format:
    """The same for what is CSV or Parquet alone."""
    accept = request.headers.get("accept", "")
    return wanted or chosen("text/csv" if accept.strip() in {"", "*/*"} else accept, ("csv", "parquet"))


def chosen(accept: str, offered: Sequence[Format]) -> Format:
    """The offered format that an Accept header prefers; of equals the one named first. Raises HTTPException (406)."""
    best: tuple[float, Format] | None = None
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        name, _, parameters = part.strip().lower().partition(";")
        weight = _weight(parameters)
        found = _BY_TYPE.get(name.strip())
        if found is None or found not in offered or weight <= 0:
            continue
        if best is None or weight > best[0]:
            best = weight, found
    if best is None:
        raise HTTPException(406, f"this is served as {', '.join(MEDIA[each] for each in offered)}")
    return best[1]


def _weight(parameters: str) -> float:
    for each in parameters.split(";"):
        name, _, value = each.strip().partition("=")
        if name == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def as_json(content: Any) -> bytes:  # noqa: ANN401 - JSON, with numpy columns
    """JSON of what may hold numpy columns."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def as_table(columns: Columns, wanted: Format) -> bytes:
    """CSV or Parquet of whole columns."""
    made = io.BytesIO()
    write, close = _writer(made, wanted)
    write(columns)
    close()
    return made.getvalue()


async def streamed(parts: AsyncIterator[Columns], wanted: Format) -> AsyncIterator[bytes]:
    """CSV or Parquet in pieces as the parts come, which must be of one shape. Never more than one part is held."""
    made = io.BytesIO()
    writer: tuple[Callable[[Columns], None], Callable[[], None]] | None = None
    async for columns in parts:
        if writer is None:
            writer = await asyncio.to_thread(_writer, made, wanted)
        await asyncio.to_thread(writer[0], columns)
        yield _taken(made)
    if writer is not None:
        writer[1]()
        yield _taken(made)


def _taken(made: io.BytesIO) -> bytes:
    piece = made.getvalue()
    made.seek(0)
    made.truncate()
    return piece


def _writer(sink: io.BytesIO, wanted: Format) -> tuple[Callable[[Columns], None], Callable[[], None]]:
    """Writes columns to the sink, and ends it. The first columns say which there are."""
    import pyarrow as pa  # noqa: PLC0415 - 100 ms and 40 MB that only these formats need
    import pyarrow.csv  # noqa: PLC0415 - the same
    import pyarrow.parquet  # noqa: PLC0415 - the same

    target: Any = pa.PythonFile(_Tail(sink), "w")
    writer: Any = None

    def write(columns: Columns) -> None:
        nonlocal writer
        table = pa.table(dict(_arrow(columns, for_people=wanted == "csv")))
        if writer is None:
            writer = (
                pyarrow.csv.CSVWriter(target, table.schema)
                if wanted == "csv"
                else pyarrow.parquet.ParquetWriter(target, table.schema, compression="zstd")
            )
        writer.write_table(table)

    def close() -> None:
        if writer is not None:
            writer.close()

    return write, close


class _Tail(io.RawIOBase):
    """Counts on where the sink was emptied in between: Parquet's footer needs places in the whole file."""

    def __init__(self, sink: io.BytesIO) -> None:
        super().__init__()
        self._sink = sink
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:  # noqa: ANN401 - any buffer
        written = self._sink.write(piece)
        self._at += written
        return written

    def tell(self) -> int:
        return self._at


def _arrow(columns: Columns, *, for_people: bool) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa  # noqa: PLC0415 - see above

    for name, values in columns.items():
        if name.endswith("_us"):
            yield name.removesuffix("_us"), pa.array(values, pa.timestamp("us", "UTC"))
        elif isinstance(values, Texts):
            names = [harmless(text) for text in values.names] if for_people else list(values.names)
            yield name, pa.array(names, pa.string()).take(pa.array(values.index))
        elif isinstance(values, list):
            texts = [harmless(text) if for_people and text is not None else text for text in values]
            yield name, pa.array(texts, pa.string())
        else:
            yield name, pa.array(values)


def harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def tabular(shown: Any, model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:  # noqa: ANN401 - JSON
    """`responses` of an endpoint with this example that answers as JSON, CSV and Parquet."""
    after = {"description": "of CSV and Parquet: what `next` is in JSON", "schema": {"type": "string"}}
    content = {"application/json": {"example": shown}, **TABLES}
    return {
        200: {"model": model, "content": content, "headers": {"X-Next-Cursor": after}},
        **documented(202, 406),
    }


TABLES: Final[Mapping[str, Any]] = {
    "text/csv": {"schema": {"type": "string"}},
    PARQUET: {"schema": {"type": "string", "format": "binary"}},
}
