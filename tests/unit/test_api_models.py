"""Models over HTTP: where each is wanted and where it runs, and what a promotion's request must be."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cloud.api.models import ModelDetail, PromotionAnswer, models_router
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
    add_errors(app)
    app.include_router(models_router(models, promote, reports))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")


async def test_a_model_says_where_it_is_wanted_where_it_runs_and_who_refused(http: httpx.AsyncClient) -> None:
    found = (await http.get("/v1/models")).json()
    assert found["position"] == {"0": 9}
    assert [m["running_on"] for m in found["models"]] == [["runs"], []]
    assert "manifest" not in found["models"][0]
    assert (await http.get("/v1/models", params={"machine": "fan-1"})).json()["models"] == []
    one = (await http.get(f"/v1/models/{HASHES[0]}")).json()
    assert (one["manifest"], one["refused"]) == ({"seed": 1}, {"refuses": "a sensor is missing"})
    assert (await http.get("/v1/models/unknown")).status_code == 404


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
