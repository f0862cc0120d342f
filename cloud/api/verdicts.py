"""Verdicts over HTTP: what people say a machine's time was, and quiet windows for them to look at."""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from cloud.api.assets import Maintainer, Reader
from cloud.api.changes import IdempotencyKey
from cloud.api.examples import example
from cloud.labels.port import Asked, Verdict, Verdicts
from shared.clock import Clock
from shared.event import at
from shared.names import ID_PATTERN
from shared.problems import documented
from shared.verdict_events import VerdictKind

MAX_LISTED: Final = 1000
_VERDICT: Final = {
    "id": "vd-0123456789abcdef",
    "machine": "pump-01",
    "begins": "2026-01-01T08:00:00Z",
    "ends": "2026-01-01T09:30:00Z",
    "kind": "fault",
    "code": "VIB",
    "confidence": 0.9,
    "by": "ada",
    "note": "bearing at the drive end",
    "as_of": "2026-01-02T07:00:00Z",
    "supersedes": "",
    "superseded_by": "",
}
_QUIET: Final = {
    "week": "2026-W01",
    "windows": [{"machine": "pump-01", "begins": "2026-01-01T08:00:00Z", "ends": "2026-01-01T08:10:00Z"}],
}


class VerdictRequest(BaseModel):
    """What a machine's time [begins, ends) was. `code`: a failure mode of ISO 14224. `supersedes`: an earlier verdict's id."""

    model_config = ConfigDict(extra="forbid")

    machine: str = Field(pattern=rf"^{ID_PATTERN}$")
    begins: AwareDatetime
    ends: AwareDatetime
    kind: VerdictKind
    code: str = Field("", pattern=r"^([A-Z0-9.]{2,12})?$")
    confidence: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)
    note: str = Field("", max_length=1000)
    supersedes: str = Field("", max_length=40)


class VerdictAnswer(BaseModel):
    """A verdict. `as_of`: since when it is known; `superseded_by`: the id of the one that took its place by then."""

    id: str
    machine: str
    begins: datetime
    ends: datetime
    kind: VerdictKind
    code: str
    confidence: float
    by: str
    note: str
    as_of: datetime
    supersedes: str
    superseded_by: str


class VerdictDone(BaseModel):
    """What a request came to. `position` in the topic `verdicts` shows it; `changed`: its key did not do it before."""

    verdict: VerdictAnswer
    position: dict[str, int]
    changed: bool


class VerdictList(BaseModel):
    """Verdicts, newest first, as `position` of the topic `verdicts` shows them."""

    verdicts: list[VerdictAnswer]
    position: dict[str, int]


class QuietWindow(BaseModel):
    """A stretch of a machine's time in which nothing alarmed."""

    machine: str
    begins: datetime
    ends: datetime


class Review(BaseModel):
    """What is offered for review in an ISO week."""

    week: str
    windows: list[QuietWindow]


def verdicts_router(verdicts: Verdicts, clock: Clock) -> APIRouter:
    """The endpoints."""
    router = APIRouter()

    @router.post(
        "/v1/verdicts",
        status_code=201,
        responses=example({"verdict": _VERDICT, "position": {"0": 7}, "changed": True}, 201)
        | documented(409),
    )
    async def give(wanted: VerdictRequest, idempotency_key: IdempotencyKey, who: Maintainer) -> VerdictDone:
        """Say what a machine's time was."""
        asked = Asked(
            wanted.machine,
            wanted.begins.astimezone(UTC),
            wanted.ends.astimezone(UTC),
            wanted.kind,
            wanted.code,
            wanted.confidence,
            wanted.note,
            wanted.supersedes,
            who.name,
            idempotency_key,
        )
        given = await verdicts.give(asked)
        return VerdictDone(
            verdict=_answer(given.verdict), position=dict(given.position), changed=given.changed
        )

    @router.get("/v1/verdicts", responses=example({"verdicts": [_VERDICT], "position": {"0": 7}}))
    async def list_verdicts(
        _: Reader,
        machine: Annotated[str, Query(max_length=40)] = "",
        as_of: Annotated[
            AwareDatetime | None, Query(description="what was known then; now if not given")
        ] = None,
        superseded: Annotated[bool, Query(description="with those that others took the place of")] = False,  # noqa: FBT002
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
    ) -> VerdictList:
        """Verdicts that hold as of a time, of one machine or of all, newest first."""
        found, position = await verdicts.newest(machine, as_of, limit, all_of_them=superseded)
        return VerdictList(verdicts=[_answer(one) for one in found], position=dict(position))

    @router.get("/v1/verdicts/review", responses=example(_QUIET))
    async def review(
        _: Reader,
        week: Annotated[str, Query(max_length=10, description="as 2026-W48; this one if not given")] = "",
    ) -> Review:
        """Twenty windows of an ISO week in which nothing alarmed, the same ones for all who ask."""
        chosen = week or _week(at(clock.now_us()))
        windows = [
            QuietWindow(machine=one.machine, begins=at(one.from_us), ends=at(one.to_us))
            for one in await verdicts.review(chosen)
        ]
        return Review(week=chosen, windows=windows)

    return router


def _week(moment: datetime) -> str:
    year, number, _ = moment.isocalendar()
    return f"{year}-W{number:02}"


def _answer(verdict: Verdict) -> VerdictAnswer:
    return VerdictAnswer(**{name: getattr(verdict, name) for name in VerdictAnswer.model_fields})
