"""Models over HTTP: where each is wanted and where it runs, and what a promotion's request must be."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cloud.api.access import fixed_tokens
from cloud.api.models import ModelDetail, PromotionAnswer, models_router
from shared.access import Principal, Role
from shared.asgi_access import Access
from shared.clock import SystemClock
from shared.errors import Conflict
from shared.problems import add_errors

HASHES = ("a" * 64, "b" * 64)
REPORTS: dict[str, Any] = {
    "runs": {"machines": {"pump-1": {"sha256": HASHES[0]}}},
    "refuses": {"machines": {"pump-1": {"sha256": None, "refused": "a sensor is missing"}}},
    "odd": {"machines": [1]},
}


def model(version: int, *edges: str) -> ModelDetail:
    return ModelDetail(
        machine="pump-1",
        name="pump-1/window-pca",
        method="window-pca",
        version=version,
        version_hash=HASHES[version - 1],
        provisional=False,
        registered_at=datetime(2026, 1, 1, tzinfo=UTC),
        aliases=("champion",) if edges else (),
        promoted_to=edges,
        metrics={"panel_found": 0.5},
        manifest={"seed": 1},
    )


@pytest.fixture
def http() -> httpx.AsyncClient:
    async def models() -> tuple[list[ModelDetail], dict[str, int]]:
        return [model(1, "runs", "refuses", "odd", "silent"), model(2)], {"0": 9}

    async def promote(machine: str, version: int, request: str) -> PromotionAnswer:
        if request == "used":
            raise Conflict("this idempotency key was used for another promotion")
        hashed = HASHES[version - 1]
        return PromotionAnswer(
            machine=machine,
            name="n",
            version=version,
            version_hash=hashed,
            promoted_to=("e",),
            position={"0": 10},
            changed=True,
        )

    def reports(edge: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = REPORTS.get(edge, {})
        return found

    app = FastAPI()
    admin = Principal.of("cli", Role.ADMIN)
    viewer = Principal.of("ui", Role.VIEWER)
    app.add_middleware(Access, verify=fixed_tokens({admin: "all", viewer: "look"}), allowed_hosts=("x",))
    add_errors(app)
    app.include_router(models_router(models, promote, reports, SystemClock()))
    headers = {"Authorization": "Bearer all"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x", headers=headers)


async def test_a_model_says_where_it_is_wanted_where_it_runs_and_who_refused(http: httpx.AsyncClient) -> None:
    found = (await http.get("/v1/models")).json()
    assert found["position"] == {"0": 9}
    assert [m["running_on"] for m in found["models"]] == [["runs"], []]
    assert "manifest" not in found["models"][0]
    assert (await http.get("/v1/models", params={"machine": "fan-1"})).json()["models"] == []
    assert len((await http.get("/v1/models", params={"purpose": "anomaly"})).json()["models"]) == 2
    assert (await http.get("/v1/models", params={"purpose": "life"})).json()["models"] == []
    assert (await http.get("/v1/models", params={"purpose": "other"})).status_code == 422
    other = await http.get(f"/v1/models/{HASHES[0]}", params={"machine": "fan-1"})
    assert other.status_code == 404
    one = (await http.get(f"/v1/models/{HASHES[0]}")).json()
    assert (one["manifest"], one["refused"]) == ({"seed": 1}, {"refuses": "a sensor is missing"})
    assert (await http.get("/v1/models/unknown")).status_code == 404


async def test_models_come_by_pages(http: httpx.AsyncClient) -> None:
    first = (await http.get("/v1/models", params={"limit": 1})).json()
    second = (await http.get("/v1/models", params={"limit": 1, "cursor": first["next"]})).json()
    assert [m["version"] for m in (*first["models"], *second["models"])] == [1, 2]
    assert second["next"] is None
    for bad in ("", "x", "WyJldmVudHMiLDFd", first["next"] + "A"):
        assert (await http.get("/v1/models", params={"cursor": bad})).status_code == 422


async def test_a_change_s_position_can_be_waited_for(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await http.get("/v1/models", params={"min_position": "0-9"})).json()["position"] == {"0": 9}
    monkeypatch.setattr("cloud.api.positions.WAIT_SECONDS", 0.05)
    early = await http.get("/v1/models", params={"min_position": "0-10"})
    assert (early.status_code, early.headers["retry-after"]) == (202, "1")
    for bad in ("10", "0:10", "0-10,", "0--1"):
        assert (await http.get("/v1/models", params={"min_position": bad})).status_code == 422


async def test_a_promotion_is_the_engineer_s(http: httpx.AsyncClient) -> None:
    body, headers = {"machine": "pump-1", "version": 2}, {"Idempotency-Key": "k"}
    http.headers["Authorization"] = "Bearer look"
    assert (await http.get("/v1/models")).status_code == 200
    assert (await http.post("/v1/models/promotions", json=body, headers=headers)).status_code == 403


async def test_a_promotion_needs_a_key_a_machine_and_a_version(http: httpx.AsyncClient) -> None:
    async def ask(body: Mapping[str, Any], key: str | None = "k") -> int:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = await http.post("/v1/models/promotions", json=body, headers=headers)
        return answer.status_code

    good = {"machine": "pump-1", "version": 2}
    assert await ask(good) == 200
    assert await ask(good, "used") == 409
    for key in (None, "", "x" * 101, "a b"):
        assert await ask(good, key) == 422
    for body in ({}, {**good, "version": 0}, {**good, "machine": "A b"}, {**good, "more": 1}):
        assert await ask(body) == 422
