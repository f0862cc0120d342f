"""Remaining life in the control room: what is said of it on tile and page, and who is asked for it when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, HTTPException, Request

from cloud.ui.client import ApiClient, InferenceClient
from cloud.ui.life_reader import POLL_SECONDS, LifeReader
from cloud.ui.lives import Life, Lives
from cloud.ui.pages import fleet, life_card
from cloud.ui.pages.fleet_table import build_table
from cloud.ui.plant import PlantView
from cloud.ui.text import lasting
from cloud.ui.view import tiles
from shared.clock import ManualClock
from shared.events import at
from shared.supervise import free_ports
from tests.unit.test_ui_view import NOW, said, status

HOURS: dict[str, Any] = {
    "median": 412.3,
    "interval_80": [340.0, 470.0],
    "interval_90": [301.0, 520.0],
    "interval_95": [250.0, 700.0],
}
DAYS: dict[str, Any] = {
    name: [v / 12 for v in value] if isinstance(value, list) else value / 12 for name, value in HOURS.items()
}
VERSION = "cd" * 32


def life(machine: str = "pump-1", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - an answer's fields
    return {
        "machine": machine,
        "model": {
            "name": f"{machine}/life-trees",
            "version": 2,
            "version_hash": VERSION,
            "provisional": True,
            "units": 12,
        },
        "outcome": "told",
        "run_hours": HOURS,
        "calendar_days": DAYS,
        "duty": 0.5,
        "failure_criterion": "flow below 60 %",
        "load_assumption": "two loads",
        "age_hours": 1204.0,
        "since_us": NOW - 10**12,
        "renewed_by": "work-order",
        "at_us": NOW,
        "change": {
            "ran_hours": 12.0,
            "moved_hours": -40.0,
            "bounded": False,
            "because": [{"sensor": "heat", "hours": -26.0}],
        },
        **more,
    }


def told(*answers: dict[str, Any]) -> Lives:
    lives = Lives()
    lives.take_tellers([{"machine": one["machine"], "version_hash": VERSION} for one in answers])
    for one in answers:
        lives.take(one["machine"], one)
    return lives


def page(lives: Lives, machine: str = "pump-1") -> str:
    return said(life_card.build(life_card.card(lives, machine)))


# What is said


def test_a_life_is_told_with_intervals_criterion_and_load() -> None:
    shown = page(told(life()))
    for part in (
        "412",
        "Nine of ten like it have 301 to 520 left, 25 to 43 days at this duty",
        "flow below 60 %",
        "two loads",
        "50% of the time",
        "12 units that failed",
        "provisional",
        "its last repair",
        "250 to 700",
        "heat \u221226 h",
        "outside the 80 % interval",
    ):
        assert part in shown
    assert '"left":"58.9%"' in shown  # the median's mark, on a scale that ends at 700


def test_more_than_is_not_told_as_a_median() -> None:
    shown = page(told(life(outcome="more-than", more_than_hours=301.0)))
    assert '"more than ","301"' in shown
    assert "No wear shows yet" in shown
    assert "run-hours left, median" not in shown


def test_without_evidence_the_reason_stands_where_the_figure_would() -> None:
    strange = life(
        outcome="not-enough-evidence",
        reason="its sensors are unlike those of every unit that failed",
        unusual=["heat", "flow"],
    )
    shown = page(told(strange))
    assert "Not enough evidence" in shown
    assert "Its sensors are unlike those of every unit that failed: heat, flow." in shown
    assert "don't plan by that" in shown
    assert "life-bar" not in shown


def test_a_machine_without_a_life_model_says_how_to_get_one() -> None:
    lives = told(life())
    assert "industrialmind life train" in page(lives, "fan-1")
    assert "--machine fan-1" in page(lives, "fan-1")
    assert "Asking" in page(Lives())
    lives.take_tellers([{"machine": "fan-1", "version_hash": VERSION}])
    assert "Asking" in page(lives, "fan-1")
    lives.refuse("fan-1", "the store has no whole row")
    assert "It has a life model, but: the store has no whole row." in page(lives, "fan-1")


def test_while_the_inference_api_is_away_the_last_word_stays_and_says_so() -> None:
    lives = told(life())
    lives.away(NOW)
    assert "has been away since" in page(lives)
    assert "What follows is its last word" in page(lives)
    assert "412" in page(lives)
    never = Lives()
    never.away(NOW)
    assert "Not known now" in page(never)
    lives.heard()
    assert "away" not in page(lives)


def test_another_version_makes_the_old_answer_void() -> None:
    lives = told(life())
    lives.take_tellers([{"machine": "pump-1", "version_hash": "ee" * 32}])
    assert lives.of("pump-1") is None


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (life(), "at least 301 h · 25 d"),
        (life(outcome="more-than", more_than_hours=301.0), "more than 301 h · 25 d"),
        (life(outcome="not-enough-evidence", reason="strange"), "not enough evidence"),
    ],
)
def test_a_tile_and_a_row_show_the_lower_end(answer: dict[str, Any], line: str) -> None:
    plant = PlantView(trend_hours=24, trend_points=120, stale_after_seconds=10)
    plant.apply({"type": "snapshot", "machines": [status("pump-1"), status("fan-1")]}, NOW)
    plant.lives = told(answer)
    tile = {each.machine: each for each in tiles(plant, NOW)}
    assert line in said(fleet.tile_body(tile["pump-1"]))
    assert "tile-life" not in said(fleet.tile_body(tile["fan-1"]))
    assert line in said(build_table(list(tile.values())))
    plant.lives.away(NOW)
    (again,) = (each for each in tiles(plant, NOW) if each.machine == "pump-1")
    assert f"{line}, old" in said(fleet.tile_body(again))


@pytest.mark.parametrize(
    ("value", "shown"), [(0.04, "0.0"), (9.94, "9.9"), (41.6, "42"), (12345.0, "12\u202f345")]
)
def test_what_is_left_has_no_digits_that_nobody_knows(value: float, shown: str) -> None:
    assert lasting(value) == shown


# Who is asked, and when


class Apis:
    """The two APIs as far as lives need them, on one real server."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.away: set[str] = set()
        self.tokens = 0
        self.asked: list[str] = []
        self.version = VERSION
        self.lives: dict[str, dict[str, Any]] = {"pump-1": life()}
        self.app = FastAPI()
        self.app.add_api_route("/v1/access-tokens", self.token, methods=["POST"], status_code=201)
        self.app.add_api_route("/v1/life", self.tellers)
        self.app.add_api_route("/v1/machines/{machine}/life", self.life)

    async def token(self, request: Request) -> dict[str, Any]:
        assert request.headers["Authorization"] == "Bearer room"
        assert await request.json() == {"audience": "inference-api", "scopes": ["read"]}
        self.tokens += 1
        ends = at(self.clock.now_us() + 600_000_000).isoformat()
        return {"access_token": f"signed-{self.tokens}", "expires_at": ends}

    async def tellers(self, request: Request) -> dict[str, Any]:
        self._let_in(request, "")
        rows = [{"machine": name, "version_hash": self.version} for name in self.lives]
        return {"machines": rows}

    async def life(self, machine: str, request: Request) -> dict[str, Any]:
        self._let_in(request, machine)
        found = self.lives[machine]
        return found | {"model": found["model"] | {"version_hash": self.version}}

    def _let_in(self, request: Request, what: str) -> None:
        self.asked.append(what)
        if what in self.away:
            raise HTTPException(503)
        if request.headers["Authorization"] != f"Bearer signed-{self.tokens}":
            raise HTTPException(401)


@asynccontextmanager
async def reading(clock: ManualClock) -> AsyncIterator[tuple[Apis, Lives, LifeReader]]:
    """A reader of lives at two real APIs."""
    (port,) = free_ports(1)
    apis, lives, url = Apis(clock), Lives(), f"http://127.0.0.1:{port}"
    server = uvicorn.Server(uvicorn.Config(apis.app, port=port, log_config=None))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0)
        async with (
            ApiClient(url, "room", connect_seconds=5, request_seconds=5) as api,
            InferenceClient(url, api, clock, connect_seconds=5, request_seconds=5) as inference,
        ):
            yield apis, lives, LifeReader(lives, inference, clock, refresh_seconds=300, wake=lambda: None)
    finally:
        server.should_exit = True
        await serving


async def test_lives_are_asked_for_with_a_token_that_is_made_anew_before_it_ends() -> None:
    clock = ManualClock(NOW)
    async with reading(clock) as (apis, lives, reader):
        assert await reader.read()
        assert await reader.read()
        assert apis.tokens == 1
        assert isinstance(lives.of("pump-1"), Life)
        await clock.advance(500)
        assert await reader.read()
        assert apis.tokens == 2
        apis.tokens = 7  # the keys were rotated: what was signed is good no more
        assert not await reader.read()
        assert lives.away_us is not None
        assert await reader.read()
        lives_now = lives.away_us
        assert lives_now is None


async def test_one_machine_without_an_answer_keeps_nobody_else_waiting() -> None:
    clock = ManualClock(NOW)
    async with reading(clock) as (apis, lives, reader):
        apis.lives = {name: life(name) for name in ("a", "b", "c", "d", "e")}
        apis.away = {"b"}
        assert await reader.read()
        assert "503" in str(lives.of("b"))
        assert isinstance(lives.of("e"), Life)
        apis.asked = []
        assert await reader.read()
        assert apis.asked == ["", "b"]
        await clock.advance(300)
        apis.away, apis.asked = {"a", "b", "c"}, []
        assert not await reader.read()
        assert apis.asked == ["", "a", "b", "c"]
        assert lives.away_us == clock.now_us()
        assert isinstance(lives.of("a"), Life)


async def test_a_life_is_read_anew_in_time_and_at_once_by_another_model() -> None:
    clock = ManualClock(NOW)
    async with reading(clock) as (apis, lives, reader):
        running = asyncio.create_task(reader.run())
        while lives.of("pump-1") is None:
            await asyncio.sleep(0)
        apis.version = "ef" * 32
        while lives.tellers != {"pump-1": apis.version} or lives.of("pump-1") is None:
            await clock.advance(POLL_SECONDS)
        assert apis.asked.count("pump-1") == 2
        begun = clock.monotonic()
        while apis.asked.count("pump-1") == 2:
            await clock.advance(POLL_SECONDS)
        assert clock.monotonic() - begun >= 290
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
