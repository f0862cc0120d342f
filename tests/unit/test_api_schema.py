"""The data API against its own OpenAPI document, with a real store and log, as each role: `tests/unit/fuzz.py`."""

import asyncio
import secrets
from collections.abc import Iterator

import pytest

from industrialmind.client import Client
from shared.access import RIGHTS, Role
from tests.unit.api_parts import scores
from tests.unit.front_door import (
    RunningPlant,
    anomaly_ended,
    anomaly_started,
    event,
    running_plant,
    store_entries,
)
from tests.unit.fuzz import Fuzz

ENDLESS = {"/v1/stream"}
REAL = {
    "series": ["pump-1/flow"],
    "machine": "pump-1",
    "sensor": "flow",
    "from": "2025-06-15T00:00:00Z",
    "version_hash": "ab" * 32,
    "name": "ledger",
}
"""Values that lead to data: what is made up seldom does."""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlant]:
    """A plant with some history, where nobody waits for positions that never come."""
    with (
        pytest.MonkeyPatch.context() as patch,
        running_plant(tmp_path_factory.mktemp("schema") / "data") as running,
    ):
        patch.setattr("cloud.api.positions.WAIT_SECONDS", 0.01)
        entries = [scores(300), event(1, anomaly_started()), event(2, anomaly_ended())]
        asyncio.run(store_entries(running.data, entries))
        yield running


def token_of(plant: RunningPlant, role: Role) -> str:
    """An API token of a new user in the role, with all its rights; the administrator's is the command line's."""
    if role is Role.ADMIN:
        return plant.data.token("cli")
    with Client.of(plant.data) as client:
        name = f"{role}-{secrets.token_hex(4)}"
        client.post("/v1/users", {"name": name, "role": role})
        wanted = {"owner": name, "scopes": sorted(RIGHTS[role])}
        token: str = client.post("/v1/tokens", wanted)["token"]
        return token


def fuzz_of(plant: RunningPlant, role: Role, examples: int) -> Fuzz:
    """Requests as somebody in the role."""
    return Fuzz(plant.api, token_of(plant, role), RIGHTS[role], examples, REAL, ENDLESS)


@pytest.mark.parametrize("role", [pytest.param(Role.VIEWER, marks=pytest.mark.real), Role.ADMIN])
def test_the_api_keeps_to_its_document(plant: RunningPlant, role: Role) -> None:
    fuzz = fuzz_of(plant, role, 2)
    fuzz.run()
    assert not fuzz.problems, "\n\n".join(fuzz.problems)
    assert fuzz.sent > 50


@pytest.mark.nightly
@pytest.mark.parametrize("role", list(Role))
def test_the_api_keeps_to_its_document_whatever_is_sent(plant: RunningPlant, role: Role) -> None:
    fuzz = fuzz_of(plant, role, 60)
    fuzz.run()
    assert not fuzz.problems, "\n\n".join(fuzz.problems[:20])
