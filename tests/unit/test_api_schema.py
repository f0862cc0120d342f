"""The data API against its own OpenAPI document, over real HTTP, with a real store and log, as each role.

Whatever fits the document or does not: no answer is a failure of the service, each is of a kind that the document names
and holds what it says, what does not fit is refused, and nobody is served beyond their right.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from industrialmind.client import Client
from shared.access import RIGHTS, Right, Role
from tests.unit.api_parts import scores
from tests.unit.front_door import (
    RunningPlant,
    anomaly_ended,
    anomaly_started,
    event,
    running_plant,
    store_entries,
)

ENDLESS = {"/v1/stream"}
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
]
REFUSALS = [400, 401, 403, 404, 405, 406, 409, 412, 413, 414, 415, 422, 429]
# The session's own Authorization stands in for one that was left out: who is nobody, other tests try.
CONFIG = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}}
)
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


@dataclass
class Fuzz:
    """Requests of one role to every operation."""

    plant: RunningPlant
    role: Role
    examples: int
    session: requests.Session = field(default_factory=requests.Session)
    problems: list[str] = field(default_factory=list)
    sent: int = 0

    def run(self) -> None:
        """So many of each mode an operation."""
        headers = {"Authorization": f"Bearer {token_of(self.plant, self.role)}"}
        self.session.headers.update(headers)
        schema = schemathesis.openapi.from_url(
            f"{self.plant.api}/openapi.json", headers=headers, config=CONFIG
        )
        with self.session:
            for result in schema.get_all_operations():
                assert isinstance(result, Ok)
                if result.ok().path not in ENDLESS:
                    for mode in GenerationMode:
                        self.ask(result.ok(), mode)

    def ask(self, operation: Any, mode: GenerationMode) -> None:  # noqa: ANN401 - of whichever specification
        """Requests that fit the document, or do not; every other one of the former is about what there is."""
        needed = operation.definition.raw.get("x-right")
        served = needed is None or Right(needed) in RIGHTS[self.role]

        @seed(1)
        @settings(
            max_examples=self.examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def one(case: Case[Any]) -> None:
            self.sent += 1
            if mode is GenerationMode.POSITIVE and self.sent % 2:
                for place in (case.query, case.path_parameters):
                    place.update({name: REAL[name] for name in place if name in REAL})
            self.judge(case, served=served)

        # Nothing is no text, and nothing can be wrong about what takes nothing.
        with contextlib.suppress(Unsatisfiable):
            one()

    def judge(self, case: Case[Any], *, served: bool) -> None:
        """Send it, and note what is not as it should be."""
        response = case.call(session=self.session)
        try:
            case.validate_response(response, checks=CHECKS)
            assert response.status_code < 500, response.text
            assert response.headers["x-request-id"]
            assert served or response.status_code in REFUSALS, (
                f"served beyond {self.role}'s right: {response.text}"
            )
        except (AssertionError, FailureGroup) as error:  # all findings are shown together
            self.problems.append(f"{case.method} {case.formatted_path} as {self.role}: {error}")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ADMIN])
def test_the_api_keeps_to_its_document(plant: RunningPlant, role: Role) -> None:
    fuzz = Fuzz(plant, role, 2)
    fuzz.run()
    assert not fuzz.problems, "\n\n".join(fuzz.problems)
    assert fuzz.sent > 50


@pytest.mark.nightly
@pytest.mark.parametrize("role", list(Role))
def test_the_api_keeps_to_its_document_whatever_is_sent(plant: RunningPlant, role: Role) -> None:
    fuzz = Fuzz(plant, role, 60)
    fuzz.run()
    assert not fuzz.problems, "\n\n".join(fuzz.problems[:20])
