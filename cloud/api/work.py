"""Counters and work orders over HTTP."""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from cloud.api.asset_examples import COUNTER, COUNTER_DONE, COUNTERS, ORDER, ORDER_DONE, ORDERS
from cloud.api.assets import Maintainer, Reader
from cloud.api.changes import IdempotencyKey, IfMatch, etag, revision_of
from cloud.api.cursors import MAX_CURSOR, cursor, place
from cloud.api.examples import example
from cloud.api.positions import MinPosition, parse_position, reached
from cloud.assets.model import MeterReading, OrderFields, Status, WorkOrder
from cloud.assets.port import AssetCommands, AssetReader, By, Done, WantedOrders
from shared import names
from shared.clock import Clock
from shared.errors import NotFound
from shared.eventlog import Position
from shared.names import ID_PATTERN
from shared.problems import documented

MAX_PAGE: Final = 1000
_COUNTERS: Final = "counters"
_ORDERS: Final = "work-orders"

CounterId = Annotated[str, Field(min_length=1, max_length=130)]
OrderId = Annotated[str, Field(min_length=1, max_length=40)]


class ResetAnswer(BaseModel):
    """The counter began at nought again; it stood at `value`."""

    at: datetime
    by: str
    reason: str
    value: float


class CounterAnswer(BaseModel):
    """A counter of a machine or component, with every reset, oldest first."""

    id: str
    machine: str
    value: float
    as_of: datetime | None
    changed_by: str
    resets: list[ResetAnswer]
    revision: int


class CounterPage(BaseModel):
    """Counters by id. `next`: give it as `cursor` for those that follow; null at the end."""

    counters: list[CounterAnswer]
    next: str | None
    position: dict[str, int]


class CounterDone(BaseModel):
    """What a change came to. `position` in the topic `assets` shows it."""

    counter: CounterAnswer
    position: dict[str, int]
    changed: bool


class Count(BaseModel):
    """What it stands at; `as_of` is now if it is not given."""

    model_config = ConfigDict(extra="forbid")

    value: float = Field(ge=0, le=1e15, allow_inf_nan=False)
    as_of: AwareDatetime | None = None


class ResetRequest(BaseModel):
    """Why it begins at nought again."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=500)


class OrderAnswer(BaseModel):
    """A work order. `revision` is its ETag; `failure_code` a failure mode of ISO 14224."""

    id: str
    machine: str
    component: str
    kind: str
    priority: str
    status: Status
    title: str
    description: str
    anomaly: str
    failure_code: str
    actions: str
    created_at: datetime | None
    created_by: str
    changed_at: datetime | None
    changed_by: str
    closed_at: datetime | None
    closed_by: str
    cancelled_why: str
    revision: int


class OrderPage(BaseModel):
    """Work orders, newest first. `next`: give it as `cursor` for older ones; null at the end."""

    work_orders: list[OrderAnswer]
    next: str | None
    position: dict[str, int]


class OrderDone(BaseModel):
    """What a change came to. `position` in the topic `work-orders` shows it."""

    work_order: OrderAnswer
    position: dict[str, int]
    changed: bool


class Opening(OrderFields):
    """What is to be done; a title is needed."""

    machine: str = Field(pattern=rf"^{ID_PATTERN}$")


class Closing(BaseModel):
    """What was found and done."""

    model_config = ConfigDict(extra="forbid")

    failure_code: str = Field("", pattern=r"^([A-Z0-9.]{2,12})?$")
    actions: str = Field("", max_length=4000)


class Cancelling(BaseModel):
    """Why it will not be done."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(min_length=1, max_length=500)


def counters_router(reader: AssetReader, commands: AssetCommands, clock: Clock) -> APIRouter:
    """The endpoints of counters."""
    router = APIRouter(responses=documented(202, 409, 412))

    async def position() -> Position:
        return (await reader.positions()).get(names.ASSETS, {})

    @router.get("/v1/counters", responses=example(COUNTERS) | documented(202))
    async def list_counters(
        _: Reader,
        owner: Annotated[str, Query(max_length=90, description="a machine, or MACHINE.COMPONENT")] = "",
        after: Annotated[str, Query(alias="cursor", max_length=MAX_CURSOR)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        min_position: MinPosition = "",
    ) -> CounterPage:
        """Counters by id, of one machine or component or of all."""
        await reached(parse_position(min_position), position, clock)
        last = place(after, _COUNTERS, (str,))[0] if after else ""
        found = await reader.counters(owner, last, limit)
        return CounterPage(
            counters=[counter_answer(one) for one in found.items],
            next=cursor(_COUNTERS, found.items[-1].id) if found.more else None,
            position=dict(found.position),
        )

    @router.get("/v1/counters/{counter}", responses=example(COUNTER) | documented(202))
    async def one_counter(
        counter: CounterId, _: Reader, response: Response, min_position: MinPosition = ""
    ) -> CounterAnswer:
        """One, with its resets."""
        await reached(parse_position(min_position), position, clock)
        found = await reader.counter(counter)
        if found is None:
            raise NotFound(f"there is no counter {counter[:130]!r}")
        response.headers["ETag"] = etag(found.revision)
        return counter_answer(found)

    @router.put("/v1/counters/{counter}", responses=example(COUNTER_DONE))
    async def set_counter(
        counter: CounterId,
        wanted: Count,
        idempotency_key: IdempotencyKey,
        who: Maintainer,
        response: Response,
        if_match: IfMatch = "",
    ) -> CounterDone:
        """Set MACHINE.NAME or MACHINE.COMPONENT.NAME; the first time makes it."""
        by = By(who.name, idempotency_key, revision_of(if_match))
        done = await commands.count(counter, wanted.value, wanted.as_of, by)
        return _counter_done(done, response)

    @router.post("/v1/counters/{counter}/reset", responses=example(COUNTER_DONE))
    async def reset_counter(
        counter: CounterId,
        wanted: ResetRequest,
        idempotency_key: IdempotencyKey,
        who: Maintainer,
        response: Response,
        if_match: IfMatch = "",
    ) -> CounterDone:
        """Begin at nought again, for example after a replacement; what it stood at is kept."""
        by = By(who.name, idempotency_key, revision_of(if_match))
        return _counter_done(await commands.reset(counter, wanted.reason, by), response)

    return router


def orders_router(reader: AssetReader, commands: AssetCommands, clock: Clock) -> APIRouter:
    """The endpoints of work orders."""
    router = APIRouter(responses=documented(202, 409, 412))

    async def position() -> Position:
        return (await reader.positions()).get(names.WORK_ORDERS, {})

    @router.get("/v1/work-orders", responses=example(ORDERS) | documented(202))
    async def list_orders(
        _: Reader,
        status: Status | None = None,
        machine: Annotated[str, Query(max_length=40)] = "",
        component: Annotated[str, Query(max_length=90)] = "",
        anomaly: Annotated[str, Query(max_length=64)] = "",
        after: Annotated[str, Query(alias="cursor", max_length=MAX_CURSOR)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        min_position: MinPosition = "",
    ) -> OrderPage:
        """Work orders, newest first."""
        await reached(parse_position(min_position), position, clock)
        wanted = WantedOrders(status, machine, component, anomaly)
        last = place(after, _ORDERS, (int,))[0] if after else 0
        found = await reader.orders(wanted, last, limit)
        return OrderPage(
            work_orders=[order_answer(one) for one in found.items],
            next=cursor(_ORDERS, int(found.items[-1].id.rpartition("-")[2])) if found.more else None,
            position=dict(found.position),
        )

    @router.get("/v1/work-orders/{order}", responses=example(ORDER) | documented(202))
    async def one_order(
        order: OrderId, _: Reader, response: Response, min_position: MinPosition = ""
    ) -> OrderAnswer:
        """One."""
        await reached(parse_position(min_position), position, clock)
        found = await reader.order(order)
        if found is None:
            raise NotFound(f"there is no work order {order[:40]!r}")
        response.headers["ETag"] = etag(found.revision)
        return order_answer(found)

    @router.post("/v1/work-orders", status_code=201, responses=example(ORDER_DONE, 201))
    async def open_order(
        wanted: Opening, idempotency_key: IdempotencyKey, who: Maintainer, response: Response
    ) -> OrderDone:
        """Something is to be done at a machine."""
        fields = wanted.model_dump(exclude_unset=True, exclude={"machine"})
        done = await commands.open(wanted.machine, fields, By(who.name, idempotency_key))
        return _order_done(done, response)

    @router.patch("/v1/work-orders/{order}", responses=example(ORDER_DONE))
    async def change_order(
        order: OrderId,
        wanted: OrderFields,
        idempotency_key: IdempotencyKey,
        who: Maintainer,
        response: Response,
        if_match: IfMatch = "",
    ) -> OrderDone:
        """Other words for an order that is not over."""
        by = By(who.name, idempotency_key, revision_of(if_match))
        fields: dict[str, Any] = wanted.model_dump(exclude_unset=True)
        return _order_done(await commands.reword(order, fields, by), response)

    @router.post("/v1/work-orders/{order}/start", responses=example(ORDER_DONE))
    async def start_order(
        order: OrderId,
        idempotency_key: IdempotencyKey,
        who: Maintainer,
        response: Response,
        if_match: IfMatch = "",
    ) -> OrderDone:
        """Somebody is at it."""
        by = By(who.name, idempotency_key, revision_of(if_match))
        return _order_done(await commands.start(order, by), response)

    @router.post("/v1/work-orders/{order}/close", responses=example(ORDER_DONE))
    async def close_order(
        order: OrderId,
        wanted: Closing,
        idempotency_key: IdempotencyKey,
        who: Maintainer,
        response: Response,
        if_match: IfMatch = "",
    ) -> OrderDone:
        """It is done. 409 if it is over already."""
        by = By(who.name, idempotency_key, revision_of(if_match))
        return _order_done(await commands.close(order, wanted.failure_code, wanted.actions, by), response)

    @router.post("/v1/work-orders/{order}/cancel", responses=example(ORDER_DONE))
    async def cancel_order(
        order: OrderId,
        wanted: Cancelling,
        idempotency_key: IdempotencyKey,
        who: Maintainer,
        response: Response,
        if_match: IfMatch = "",
    ) -> OrderDone:
        """It will not be done. 409 if it is over already."""
        by = By(who.name, idempotency_key, revision_of(if_match))
        return _order_done(await commands.cancel(order, wanted.why, by), response)

    return router


def counter_answer(counter: MeterReading) -> CounterAnswer:
    """A counter in the API's words."""
    return CounterAnswer(
        id=counter.id,
        machine=counter.machine,
        value=counter.value,
        as_of=counter.as_of,
        changed_by=counter.changed_by,
        resets=[ResetAnswer(at=r.at, by=r.by, reason=r.reason, value=r.value) for r in counter.resets],
        revision=counter.revision,
    )


def order_answer(order: WorkOrder) -> OrderAnswer:
    """A work order in the API's words."""
    return OrderAnswer(**{name: getattr(order, name) for name in OrderAnswer.model_fields})


def _counter_done(done: Done[MeterReading], response: Response) -> CounterDone:
    response.headers["ETag"] = etag(done.thing.revision)
    return CounterDone(counter=counter_answer(done.thing), position=dict(done.position), changed=done.changed)


def _order_done(done: Done[WorkOrder], response: Response) -> OrderDone:
    response.headers["ETag"] = etag(done.thing.revision)
    return OrderDone(work_order=order_answer(done.thing), position=dict(done.position), changed=done.changed)
