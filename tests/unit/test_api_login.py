"""Login links over HTTP: who may make and who may redeem them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud.people.logic import ATTEMPTS
from cloud.people.port import open_login_links
from cloud.telemetry.port import open_store
from shared.clock import ManualClock
from shared.nats import open_control
from tests.servers import NatsServer
from tests.unit.api_parts import Api

CLI = {"Authorization": "Bearer secret"}
ROOM = {"Authorization": "Bearer room"}


class Asking:
    """The application, its clock, and who asks."""

    def __init__(self, api: Api, clock: ManualClock) -> None:
        self.http, self.clock = api.http, clock

    async def make(self, headers: dict[str, str] = CLI) -> httpx.Response:
        return await self.http.post("/v1/login-links", headers=headers)

    async def redeem(self, code: Any, headers: dict[str, str] = ROOM) -> httpx.Response:  # noqa: ANN401 - JSON
        return await self.http.post("/v1/login-links/redeem", headers=headers, json={"code": code})


@pytest.fixture
async def asking(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Asking]:
    clock = ManualClock()
    async with (
        open_store(f"sqlite:///{tmp_path}/t.db") as store,
        open_control(nats_server.url, credentials=nats_server.credentials) as control,
        open_login_links(f"sqlite:///{tmp_path}/app.db", clock) as links,
    ):
        api = Api(store, control, clock=clock, links=links)
        async with api.http:
            yield Asking(api, clock)


async def test_a_link_logs_in_once(asking: Asking) -> None:
    made = await asking.make()
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    assert made.json()["expires_at"].endswith("Z")
    code = made.json()["code"]
    once = await asking.redeem(code)
    assert (once.status_code, once.json()) == (200, {"principal": "admin", "role": "admin"})
    again = await asking.redeem(code)
    assert again.status_code == 410
    assert "industrialmind login-link" in again.json()["title"]
    assert again.json()["title"] == (await asking.redeem("unknown")).json()["title"]


async def test_each_principal_has_its_own_right(asking: Asking) -> None:
    assert (await asking.make(ROOM)).status_code == 403
    code = (await asking.make()).json()["code"]
    assert (await asking.redeem(code, CLI)).status_code == 403
    assert (await asking.redeem(code, {"Authorization": "Bearer no"})).status_code == 401
    assert (await asking.redeem("")).status_code == 422
    assert (await asking.redeem(7)).status_code == 422
    assert (await asking.redeem(code)).status_code == 200


async def test_a_link_expires(asking: Asking) -> None:
    code = (await asking.make()).json()["code"]
    await asking.clock.advance(601)
    assert (await asking.redeem(code)).status_code == 410


async def test_guessing_is_slow(asking: Asking) -> None:
    code = (await asking.make()).json()["code"]
    for number in range(ATTEMPTS):
        assert (await asking.redeem(f"guess {number}")).status_code == 410
    refused = await asking.redeem(code)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    await asking.clock.advance(60)
    assert (await asking.redeem(code)).status_code == 200


async def test_without_a_database_there_are_none(tmp_path: Path, nats_server: NatsServer) -> None:
    async with (
        open_store(f"sqlite:///{tmp_path}/t.db") as store,
        open_control(nats_server.url, credentials=nats_server.credentials) as control,
    ):
        api = Api(store, control)
        async with api.http:
            asking = Asking(api, ManualClock())
            for answer in (await asking.make(), await asking.redeem("code")):
                assert answer.status_code == 503
                assert "api.app_url" in answer.json()["title"]
