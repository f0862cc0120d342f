"""Dead letters over HTTP: what is asked, who may ask it, and what the answers are."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cloud.api import positions
from cloud.api.access import CLI as ADMIN
from cloud.api.access import UI, fixed_tokens
from cloud.api.dead_letters import (
    Filter,
    Handled,
    LetterAnswer,
    LetterDetail,
    LetterList,
    LetterSummary,
    ReplayWay,
    dead_letters_router,
)
from cloud.api.examples import DEAD_LETTER, DEAD_LETTERS, LETTER_DONE
from shared.asgi_access import Access
from shared.clock import ManualClock
from shared.errors import Conflict, NotFound
from shared.problems import add_errors

SUMMARY: dict[str, Any] = {
    "id": "0-7",
    "reason": "no",
    "topic": "t",
    "source": "e",
    "received_us": 10**30,
    "logged_us": 2,
    "size": 2,
    "whole": True,
}
CLI = "secret"
DONE = Handled(outcome="dropped", at_us=5, by="cli", note="why")


class Asked:
    """Answers, and what they were asked."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def position(self) -> dict[str, int]:
        return {"0": 17}

    async def page(self, wanted: Filter, before: str, limit: int) -> LetterList:
        self.calls.append((wanted, before, limit))
        return LetterList(letters=(LetterSummary(**SUMMARY, handled=DONE),), next="0-7", scanned=1)

    async def show(self, letter: str) -> LetterDetail:
        if letter != "0-7":
            raise NotFound(f"no dead letter {letter}")
        way = ReplayWay(via="mqtt", from_us=0, refusal="")
        return LetterDetail(**SUMMARY, key="k", origin={}, position={}, sha256="", payload="e30=", replay=way)

    async def replay(self, letter: str, *, by: str, request: str, again: bool, at_once: bool) -> LetterAnswer:
        self.calls.append((letter, by, request, again, at_once))
        if letter == "0-8":
            raise Conflict("letter 0-8 was dropped by cli already")
        return LetterAnswer(id=letter, handled=DONE, position={"0": 1}, changed=True)

    async def drop(self, letter: str, why: str, *, by: str, request: str) -> LetterAnswer:
        self.calls.append((letter, why, by, request))
        return LetterAnswer(id=letter, handled=DONE, position={"0": 1}, changed=False)


class Api:
    def __init__(self) -> None:
        self.asked = Asked()
        app = FastAPI()
        app.add_middleware(Access, verify=fixed_tokens({ADMIN: CLI, UI: "room"}), allowed_hosts=("x",))
        add_errors(app)
        app.include_router(dead_letters_router(self.asked, ManualClock(100_000_000)))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")

    async def get(self, path: str, token: str = CLI, **query: Any) -> httpx.Response:  # noqa: ANN401 - JSON
        headers = {"Authorization": f"Bearer {token}"}
        return await self.http.get(f"/v1/dead-letters{path}", params=query, headers=headers)

    async def post(
        self, path: str, body: dict[str, Any], token: str = CLI, key: str | None = "k"
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} | ({} if key is None else {"Idempotency-Key": key})
        return await self.http.post(f"/v1/dead-letters{path}", json=body, headers=headers)


@pytest.fixture
def opened() -> Api:
    return Api()


async def test_a_list_is_asked_by_filters(opened: Api) -> None:
    found = (await opened.get("")).json()
    assert (found["next"], found["letters"][0]["handled"]["outcome"]) == ("0-7", "dropped")
    assert found["letters"][0]["received_us"] == 10**30
    await opened.get(
        "",
        "room",
        reason="unit",
        topic="plant/#",
        source="e",
        since="-10s",
        before="0-9",
        limit=3,
        all="true",
    )
    assert opened.asked.calls == [
        (Filter(), "", 50),
        (
            Filter(reason="unit", topic="plant/#", source="e", since_us=90_000_000, handled=True),
            "0-9",
            3,
        ),
    ]
    for query in ({"limit": 0}, {"limit": 501}, {"since": "soon"}, {"all": "perhaps"}):
        refused = await opened.get("", **query)
        assert refused.status_code == 422
        assert refused.headers["content-type"] == "application/problem+json"


async def test_a_decision_s_position_can_be_waited_for(opened: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "WAIT_SECONDS", 0.0)
    for path in ("", "/0-7"):
        assert (await opened.get(path, min_position="0-17")).status_code == 200
        assert (await opened.get(path, min_position="x")).status_code == 422
        late = await opened.get(path, min_position="0-18")
        assert (late.status_code, late.headers["retry-after"]) == (202, "1")


async def test_one_letter_or_none(opened: Api) -> None:
    assert (await opened.get("/0-7", "room")).json()["payload"] == "e30="
    missing = await opened.get("/0-9")
    assert (missing.status_code, missing.json()["title"]) == (404, "no dead letter 0-9")


async def test_changes_are_the_engineers_and_say_who_asked(opened: Api) -> None:
    for path, body in (("/0-7/replay", {}), ("/0-7/drop", {"why": "w"})):
        refused = await opened.post(path, body, token="room")
        assert (refused.status_code, refused.json()["status"]) == (403, 403)
        assert (await opened.post(path, body, token="nobody")).status_code == 401
        assert (await opened.post(path, body)).status_code == 200
    assert opened.asked.calls == [("0-7", "cli", "k", False, False), ("0-7", "w", "cli", "k")]
    taken = await opened.post("/0-8/replay", {"again": True, "at_once": True})
    assert (taken.status_code, opened.asked.calls[-1][3:]) == (409, (True, True))


async def test_changes_need_a_key_and_a_reason(opened: Api) -> None:
    for key in (None, "", "x" * 101, "a b"):
        assert (await opened.post("/0-7/replay", {}, key=key)).status_code == 422
    for body in ({}, {"why": ""}, {"why": "w" * 501}, {"why": "w", "more": 1}):
        assert (await opened.post("/0-7/drop", body)).status_code == 422
    assert opened.asked.calls == []


def test_the_examples_are_answers() -> None:
    LetterList.model_validate(DEAD_LETTERS)
    LetterDetail.model_validate(DEAD_LETTER)
    LetterAnswer.model_validate(LETTER_DONE)
