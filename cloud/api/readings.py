"""Readings of several series in one request: curves, aggregates by time, pages, whole exports."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from cloud.api.cached import Answers, Made, key_of
from cloud.api.cursors import MAX_CURSOR, cursor
from cloud.api.examples import MANY_READINGS
from cloud.api.formats import JSON, MEDIA, TABLES, Format, as_json, as_table, negotiated, streamed, tabular
from cloud.api.formats import exported as exported_form
from cloud.api.positions import MinPosition, parse_position, reached
from cloud.api.questions import MAX_POINTS, MAX_SERIES, Question, question, series_names, settled, until
from cloud.api.series import (
    Aggregate,
    Downsample,
    Part,
    aggregated,
    check_names,
    curves,
    every_reading,
    pages,
    table,
)
from cloud.api.shortcut import Questions, shown
from cloud.telemetry.port import TelemetryReader
from shared.access import Right
from shared.asgi_access import needs
from shared.clock import Clock
from shared.names import SENSOR_READINGS
from shared.problems import documented

THREAD_CELLS: Final = 20_000
"""Larger answers are written in a thread."""

Wanted = Annotated[
    list[str],
    Query(
        alias="series",
        min_length=1,
        max_length=MAX_SERIES,
        description="MACHINE/SENSOR, as often as wanted",
        examples=[["pump-01/flow"]],
    ),
]
Start = Annotated[
    str, Query(alias="from", max_length=64, description="µs since 1970, RFC 3339, now, or -15m, -24h")
]
End = Annotated[str, Query(alias="to", max_length=64, description="the same; not included itself")]


class SeriesPart(BaseModel):
    """A series' columns. `points` readings are behind them; `min` and `max` come with `downsample=mean` alone."""

    machine: str
    sensor: str
    unit: str
    points: int
    downsampled: bool
    time_us: list[int]
    value: list[float]
    quality: list[int]
    min: list[float] | None = None
    max: list[float] | None = None
    arrival_us: list[int] | None = None


class ReadingsAnswer(BaseModel):
    """`next`: give it as `cursor`, with the same series, for what follows; null at the end."""

    from_us: int
    to_us: int
    series: list[SeriesPart]
    next: str | None


def readings_router(store: TelemetryReader, answers: Answers, known: Questions, clock: Clock) -> APIRouter:
    """The endpoints."""
    router = APIRouter(dependencies=[Depends(needs(Right.READ))])

    @router.get("/v1/readings", response_class=Response, responses=tabular(MANY_READINGS, ReadingsAnswer))
    async def readings(
        request: Request,
        wanted: Wanted,
        form: Annotated[Format, Depends(negotiated)],
        start: Start = "-24h",
        end: End = "now",
        max_points: Annotated[
            int | None, Query(ge=4, le=MAX_POINTS, description="a curve of at most so many")
        ] = None,
        downsample: Annotated[Downsample | None, Query(description="how: lttb (default)")] = None,
        every: Annotated[
            str | None, Query(max_length=10, description="aggregates by 10s, 1m, 6h, 1d …")
        ] = None,
        aggregate: Annotated[Aggregate | None, Query(description="of each stretch: mean (default)")] = None,
        limit: Annotated[
            int, Query(ge=1, le=MAX_POINTS, description="readings a series, on a page")
        ] = MAX_POINTS,
        cursor: Annotated[str | None, Query(max_length=MAX_CURSOR, description="an answer's next")] = None,
        min_position: MinPosition = "",
    ) -> Response:
        """Readings as they are, by pages; with `max_points` as a curve; with `every` as aggregates.

        `lttb` keeps the points that show a curve's shape, `minmax` its extremes, `mean` makes means with extremes.
        """
        asked = question(clock, wanted, start, end, limit, max_points, downsample, aggregate, every, cursor)
        await reached(parse_position(min_position), answers.stands(SENSOR_READINGS), clock)

        async def make() -> Made:
            return await _made(store, asked, form)

        key = key_of("readings", asked, form)
        kept = await answers.get(key, asked.reads(), make)
        if not min_position:
            known.remember(request, key, asked.reads(), until(clock, start, end))
        return shown(kept)

    @router.get(
        "/v1/readings/export",
        response_class=StreamingResponse,
        responses={200: {"description": "the table", "content": TABLES}, **documented(406)},
    )
    async def export(
        wanted: Wanted,
        form: Annotated[Format, Depends(exported_form)],
        start: Start = "-24h",
        end: End = "now",
    ) -> Response:
        """All readings of a range, however many, as CSV or Parquet; made as it is sent."""
        names = series_names(wanted)
        from_us, to_us = settled(start, end, clock)
        await check_names(store, names)
        headers = {"Content-Disposition": f'attachment; filename="readings.{form}"', "Vary": "Accept"}
        pieces = streamed(every_reading(store, names, from_us, to_us), form)
        return StreamingResponse(pieces, 200, headers, MEDIA[form])

    return router


async def _made(store: TelemetryReader, asked: Question, form: Format) -> Made:
    """The answer to a question."""
    following: str | None = None
    if asked.most is not None:
        parts = await curves(store, asked.names, asked.from_us, asked.to_us, asked.most, asked.way)
    elif asked.every_us is not None:
        parts = await aggregated(store, asked.names, asked.from_us, asked.to_us, asked.every_us, asked.how)
    else:
        parts, further = await pages(store, asked.names, asked.starts_us, asked.to_us, asked.limit)
        if any(at < asked.to_us for at in further):
            following = cursor("readings", asked.to_us, further)
    if form != "json":
        body = await asyncio.to_thread(as_table, table(parts), form)
        return Made(MEDIA[form], body, {} if following is None else {"X-Next-Cursor": following})
    content = {
        "from_us": asked.from_us,
        "to_us": asked.to_us,
        "series": [_shown(part) for part in parts],
        "next": following,
    }
    cells = sum(len(part.columns["value"]) for part in parts)
    body = as_json(content) if cells < THREAD_CELLS else await asyncio.to_thread(as_json, content)
    return Made(JSON, body, {})


def _shown(part: Part) -> dict[str, Any]:
    return {
        "machine": part.name.machine,
        "sensor": part.name.sensor,
        "unit": part.unit,
        "points": part.rows,
        "downsampled": part.downsampled,
        **part.columns,
    }
