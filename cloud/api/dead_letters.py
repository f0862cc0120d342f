"""Dead letters over HTTP: what was refused, why, and what became of it; sending one again, putting one aside."""

from typing import Annotated, Any, Final, Literal, Protocol

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, ConfigDict, Field

from cloud.api.examples import DEAD_LETTER, DEAD_LETTERS, LETTER_DONE, example
from cloud.api.positions import MinPosition, parse_position, reached
from cloud.api.times import moment
from shared.access import Principal, Right
from shared.asgi_access import needs
from shared.clock import Clock
from shared.eventlog import Position
from shared.problems import documented

MAX_LETTERS = 500

Via = Literal["mqtt", "log"]
IdempotencyKey = Annotated[str, Header(min_length=1, max_length=100, pattern=r"^[!-~]+$")]
Engineer = Annotated[Principal, Depends(needs(Right.ENGINEER))]
MAY_READ: Final[Any] = Depends(needs(Right.READ))


class Handled(BaseModel):
    """What somebody did about a letter; `note` is why it was dropped, or the topic that it was sent on."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["replayed", "dropped"]
    at_us: int
    by: str
    note: str


class LetterSummary(BaseModel):
    """A refused input. `source` refused it at `received_us`; `logged_us`: when the log took the letter."""

    model_config = ConfigDict(frozen=True)

    id: str
    reason: str
    topic: str
    source: str
    received_us: int
    logged_us: int
    size: int
    whole: bool = Field(description="whether all of the input was kept")
    handled: Handled | None = None


class ReplayWay(BaseModel):
    """How the input would be sent again; `refusal` says why it can't be."""

    model_config = ConfigDict(frozen=True)

    via: Via | None
    from_us: int = Field(description="from when on a second refusal shows as a letter of its own; 0: always")
    refusal: str


class LetterDetail(LetterSummary):
    """The same with the payload in base64 (its head, if not `whole`), and where the letter came from."""

    key: str
    origin: dict[str, str] = Field(description="the record's headers: the edge's rows that it stands for")
    position: dict[str, int] = Field(description="where in the log the input is, if it was in the log")
    sha256: str = Field(description="of the whole input, if it was not kept whole")
    payload: str
    replay: ReplayWay


class LetterList(BaseModel):
    """Letters, newest first. `next`: give it as `before` for older ones; null when there are none."""

    letters: tuple[LetterSummary, ...]
    next: str | None
    scanned: int = Field(description="letters that were looked at")


class Filter(BaseModel):
    """Which letters; empty fields ask for nothing."""

    model_config = ConfigDict(frozen=True)

    reason: str = ""
    topic: str = ""
    source: str = ""
    since_us: int = 0
    handled: bool = False


class ReplayRequest(BaseModel):
    """`again`: also if somebody saw to it before. `at_once`: also while a second refusal would not show."""

    model_config = ConfigDict(extra="forbid")

    again: bool = False
    at_once: bool = False


class DropRequest(BaseModel):
    """Why the letter needs nothing more."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(min_length=1, max_length=500)


class LetterAnswer(BaseModel):
    """What was done; `changed` is False where this request did it before. `position` in the topic `audit` shows it."""

    id: str
    handled: Handled
    position: dict[str, int]
    changed: bool


class Answers(Protocol):
    """Who answers about letters. All raise Unavailable; an id that is none is Rejected, one that is not there NotFound."""

    async def position(self) -> Position:
        """How far in the topic `audit` the answers count."""
        ...

    async def page(self, wanted: Filter, before: str, limit: int) -> LetterList:
        """Letters, newest first."""
        ...

    async def show(self, letter: str) -> LetterDetail:
        """One letter."""
        ...

    async def replay(self, letter: str, *, by: str, request: str, again: bool, at_once: bool) -> LetterAnswer:
        """Send it again. Raises Rejected (it can't be), Conflict (seen to, or too young)."""
        ...

    async def drop(self, letter: str, why: str, *, by: str, request: str) -> LetterAnswer:
        """Put it aside. Raises Conflict (seen to)."""
        ...


def dead_letters_router(answers: Answers, clock: Clock) -> APIRouter:
    """The endpoints."""
    router = APIRouter()

    @router.get(
        "/v1/dead-letters", responses=example(DEAD_LETTERS) | documented(202), dependencies=[MAY_READ]
    )
    async def list_letters(
        reason: Annotated[str, Query(max_length=200, description="text in the reason")] = "",
        topic: Annotated[
            str, Query(max_length=200, description="MQTT filter of the topic, or a log topic")
        ] = "",
        source: Annotated[str, Query(max_length=40, description="the edge, gateway or service")] = "",
        since: Annotated[str, Query(description="those that the log took since")] = "",
        before: Annotated[
            str, Query(max_length=2000, description="go on from an earlier answer's next")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_LETTERS)] = 50,
        all: Annotated[bool, Query(description="those that somebody saw to, too")] = False,  # noqa: A002, FBT002
        min_position: MinPosition = "",
    ) -> LetterList:
        """Open dead letters, newest first. A filter that finds little answers early, with `next` to go on from."""
        await reached(parse_position(min_position), answers.position, clock)
        since_us = moment(since, clock.now_us(), "since") if since else 0
        wanted = Filter(reason=reason, topic=topic, source=source, since_us=since_us, handled=all)
        return await answers.page(wanted, before, limit)

    @router.get(
        "/v1/dead-letters/{letter}", responses=example(DEAD_LETTER) | documented(202), dependencies=[MAY_READ]
    )
    async def one_letter(letter: str, min_position: MinPosition = "") -> LetterDetail:
        """One letter with its payload, and whether it can be sent again."""
        await reached(parse_position(min_position), answers.position, clock)
        return await answers.show(letter)

    @router.post("/v1/dead-letters/{letter}/replay", responses=example(LETTER_DONE) | documented(409))
    async def replay_letter(
        letter: str, wanted: ReplayRequest, idempotency_key: IdempotencyKey, by: Engineer
    ) -> LetterAnswer:
        """Send the input once more where it came from. The engineer's. Refused again, it is a new letter."""
        return await answers.replay(
            letter, by=by.name, request=idempotency_key, again=wanted.again, at_once=wanted.at_once
        )

    @router.post("/v1/dead-letters/{letter}/drop", responses=example(LETTER_DONE) | documented(409))
    async def drop_letter(
        letter: str, wanted: DropRequest, idempotency_key: IdempotencyKey, by: Engineer
    ) -> LetterAnswer:
        """Mark a letter as seen to; nothing is deleted. The engineer's."""
        return await answers.drop(letter, wanted.why, by=by.name, request=idempotency_key)

    return router
