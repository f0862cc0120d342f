"""Events and anomalies over HTTP: newest first, by pages, of a machine, of types, of a time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from cloud.api.cached import Answers, Made, key_of
from cloud.api.cursors import MAX_CURSOR, cursor, place
from cloud.api.examples import ANOMALIES, EVENTS_PAGE
from cloud.api.formats import JSON, MEDIA, Format, as_json, as_table, negotiated, tabular
from cloud.api.logic import Anomaly, anomalies
from cloud.api.positions import MinPosition, parse_position, reached
from cloud.api.questions import settled, until
from cloud.api.shortcut import Questions, shown
from cloud.api.touched import Reads
from cloud.telemetry.port import BEGIN_US, END_US, StoredEvent, TelemetryReader
from shared.access import Right
from shared.asgi_access import needs
from shared.clock import Clock
from shared.events import AnomalyEnded, AnomalyStarted, parse_event, to_us
from shared.names import MACHINE_EVENTS

MAX_EVENTS: Final = 1000
MAX_TYPES: Final = 20

Machine = Annotated[str | None, Query(max_length=40, description="of this machine alone")]
Start = Annotated[
    str, Query(alias="from", max_length=64, description="µs since 1970, RFC 3339, now, or -15m, -24h")
]
End = Annotated[
    str | None, Query(alias="to", max_length=64, description="the same; not included itself; none: no end")
]
Limit = Annotated[int, Query(ge=1, le=MAX_EVENTS, description="of a page, at most")]
Following = Annotated[
    str | None, Query(max_length=MAX_CURSOR, description="go on from an earlier answer's next")
]
Form = Annotated[Format, Depends(negotiated)]


class AnomalyList(BaseModel):
    """Episodes, newest first. `next`: give it as `cursor` for older ones; null when there are none."""

    anomalies: list[Anomaly]
    next: str | None


class EventList(BaseModel):
    """CloudEvents, newest first; `next` as above."""

    events: list[dict[str, Any]]
    next: str | None


def happenings_router(store: TelemetryReader, answers: Answers, known: Questions, clock: Clock) -> APIRouter:
    """The endpoints."""
    router = APIRouter(dependencies=[Depends(needs(Right.READ))])

    async def answered(
        request: Request, key: str, until_us: int | None, make: Callable[[], Awaitable[Made]]
    ) -> Response:
        # Of all machines: events are few, and one may be about another thing than its record's key.
        reads = [Reads(MACHINE_EVENTS, None, BEGIN_US, END_US)]
        kept = await answers.get(key, reads, make)
        if "min_position" not in request.query_params:
            known.remember(request, key, reads, until_us)
        return shown(kept)

    @router.get("/v1/anomalies", response_class=Response, responses=tabular(ANOMALIES, AnomalyList))
    async def list_anomalies(
        request: Request,
        form: Form,
        machine: Machine = None,
        start: Start = "0",
        end: End = None,
        limit: Limit = 100,
        cursor: Following = None,
        min_position: MinPosition = "",
    ) -> Response:
        """Episodes that had not ended by `from` and began before `to`: each with its leading sensors, seen beside expected.

        A page may be shorter than `limit` and still have a `next`.
        """
        since_us, until_us = settled(start, str(END_US) if end is None else end, clock)
        await reached(parse_position(min_position), answers.stands(MACHINE_EVENTS), clock)

        async def make() -> Made:
            page = await _events(store, machine, (AnomalyStarted.type,), (BEGIN_US, until_us), limit, cursor)
            found = await _episodes(store, page)
            kept = [one for one in found if one.ended_at is None or to_us(one.ended_at) >= since_us]
            return await _made(
                "anomalies", [one.model_dump(mode="json") for one in kept], _next(page, limit), form
            )

        key = key_of("anomalies", machine, since_us, until_us, limit, cursor, form)
        return await answered(request, key, until(clock, start, end), make)

    @router.get("/v1/events", response_class=Response, responses=tabular(EVENTS_PAGE, EventList))
    async def list_events(
        request: Request,
        form: Form,
        machine: Machine = None,
        kind: Annotated[
            list[str], Query(alias="type", max_length=MAX_TYPES, description="of these types alone")
        ] = [],  # noqa: B006 - FastAPI copies it
        start: Start = "0",
        end: End = None,
        limit: Limit = 100,
        cursor: Following = None,
        min_position: MinPosition = "",
    ) -> Response:
        """CloudEvents of machines and edges, newest first."""
        span = settled(start, str(END_US) if end is None else end, clock)
        await reached(parse_position(min_position), answers.stands(MACHINE_EVENTS), clock)

        async def make() -> Made:
            page = await _events(store, machine, kind, span, limit, cursor)
            return await _made(
                "events", [orjson.loads(each.fact.json) for each in page], _next(page, limit), form
            )

        key = key_of("events", machine, kind, span, limit, cursor, form)
        return await answered(request, key, until(clock, start, end), make)

    return router


async def _events(
    store: TelemetryReader,
    machine: str | None,
    types: Sequence[str],
    span: tuple[int, int],
    limit: int,
    following: str | None,
) -> list[StoredEvent]:
    """A page of events, newest first. Raises Rejected (a cursor that is none)."""
    before = (span[1], 0) if following is None else tuple(place(following, "events", (int, int)))
    return await store.events(machine, types, span[0], limit, before=(before[0], before[1]))


def _next(page: Sequence[StoredEvent], limit: int) -> str | None:
    return cursor("events", page[-1].fact.occurred_us, page[-1].seq) if len(page) == limit else None


async def _episodes(store: TelemetryReader, page: Sequence[StoredEvent]) -> list[Anomaly]:
    """The episodes that these events began, with their ends, which the store took later."""
    begun = [parse_event(each.fact.json) for each in page]
    ends, after = [], min((each.seq for each in page), default=0)
    machine = page[0].fact.machine if len({each.fact.machine for each in page}) == 1 else None
    while page:
        more = await store.events(machine, (AnomalyEnded.type,), limit=MAX_EVENTS, after_seq=after)
        ends += [parse_event(each.fact.json) for each in more]
        if len(more) < MAX_EVENTS:
            break
        after = more[-1].seq
    return anomalies([*begun, *ends])


async def _made(name: str, rows: list[dict[str, Any]], following: str | None, form: Format) -> Made:
    if form == "json":
        return Made(JSON, as_json({name: rows, "next": following}), {})
    body = await asyncio.to_thread(as_table, _table(rows), form)
    return Made(MEDIA[form], body, {} if following is None else {"X-Next-Cursor": following})


def _table(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Columns of the rows' fields; what is neither a text nor a number is JSON."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if any(isinstance(value, int | float) for value in values):
            columns[name] = np.array([np.nan if value is None else value for value in values], np.float64)
        else:
            columns[name] = [
                value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
                for value in values
            ]
    return columns
