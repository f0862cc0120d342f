"""Assets as files over HTTP: out, edited anywhere, and in again."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from cloud.api.asset_examples import FILE, IMPORTED
from cloud.api.assets import PLACES, Maintainer, Reader
from cloud.api.changes import IdempotencyKey
from cloud.api.examples import example
from cloud.assets.model import Kind
from cloud.assets.port import AssetCommands, By, Difference, Imported
from shared.access import Principal, Right
from shared.problems import documented, problem

_MEDIA: Final = {"yaml": "application/yaml", "csv": "text/csv; charset=utf-8"}
_TOLD_FAULTS: Final = 10

Layout = Literal["yaml", "csv"]


class FileDifference(BaseModel):
    """What a line of a file makes of an asset: each field's value before and after."""

    line: int
    kind: Kind
    id: str
    action: str
    fields: dict[str, tuple[Any, Any]]


class FileAnswer(BaseModel):
    """An import, done or (dry run) only compared."""

    differences: list[FileDifference]
    applied: bool
    position: dict[str, int]


def asset_files_router(commands: AssetCommands) -> APIRouter:
    """The endpoints."""
    router = APIRouter(responses=documented(409))

    @router.get("/v1/assets/export", response_class=Response, responses=FILE)
    async def export(_: Reader, layout: Annotated[Layout, Query(alias="format")] = "yaml") -> Response:
        """Every asset in use as a file that can be edited and imported."""
        text, _position = await commands.export(layout)
        headers = {"Content-Disposition": f'attachment; filename="assets.{layout}"'}
        return Response(text, media_type=_MEDIA[layout], headers=headers)

    @router.post(
        "/v1/assets/import",
        responses=example(IMPORTED),
        openapi_extra={
            "requestBody": {"content": {"application/yaml": {}, "text/csv": {}}, "required": True}
        },
    )
    async def load(
        request: Request,
        who: Maintainer,
        idempotency_key: IdempotencyKey,
        layout: Annotated[Layout, Query(alias="format")] = "yaml",
        dry_run: Annotated[bool, Query(description="compare only")] = False,  # noqa: FBT002 - a query's default
    ) -> Any:  # noqa: ANN401 - FileAnswer, or a problem with all faults
        """Bring assets to what a file says. A file with a fault changes nothing; nothing is retired by being left out."""
        text, by = await request.body(), By(who.name, idempotency_key)
        made = await commands.load_file(text, layout, by, dry_run=True)
        if not made.faults:
            _check_places(made.differences, who)
            if not dry_run:
                made = await commands.load_file(text, layout, by, dry_run=False)
        return _faulty(made) if made.faults else file_answer(made, applied=not dry_run)

    return router


def _check_places(differences: Sequence[Difference], who: Principal) -> None:
    changed = [one for one in differences if one.kind in PLACES]
    if changed and not who.may(Right.ENGINEER):
        raise HTTPException(
            403, f"line {changed[0].line}: a {changed[0].kind} is an engineer's to change, not {who.name}'s"
        )


def file_answer(made: Imported, *, applied: bool) -> FileAnswer:
    """An import in the API's words."""
    differences = [
        FileDifference(
            line=one.line, kind=one.kind, id=one.id, action=one.action,
            fields={name: tuple(pair) for name, pair in one.fields.items()},
        )
        for one in made.differences
    ]  # fmt: skip
    return FileAnswer(differences=differences, applied=applied, position=dict(made.position))


def _faulty(made: Imported) -> Response:
    told = [f"line {fault.line}: {fault.reason}" for fault in made.faults[:_TOLD_FAULTS]]
    more = len(made.faults) - len(told)
    return problem(422, "\n".join(told) + (f"\nand {more} more" if more else ""))
