"""An HTTP service against its own OpenAPI document, over real HTTP.

Whatever fits the document or does not: no answer is a failure of the service, each is of a kind that the document names
and holds what it says, what does not fit is refused, and nobody is served beyond their right.
"""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from shared.access import Right

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


@dataclass
class Fuzz:
    """Requests of one principal to every operation. `real` are values that lead to data: what is made up seldom does."""

    url: str
    token: str
    rights: frozenset[Right]
    examples: int
    real: Mapping[str, Any]
    left_out: Collection[str] = ()
    session: requests.Session = field(default_factory=requests.Session)
    problems: list[str] = field(default_factory=list)
    sent: int = 0

    def run(self) -> None:
        """So many of each mode an operation."""
        headers = {"Authorization": f"Bearer {self.token}"}
        self.session.headers.update(headers)
        schema = schemathesis.openapi.from_url(f"{self.url}/openapi.json", headers=headers, config=CONFIG)
        with self.session:
            for result in schema.get_all_operations():
                assert isinstance(result, Ok)
                if result.ok().path not in self.left_out:
                    for mode in GenerationMode:
                        self.ask(result.ok(), mode)

    def ask(self, operation: Any, mode: GenerationMode) -> None:  # noqa: ANN401 - of whichever specification
        """Requests that fit the document, or do not; every other one of the former is about what there is."""
        needed = operation.definition.raw.get("x-right")
        served = needed is None or Right(needed) in self.rights

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
                for place in (case.query, case.path_parameters, case.body):
                    if isinstance(place, dict):
                        place.update({name: self.real[name] for name in place if name in self.real})
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
            assert served or response.status_code in REFUSALS, f"served beyond its rights: {response.text}"
        except (AssertionError, FailureGroup) as error:  # all findings are shown together
            self.problems.append(f"{case.method} {case.formatted_path} with {sorted(self.rights)}: {error}")
