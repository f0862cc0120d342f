"""Assets over HTTP: what the plant consists of, as it was seen and as people say."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from cloud.api.asset_answers import AssetAnswer, AssetDone, AssetPage, AssetTree, answer, nested
from cloud.api.asset_examples import ASSET, ASSET_DONE, ASSETS_PAGE, CREATION, TREE
from cloud.api.changes import IdempotencyKey, IfMatch, etag, revision_of
from cloud.api.cursors import MAX_CURSOR, cursor, place
from cloud.api.examples import example
from cloud.api.positions import MinPosition, parse_position, reached
from cloud.assets.model import Asset, Kind
from cloud.assets.port import AssetCommands, AssetReader, By, Done, Wanted
from shared import names
from shared.access import Principal, Right
from shared.asgi_access import needs
from shared.clock import Clock
from shared.errors import NotFound
from shared.eventlog import Position
from shared.problems import documented

MAX_PAGE: Final = 1000
MAX_TREE: Final = 5000
_CURSOR: Final = "assets"
PLACES: Final = frozenset({Kind.SITE, Kind.AREA, Kind.EDGE})
"""What an engineer alone may change."""

AssetId = Annotated[str, Field(min_length=1, max_length=90)]
Reader = Annotated[Principal, Depends(needs(Right.READ))]
Maintainer = Annotated[Principal, Depends(needs(Right.MAINTAIN))]


async def editor(kind: Kind, connection: HTTPConnection) -> Principal:
    """Who asks, if they may change assets of this kind. Raises HTTPException (403)."""
    return needs(Right.ENGINEER if kind in PLACES else Right.MAINTAIN).allowed(connection)


Editor = Annotated[Principal, Depends(editor)]


class Creation(BaseModel):
    """A new asset; a component's or sensor's id is MACHINE.NAME."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=90)
    fields: dict[str, Any] = Field(default_factory=dict)


class Change(BaseModel):
    """Fields with new values; null lets what was observed hold again."""

    model_config = ConfigDict(extra="forbid")

    fields: dict[str, Any]


class Retirement(BaseModel):
    """Why it goes out of use."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(min_length=1, max_length=500)


def assets_router(reader: AssetReader, clock: Clock) -> APIRouter:
    """The endpoints that read."""
    router = APIRouter()

    async def caught_up(min_position: str) -> None:
        await reached(parse_position(min_position), position, clock)

    async def position() -> Position:
        return (await reader.positions()).get(names.ASSETS, {})

    @router.get("/v1/assets", responses=example(TREE) | documented(202))
    async def tree(_: Reader, min_position: MinPosition = "") -> AssetTree:
        """All assets in use, each in what it belongs to."""
        await caught_up(min_position)
        found = await reader.assets(Wanted(), ("", ""), MAX_TREE)
        return AssetTree(assets=nested(found.items), truncated=found.more, position=dict(found.position))

    @router.get("/v1/assets/{kind}", responses=example(ASSETS_PAGE) | documented(202))
    async def list_assets(
        kind: Kind,
        _: Reader,
        machine: Annotated[str, Query(max_length=40)] = "",
        site: Annotated[str, Query(max_length=40)] = "",
        area: Annotated[str, Query(max_length=40)] = "",
        edge: Annotated[str, Query(max_length=40)] = "",
        text: Annotated[str, Query(max_length=100, description="a part of id or name, in any case")] = "",
        retired: Annotated[bool, Query(description="those too that are out of use")] = False,  # noqa: FBT002
        after: Annotated[str, Query(alias="cursor", max_length=MAX_CURSOR)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        min_position: MinPosition = "",
    ) -> AssetPage:
        """Assets of a kind, by id."""
        await caught_up(min_position)
        wanted = Wanted(kind, machine, site, area, edge, text, retired)
        last = place(after, _CURSOR, (str, str)) if after else ["", ""]
        found = await reader.assets(wanted, (last[0], last[1]), limit)
        end = found.items[-1] if found.more else None
        return AssetPage(
            assets=[answer(asset) for asset in found.items],
            next=None if end is None else cursor(_CURSOR, end.kind, end.id),
            position=dict(found.position),
        )

    @router.get("/v1/assets/{kind}/{asset}", responses=example(ASSET) | documented(202))
    async def one_asset(
        kind: Kind, asset: AssetId, _: Reader, response: Response, min_position: MinPosition = ""
    ) -> AssetAnswer:
        """One, in use or not."""
        await caught_up(min_position)
        found = await reader.asset(kind, asset)
        if found is None:
            raise NotFound(f"there is no {kind} {asset[:90]!r}")
        response.headers["ETag"] = etag(found.revision)
        return answer(found)

    return router


def asset_changes_router(commands: AssetCommands) -> APIRouter:
    """The endpoints that change one asset."""
    router = APIRouter(
        dependencies=[Depends(needs(Right.MAINTAIN))],  # places need more: `editor`
        responses=documented(202, 409, 412),
    )

    @router.post("/v1/assets/{kind}", status_code=201, responses=example(ASSET_DONE, 201))
    async def create(
        kind: Kind,
        wanted: Annotated[Creation, CREATION],
        idempotency_key: IdempotencyKey,
        who: Editor,
        response: Response,
    ) -> AssetDone:
        """An asset that was not seen by itself. 409 if there is one."""
        done = await commands.create(kind, wanted.id, wanted.fields, By(who.name, idempotency_key))
        return _done(done, response)

    @router.patch("/v1/assets/{kind}/{asset}", responses=example(ASSET_DONE))
    async def change(
        kind: Kind,
        asset: AssetId,
        wanted: Change,
        idempotency_key: IdempotencyKey,
        who: Editor,
        response: Response,
        if_match: IfMatch = "",
    ) -> Any:  # noqa: ANN401 - AssetDone, or 412
        """Change fields. What a person said stands above what is observed later."""
        by = By(who.name, idempotency_key, revision_of(if_match))
        return _done(await commands.change(kind, asset, wanted.fields, by), response)

    @router.post("/v1/assets/{kind}/{asset}/retire", responses=example(ASSET_DONE))
    async def retire(
        kind: Kind,
        asset: AssetId,
        wanted: Retirement,
        idempotency_key: IdempotencyKey,
        who: Editor,
        response: Response,
        if_match: IfMatch = "",
    ) -> AssetDone:
        """Take it out of use, a machine with its parts; its history stays. 409 while others refer to it."""
        by = By(who.name, idempotency_key, revision_of(if_match))
        return _done(await commands.retire(kind, asset, wanted.why, by), response)

    @router.post("/v1/assets/{kind}/{asset}/restore", responses=example(ASSET_DONE))
    async def restore(
        kind: Kind,
        asset: AssetId,
        idempotency_key: IdempotencyKey,
        who: Editor,
        response: Response,
        if_match: IfMatch = "",
    ) -> AssetDone:
        """Put it in use again."""
        by = By(who.name, idempotency_key, revision_of(if_match))
        return _done(await commands.restore(kind, asset, by), response)

    return router


def _done(done: Done[Asset], response: Response) -> AssetDone:
    response.headers["ETag"] = etag(done.thing.revision)
    return AssetDone(asset=answer(done.thing), position=dict(done.position), changed=done.changed)
