"""What `assets` and `work-orders` do: over HTTP where the plant runs, from its database where it does not."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from cloud.assets.csv_file import write_csv
from cloud.assets.model import FIELDS, Kind
from cloud.assets.port import Wanted, WantedOrders
from cloud.assets.sheet import is_text, rows_of
from cloud.assets.yaml_file import write_yaml
from industrialmind.client import Client
from industrialmind.plant import DataDir
from shared.errors import Misconfigured, NotFound, Rejected, Unavailable

_PAGE: Final = 1000
_IMPORT_SECONDS: Final = 600.0


class Reader(Protocol):
    """Where assets are read from; the answers are those of the data API."""

    async def assets(self, kind: Kind, filters: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """All of a kind that match."""
        ...

    async def asset(self, kind: Kind, asset: str) -> Mapping[str, Any]:
        """One. Raises NotFound."""
        ...

    async def orders(self, filters: Mapping[str, str], limit: int) -> list[Mapping[str, Any]]:
        """The newest work orders that match."""
        ...

    async def counters(self, owner: str) -> list[Mapping[str, Any]]:
        """All of one machine or component; of every one, if it is empty."""
        ...

    async def export(self, layout: str) -> str:
        """Every asset in use as a file."""
        ...


class OverHttp:
    """From the running plant."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def assets(self, kind: Kind, filters: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """See Reader."""
        found: list[Mapping[str, Any]] = []
        after = ""
        while True:
            page = self._client.get(f"/v1/assets/{kind}", **filters, cursor=after, limit=_PAGE)
            found += page["assets"]
            if page["next"] is None:
                return found
            after = page["next"]

    async def asset(self, kind: Kind, asset: str) -> Mapping[str, Any]:
        """See Reader."""
        found: Mapping[str, Any] = self._client.get(f"/v1/assets/{kind}/{asset}")
        return found

    async def orders(self, filters: Mapping[str, str], limit: int) -> list[Mapping[str, Any]]:
        """See Reader."""
        found: list[Mapping[str, Any]] = self._client.get("/v1/work-orders", **filters, limit=limit)[
            "work_orders"
        ]
        return found

    async def counters(self, owner: str) -> list[Mapping[str, Any]]:
        """See Reader."""
        found: list[Mapping[str, Any]] = []
        after = ""
        while True:
            page = self._client.get("/v1/counters", owner=owner, cursor=after, limit=_PAGE)
            found += page["counters"]
            if page["next"] is None:
                return found
            after = page["next"]

    async def export(self, layout: str) -> str:
        """See Reader."""
        return self._client.text("/v1/assets/export", format=layout)


class FromTables:
    """From a stopped plant's database, as far as it had come."""

    def __init__(self, tables: Any) -> None:  # noqa: ANN401 - a Projection, whose module loads SQLAlchemy
        self._tables = tables

    async def assets(self, kind: Kind, filters: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """See Reader."""
        from cloud.api.asset_answers import answer  # noqa: PLC0415 - a running plant's client needs none of it

        retired = filters.get("retired", "") == "true"
        named = {name: value for name, value in filters.items() if name != "retired"}
        found: list[Mapping[str, Any]] = []
        after = ("", "")
        while True:
            page = await self._tables.assets(Wanted(kind, **named, retired=retired), after, _PAGE)
            found += [answer(asset).model_dump(mode="json") for asset in page.items]
            if not page.more:
                return found
            after = page.items[-1].kind, page.items[-1].id

    async def asset(self, kind: Kind, asset: str) -> Mapping[str, Any]:
        """See Reader."""
        from cloud.api.asset_answers import answer  # noqa: PLC0415 - as above

        found = await self._tables.asset(kind, asset)
        if found is None:
            raise NotFound(f"there is no {kind} {asset[:90]!r}")
        return answer(found).model_dump(mode="json")

    async def orders(self, filters: Mapping[str, str], limit: int) -> list[Mapping[str, Any]]:
        """See Reader."""
        from cloud.api.work import order_answer  # noqa: PLC0415 - as above

        page = await self._tables.orders(WantedOrders(**filters), 0, limit)  # type: ignore[arg-type]
        return [order_answer(order).model_dump(mode="json") for order in page.items]

    async def counters(self, owner: str) -> list[Mapping[str, Any]]:
        """See Reader."""
        from cloud.api.work import counter_answer  # noqa: PLC0415 - as above

        found: list[Mapping[str, Any]] = []
        after = ""
        while True:
            page = await self._tables.counters(owner, after, _PAGE)
            found += [counter_answer(counter).model_dump(mode="json") for counter in page.items]
            if not page.more:
                return found
            after = page.items[-1].id

    async def export(self, layout: str) -> str:
        """See Reader."""
        state, _ = await self._tables.load()
        return write_csv(rows_of(state)) if layout == "csv" else write_yaml(rows_of(state))


@asynccontextmanager
async def reading(data: DataDir) -> AsyncIterator[Reader]:
    """A reader of the plant's assets. Raises NotFound (no plant), Unavailable, Misconfigured."""
    if data.running() is not None:
        with Client.of(data) as client:
            yield OverHttp(client)
        return
    data.plant()  # raises NotFound
    if not data.app_url.startswith("sqlite:") or not (data.root / "app.db").exists():
        raise Unavailable(f"no plant is running on {data.root}: start it with industrialmind up")
    from cloud.assets.sql import open_assets  # noqa: PLC0415 - loads SQLAlchemy
    from shared.sqlalchemy import open_database  # noqa: PLC0415 - the same

    with data.locked():
        async with open_database(data.app_url, setting="api.app_url") as database:
            yield FromTables(await open_assets(database))


def set_fields(client: Client, kind: Kind, asset: str, words: Sequence[str]) -> Any:  # noqa: ANN401 - JSON
    """Change an asset's fields, or make it with them. Raises Rejected, Unavailable."""
    fields = dict(_field(kind, word) for word in words)
    key, path = str(uuid.uuid4()), f"/v1/assets/{kind}"
    try:
        return client.patch(f"{path}/{asset}", {"fields": fields}, idempotency_key=key)
    except NotFound:
        return client.post(path, {"id": asset, "fields": fields}, idempotency_key=key)


def _field(kind: Kind, word: str) -> tuple[str, Any]:
    name, given, text = word.partition("=")
    if not given or name not in FIELDS[kind].model_fields:
        raise Rejected(
            f"{word[:60]!r}: write FIELD=VALUE; a {kind} has {', '.join(FIELDS[kind].model_fields)}"
        )
    if text == "null":
        return name, None
    if is_text(kind, name):
        return name, text
    try:
        return name, orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Rejected(f"{name}: {text[:60]!r} is no number (attributes are JSON)") from error


def layout_of(file: Path) -> str:
    """`yaml` or `csv`, by the file's ending. Raises Misconfigured."""
    match file.suffix.lower():
        case ".yaml" | ".yml":
            return "yaml"
        case ".csv":
            return "csv"
    raise Misconfigured(f"{file} is neither YAML nor CSV by its ending", hint="name it .yaml or .csv")


def import_file(client: Client, file: Path, *, dry_run: bool) -> Any:  # noqa: ANN401 - JSON
    """Send a file; what it changes. Raises Misconfigured (no such file), Rejected (its faults), Unavailable."""
    layout = layout_of(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{file} can't be read: {error.strerror}", hint="give a file's path") from error
    query: dict[str, str | bool] = {"format": layout, "dry_run": dry_run}
    return client.send_file(
        "/v1/assets/import", content, idempotency_key=str(uuid.uuid4()), seconds=_IMPORT_SECONDS, **query
    )
