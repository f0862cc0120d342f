"""The projection of assets, counters and work orders in SQL: SQLite or PostgreSQL.

A row has its thing whole as a document, and beside it the columns that it is found by. The positions are written with
the rows, so that the tables are always the fold of the log to exactly there.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from pydantic import TypeAdapter
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    tuple_,
)

from cloud.assets.fold import MAX_REQUESTS, State
from cloud.assets.model import Asset, Kind, MeterReading, Thing, WorkOrder
from cloud.assets.port import Page, Wanted, WantedOrders
from shared.eventlog import Position
from shared.names import ASSETS, WORK_ORDERS
from shared.sqlalchemy import Database, migrate

T = TypeVar("T")

_META: Final = MetaData()
_ASSETS: Final = Table(
    "assets",
    _META,
    *(Column(name, Text) for name in ("kind", "id", "machine", "site", "area", "edge", "text")),
    Column("retired", Boolean),
    Column("document", Text),
)
_COUNTERS: Final = Table(
    "asset_counters", _META, *(Column(name, Text) for name in ("id", "owner", "machine", "document"))
)
_ORDERS: Final = Table(
    "work_orders",
    _META,
    Column("number", Integer),
    *(Column(name, Text) for name in ("id", "status", "machine", "component", "anomaly", "document")),
)
_REQUESTS: Final = Table(
    "asset_requests",
    _META,
    Column("seq", Integer),
    *(Column(name, Text) for name in ("key", "digest", "subject")),
)
_POSITIONS: Final = Table(
    "asset_positions", _META, Column("topic", Text), Column("partition", Text), Column("offset", BigInteger)
)
_TABLES: Final = (_ASSETS, _COUNTERS, _ORDERS, _REQUESTS, _POSITIONS)
_BATCH: Final = 400
"""Rows a statement: SQLite takes at most 32,766 parameters."""

_ASSET: Final = TypeAdapter(Asset)
_COUNTER: Final = TypeAdapter(MeterReading)
_ORDER: Final = TypeAdapter(WorkOrder)


class SqlAssets:
    """See the port `Projection`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def assets(self, wanted: Wanted, after: tuple[str, str], limit: int) -> Page[Asset]:
        """See AssetReader."""
        query = select(_ASSETS.c.document).order_by(_ASSETS.c.kind, _ASSETS.c.id)
        if any(after):
            query = query.where(tuple_(_ASSETS.c.kind, _ASSETS.c.id) > tuple_(*map(_plain, after)))
        if wanted.kind is not None:
            query = query.where(_ASSETS.c.kind == wanted.kind.value)
        for name in ("machine", "site", "area", "edge"):
            if value := getattr(wanted, name):
                query = query.where(_ASSETS.c[name] == _plain(value))
        if wanted.text:
            query = query.where(_ASSETS.c.text.contains(_plain(wanted.text).casefold(), autoescape=True))
        if not wanted.retired:
            query = query.where(_ASSETS.c.retired.is_(False))
        return await self._page(query, limit, _ASSET, ASSETS)

    async def asset(self, kind: Kind, asset: str) -> Asset | None:
        """See AssetReader."""
        query = select(_ASSETS.c.document).where(_ASSETS.c.kind == kind.value, _ASSETS.c.id == _plain(asset))
        return await self._one(query, _ASSET)

    async def counters(self, owner: str, after: str, limit: int) -> Page[MeterReading]:
        """See AssetReader."""
        query = select(_COUNTERS.c.document).where(_COUNTERS.c.id > _plain(after)).order_by(_COUNTERS.c.id)
        if owner:
            column = _COUNTERS.c.owner if "." in owner else _COUNTERS.c.machine
            query = query.where(column == _plain(owner))
        return await self._page(query, limit, _COUNTER, ASSETS)

    async def counter(self, counter: str) -> MeterReading | None:
        """See AssetReader."""
        return await self._one(
            select(_COUNTERS.c.document).where(_COUNTERS.c.id == _plain(counter)), _COUNTER
        )

    async def orders(self, wanted: WantedOrders, before: int, limit: int) -> Page[WorkOrder]:
        """See AssetReader."""
        query = select(_ORDERS.c.document).order_by(_ORDERS.c.number.desc())
        if before:
            query = query.where(_ORDERS.c.number < before)
        for name in ("status", "machine", "component", "anomaly"):
            if value := getattr(wanted, name):
                query = query.where(_ORDERS.c[name] == _plain(value))
        return await self._page(query, limit, _ORDER, WORK_ORDERS)

    async def order(self, order: str) -> WorkOrder | None:
        """See AssetReader."""
        return await self._one(select(_ORDERS.c.document).where(_ORDERS.c.id == _plain(order)), _ORDER)

    async def positions(self) -> dict[str, Position]:
        """See AssetReader."""
        return await self._database.read(_positions)

    async def load(self) -> tuple[State, dict[str, Position]]:
        """See Projection."""
        return await self._database.read(_load)

    async def save(
        self,
        things: Sequence[Thing],
        requests: Mapping[str, tuple[str, str]],
        positions: Mapping[str, Position],
    ) -> None:
        """See Projection."""
        await self._database.write(lambda connection: _write(connection, things, requests, positions))

    async def replace(self, state: State, positions: Mapping[str, Position]) -> None:
        """See Projection."""
        things: list[Thing] = [*state.assets.values(), *state.counters.values(), *state.orders.values()]
        requests = dict(state.requests)

        def work(connection: Connection) -> None:
            for table in _TABLES:
                connection.execute(delete(table))
            _write(connection, things, requests, positions)

        await self._database.write(work, answer_seconds=None)  # however large the plant is

    async def _page(self, query: Select[Any], limit: int, adapter: "TypeAdapter[T]", topic: str) -> Page[T]:
        def work(connection: Connection) -> Page[T]:
            found = [adapter.validate_json(row) for row in connection.scalars(query.limit(limit + 1))]
            return Page(found[:limit], len(found) > limit, _positions(connection).get(topic, {}))

        return await self._database.read(work)

    async def _one(self, query: Select[Any], adapter: "TypeAdapter[T]") -> T | None:
        found = await self._database.read(lambda connection: connection.scalar(query))
        return None if found is None else adapter.validate_json(found)


async def open_assets(database: Database) -> SqlAssets:
    """The projection in this database, its tables brought up to this release. Raises Misconfigured, Unavailable."""
    await migrate(database, "assets", Path(__file__).parent / "migrations")
    return SqlAssets(database)


def _plain(text: str) -> str:
    """PostgreSQL's texts have no NUL, so no id has one either."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _positions(connection: Connection) -> dict[str, Position]:
    found: dict[str, dict[str, int]] = {}
    for topic, partition, offset in connection.execute(
        select(_POSITIONS.c.topic, _POSITIONS.c.partition, _POSITIONS.c.offset)
    ):
        found.setdefault(topic, {})[partition] = offset
    return dict(found)


def _load(connection: Connection) -> tuple[State, dict[str, Position]]:
    state = State()
    for row in connection.scalars(select(_ASSETS.c.document)):
        asset = _ASSET.validate_json(row)
        state.assets[asset.kind, asset.id] = asset
    for row in connection.scalars(select(_COUNTERS.c.document)):
        counter = _COUNTER.validate_json(row)
        state.counters[counter.id] = counter
    for row in connection.scalars(select(_ORDERS.c.document).order_by(_ORDERS.c.number)):
        order = _ORDER.validate_json(row)
        state.orders[order.id] = order
    columns = (_REQUESTS.c.key, _REQUESTS.c.digest, _REQUESTS.c.subject)
    for key, digest, subject in connection.execute(select(*columns).order_by(_REQUESTS.c.seq)):
        state.requests[key] = digest, subject
    return state, _positions(connection)


def _write(
    connection: Connection,
    things: Iterable[Thing],
    requests: Mapping[str, tuple[str, str]],
    positions: Mapping[str, Position],
) -> None:
    rows: dict[Table, list[dict[str, Any]]] = {_ASSETS: [], _COUNTERS: [], _ORDERS: []}
    for thing in things:
        table, row = _row(thing)
        rows[table].append(row | {"document": orjson.dumps(thing).decode()})
    _upsert(connection, _ASSETS, ("kind", "id"), rows[_ASSETS])
    _upsert(connection, _COUNTERS, ("id",), rows[_COUNTERS])
    _upsert(connection, _ORDERS, ("id",), rows[_ORDERS])
    _write_requests(connection, requests)
    places = [
        {"topic": topic, "partition": partition, "offset": offset}
        for topic, position in positions.items()
        for partition, offset in position.items()
    ]
    _upsert(connection, _POSITIONS, ("topic", "partition"), places)


def _row(thing: Thing) -> tuple[Table, dict[str, Any]]:
    match thing:
        case Asset():
            fields = thing.fields
            text = f"{thing.id}\n{fields.get('name', '')}".casefold()
            found = {name: fields.get(name, "") for name in ("site", "area", "edge")}
            found |= {"kind": thing.kind.value, "id": thing.id, "machine": thing.machine, "text": text}
            return _ASSETS, found | {"retired": thing.retired_at is not None}
        case MeterReading():
            return _COUNTERS, {"id": thing.id, "owner": thing.owner[1], "machine": thing.machine}
        case WorkOrder():
            found = {name: getattr(thing, name) for name in ("id", "machine", "component", "anomaly")}
            return _ORDERS, found | {"status": thing.status.value, "number": number_of(thing.id)}


def number_of(order: str) -> int:
    """The number in a work order's id."""
    return int(order.rpartition("-")[2])


def _write_requests(connection: Connection, requests: Mapping[str, tuple[str, str]]) -> None:
    if not requests:
        return
    last = connection.scalar(select(func.coalesce(func.max(_REQUESTS.c.seq), 0))) or 0
    rows = [
        {"key": key, "seq": last + number, "digest": digest, "subject": subject}
        for number, (key, (digest, subject)) in enumerate(requests.items(), 1)
    ]
    _upsert(connection, _REQUESTS, ("key",), rows)
    connection.execute(delete(_REQUESTS).where(_REQUESTS.c.seq <= last + len(rows) - MAX_REQUESTS))


def _upsert(
    connection: Connection, table: Table, key: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert rows or put them in the place of those with their key: by deletion, which both dialects have."""
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        keys = [tuple(row[name] for name in key) for row in some]
        connection.execute(delete(table).where(tuple_(*(table.c[name] for name in key)).in_(keys)))
        connection.execute(insert(table), list(some))
