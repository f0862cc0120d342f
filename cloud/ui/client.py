"""The data API as the control room asks it: JSON over HTTP, with the control room's own token."""

from typing import Any, Self

import httpx

from shared.errors import Unavailable
from shared.http_errors import error_of


class ApiClient:
    """An async context manager around one connection pool."""

    def __init__(self, url: str, token: str, *, connect_seconds: float, request_seconds: float) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(request_seconds, connect=connect_seconds),
            trust_env=False,
        )

    async def get(self, path: str, **query: str | float) -> Any:  # noqa: ANN401 - JSON
        """The JSON at `path`. Raises Unavailable, NotFound, Rejected."""
        return await self._ask("GET", path, params=query)

    async def redeem(self, code: str) -> dict[str, str]:
        """Who a one-time login code lets in: `principal` and `role`. Raises Rejected (used, expired), Unavailable."""
        answer: dict[str, str] = await self._ask("POST", "/v1/sessions", json={"code": code})
        return answer

    async def _ask(self, method: str, path: str, **what: Any) -> Any:  # noqa: ANN401 - JSON
        try:
            response = await self._http.request(method, path, **what)
        except httpx.HTTPError as error:
            raise Unavailable(f"the data API does not answer: {error or type(error).__name__}") from error
        if response.is_success:
            return response.json()
        raise error_of(response.status_code, response.text)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
