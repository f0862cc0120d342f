"""How people change assets, counters and work orders: each command is decided by the owner, once a request."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from cloud.assets.app import Owner
from cloud.assets.csv_file import read_csv, write_csv
from cloud.assets.fold import State
from cloud.assets.logic import (
    Ask,
    decide_change,
    decide_creation,
    decide_restoration,
    decide_retirement,
    digest,
)
from cloud.assets.model import Asset, Fields, Kind, MeterReading, WorkOrder
from cloud.assets.orders import (
    decide_cancelling,
    decide_closing,
    decide_count,
    decide_opening,
    decide_order_change,
    decide_reset,
    decide_start,
)
from cloud.assets.port import By, Done, Fault, Imported
from cloud.assets.sheet import MAX_BYTES, Row, Unreadable, decide_import, plan, rows_of
from cloud.assets.yaml_file import read_yaml, write_yaml
from shared.clock import Clock
from shared.errors import Rejected
from shared.event import Event, at, to_us
from shared.eventlog import Position
from shared.names import ASSETS, WORK_ORDERS

T = TypeVar("T")


class Commands:
    """See the port `AssetCommands`."""

    def __init__(self, owner: Owner, clock: Clock) -> None:
        self._owner, self._clock = owner, clock

    async def create(self, kind: Kind, asset: str, fields: Fields, by: By) -> Done[Asset]:
        """See AssetCommands."""
        ask = self._ask(by, "create", kind, asset, fields)
        return await self._on_asset(
            kind, asset, lambda state: decide_creation(state, kind, asset, fields, ask)
        )

    async def change(self, kind: Kind, asset: str, fields: Fields, by: By) -> Done[Asset]:
        """See AssetCommands."""
        ask = self._ask(by, "change", kind, asset, fields)
        return await self._on_asset(kind, asset, lambda state: decide_change(state, kind, asset, fields, ask))

    async def retire(self, kind: Kind, asset: str, why: str, by: By) -> Done[Asset]:
        """See AssetCommands."""
        ask = self._ask(by, "retire", kind, asset, why)
        return await self._on_asset(
            kind, asset, lambda state: decide_retirement(state, kind, asset, why, ask)
        )

    async def restore(self, kind: Kind, asset: str, by: By) -> Done[Asset]:
        """See AssetCommands."""
        ask = self._ask(by, "restore", kind, asset)
        return await self._on_asset(kind, asset, lambda state: decide_restoration(state, kind, asset, ask))

    async def count(self, counter: str, value: float, as_of: datetime | None, by: By) -> Done[MeterReading]:
        """See AssetCommands."""
        ask = self._ask(by, "count", counter, value, "" if as_of is None else to_us(as_of))
        return await self._on_counter(
            counter, lambda state: decide_count(state, counter, value, as_of or ask.at, ask)
        )

    async def reset(self, counter: str, reason: str, by: By) -> Done[MeterReading]:
        """See AssetCommands."""
        ask = self._ask(by, "reset", counter, reason)
        return await self._on_counter(counter, lambda state: decide_reset(state, counter, reason, ask))

    async def open(self, machine: str, fields: Fields, by: By) -> Done[WorkOrder]:
        """See AssetCommands."""
        ask = self._ask(by, "open", machine, fields)
        return await self._on_order("", ask, lambda state: decide_opening(state, machine, fields, ask))

    async def reword(self, order: str, fields: Fields, by: By) -> Done[WorkOrder]:
        """See AssetCommands."""
        ask = self._ask(by, "reword", order, fields)
        return await self._on_order(order, ask, lambda state: decide_order_change(state, order, fields, ask))

    async def start(self, order: str, by: By) -> Done[WorkOrder]:
        """See AssetCommands."""
        ask = self._ask(by, "start", order)
        return await self._on_order(order, ask, lambda state: decide_start(state, order, ask))

    async def close(self, order: str, failure_code: str, actions: str, by: By) -> Done[WorkOrder]:
        """See AssetCommands."""
        ask = self._ask(by, "close", order, failure_code, actions)
        return await self._on_order(
            order, ask, lambda state: decide_closing(state, order, failure_code, actions, ask)
        )

    async def cancel(self, order: str, why: str, by: By) -> Done[WorkOrder]:
        """See AssetCommands."""
        ask = self._ask(by, "cancel", order, why)
        return await self._on_order(order, ask, lambda state: decide_cancelling(state, order, why, ask))

    async def export(self, layout: str) -> tuple[str, Position]:
        """See AssetCommands."""
        state, positions = await self._owner.look()
        rows = rows_of(state)
        write = write_csv if layout == "csv" else write_yaml
        return await asyncio.to_thread(write, rows), positions.get(ASSETS, {})

    async def load_file(self, text: bytes, layout: str, by: By, *, dry_run: bool) -> Imported:
        """See AssetCommands."""
        try:
            rows = await asyncio.to_thread(read_file, text, layout)
        except Unreadable as error:
            return Imported((), (Fault(error.line, error.why),), {})
        state, positions = await self._owner.look()
        made = await asyncio.to_thread(plan, state, rows)
        position = positions.get(ASSETS, {})
        if made.differences and not made.faults and not dry_run:
            ask = self._ask(by, "import", text.hex())
            _, position, _ = await self._owner.execute(
                ASSETS, lambda newest: decide_import(newest, rows, ask), thread=True
            )
        return Imported(made.differences, made.faults, position)

    def _ask(self, by: By, *what: object) -> Ask:
        return Ask(by.name, at(self._clock.now_us()), by.request, digest(*what, by.revision), by.revision)

    async def _on_asset(self, kind: Kind, asset: str, decide: Callable[[State], list[Event]]) -> Done[Asset]:
        state, position, made = await self._owner.execute(ASSETS, decide)
        return Done(state.assets[kind, asset], position, bool(made))

    async def _on_counter(self, counter: str, decide: Callable[[State], list[Event]]) -> Done[MeterReading]:
        state, position, made = await self._owner.execute(ASSETS, decide)
        return Done(state.counters[counter], position, bool(made))

    async def _on_order(
        self, order: str, ask: Ask, decide: Callable[[State], list[Event]]
    ) -> Done[WorkOrder]:
        state, position, made = await self._owner.execute(WORK_ORDERS, decide)
        found = order or (made[0].subject if made else state.requests[ask.request][1])
        return Done(state.orders[found], position, bool(made))


def read_file(text: bytes, layout: str) -> list[Row]:
    """The rows of a file. Raises Unreadable, Rejected (too large)."""
    if len(text) > MAX_BYTES:
        raise Rejected(f"the file has {len(text):,} bytes; at most {MAX_BYTES:,} are taken")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(text.count(b"\n", 0, error.start) + 1, "this is not UTF-8") from error
    return read_csv(decoded) if layout == "csv" else read_yaml(decoded)
