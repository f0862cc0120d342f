"""The command line's HTTP client: it finds a running plant by DATA/run.json and speaks with DATA/secrets/cli.token."""

from collections.abc import Mapping
from typing import Any, Self

import httpx

from industrialmind.plant import DataDir
from shared.errors import Unavailable
from shared.http_errors import error_of

TIMEOUT_SECONDS = 10.0


class Client:
    """Calls the data API of a running plant."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        )

    @classmethod
    def of(cls, data: DataDir) -> Self:
        """A client for the plant that runs on `data`. Raises Unavailable when none does."""
        run = data.running()
        if run is None or "api" not in run:
            raise Unavailable(f"no plant is running on {data.root}: start it with industrialmind up")
        return cls(run["api"], data.token("cli"))

    def get(self, path: str, **query: str | float) -> Any:  # noqa: ANN401 - JSON
        """The JSON at `path`. Raises Unavailable, NotFound, Rejected."""
        return self._ask("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, Any], *, idempotency_key: str = "") -> Any:  # noqa: ANN401 - JSON
        """Send `body` to `path` and return the JSON answer. Raises Unavailable, NotFound, Rejected."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._ask("POST", path, json=body, headers=headers)

    def patch(self, path: str, body: Mapping[str, Any], *, idempotency_key: str) -> Any:  # noqa: ANN401 - JSON
        """Change what is at `path`. Raises Unavailable, NotFound, Rejected."""
        return self._ask("PATCH", path, json=body, headers={"Idempotency-Key": idempotency_key})

    def put(self, path: str, body: Mapping[str, Any], *, idempotency_key: str) -> Any:  # noqa: ANN401 - JSON
        """Set what is at `path`. Raises Unavailable, NotFound, Rejected."""
        return self._ask("PUT", path, json=body, headers={"Idempotency-Key": idempotency_key})

    def send_file(
        self, path: str, content: bytes, *, idempotency_key: str, seconds: float, **query: str | bool
    ) -> Any:  # noqa: ANN401 - JSON
        """Send bytes as they are and wait so long for the JSON answer. Raises Unavailable, NotFound, Rejected."""
        headers = {"Idempotency-Key": idempotency_key}
        return self._ask("POST", path, content=content, params=query, headers=headers, timeout=seconds)

    def text(self, path: str, **query: str) -> str:
        """The text at `path`. Raises Unavailable, NotFound, Rejected."""
        return self._response("GET", path, params=query).text

    def ask(self, method: str, path: str, body: Any = None) -> Any:  # noqa: ANN401 - JSON
        """Any method; the JSON answer, None where there is none. Raises Unavailable, NotFound, Rejected."""
        answer = self._response(method, path, json=body)
        return answer.json() if answer.content else None

    def _ask(self, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401 - JSON
        return self._response(method, path, **more).json()

    def _response(self, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            response = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise Unavailable(f"the data API does not answer ({error}): see industrialmind doctor") from error
        if response.is_success:
            return response
        raise error_of(response.status_code, response.text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
