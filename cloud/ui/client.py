"""The data API and the inference API as the control room asks them: JSON over HTTP.

The data API is shown the session of whoever looks, or the room's own token; the inference API a token that the data API signed.
"""

from datetime import datetime
from http import HTTPStatus
from typing import Any, Self

import httpx

from cloud.ui.auth import PRINCIPAL
from cloud.ui.way_in import TooOften
from shared.clock import MICROSECONDS, Clock
from shared.errors import Rejected, Unavailable
from shared.events import to_us
from shared.http_errors import error_of
from shared.names import INFERENCE_API

RENEW_US = 120 * MICROSECONDS
"""A signed token is made anew this long before it ends, so that none ends on its way."""


class NotYet(Unavailable):
    """The answer does not count to the position that was asked for yet."""


class _Http:
    """An async context manager around one connection pool. `who` answers there."""

    def __init__(self, url: str, who: str, *, connect_seconds: float, request_seconds: float) -> None:
        self._who = who
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=httpx.Timeout(request_seconds, connect=connect_seconds),
            trust_env=False,
        )

    async def _ask(self, method: str, path: str, token: str, **what: Any) -> Any:  # noqa: ANN401 - JSON
        headers = {"Authorization": f"Bearer {token}"}
        try:
            response = await self._http.request(method, path, headers=headers, **what)
        except httpx.HTTPError as error:
            raise Unavailable(f"{self._who} does not answer: {error or type(error).__name__}") from error
        if response.status_code == HTTPStatus.ACCEPTED:
            raise NotYet(f"{self._who} does not know what it told of yet")
        if response.is_success:
            return response.json() if response.content else None
        if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise TooOften("too many requests")
        raise error_of(response.status_code, response.text, who=self._who)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()


class ApiClient(_Http):
    """The data API."""

    def __init__(self, url: str, token: str, *, connect_seconds: float, request_seconds: float) -> None:
        super().__init__(
            url, "the data API", connect_seconds=connect_seconds, request_seconds=request_seconds
        )
        self._token = token

    async def get(self, path: str, **query: str | float) -> Any:  # noqa: ANN401 - JSON
        """The JSON at `path`, asked for whoever looks, else for the room.

        Raises Unavailable, NotYet (does not count to `min_position`), NotFound, Rejected.
        """
        who = PRINCIPAL.get()
        token = who.session if who is not None and who.session else self._token
        return await self._ask("GET", path, token, params=query)

    async def me(self, session: str) -> dict[str, Any] | None:
        """Whose session it is; None: nobody's any more. Raises Unavailable."""
        try:
            found: dict[str, Any] = await self._ask("GET", "/v1/me", session)
        except Rejected:
            return None
        return found

    async def sign_in(self, **given: str) -> dict[str, str]:
        """A session for a name and password, or a code. Raises Rejected (wrong, used up), TooOften, Unavailable."""
        found: dict[str, str] = await self._ask("POST", "/v1/sessions", self._token, json=given)
        return found

    async def sign_out(self, session: str) -> None:
        """End a session. Raises Rejected, NotFound (it is over), Unavailable."""
        await self._ask("DELETE", "/v1/sessions/current", session)

    async def provider_begins(self) -> dict[str, str]:
        """Where to send a browser to the OIDC provider, and what to come back with. Raises Rejected, Unavailable."""
        found: dict[str, str] = await self._ask("POST", "/v1/oidc", self._token)
        return found

    async def signed_token(self, audience: str) -> tuple[str, int]:
        """A token for another service, which may read there, and when it ends in µs. Raises Rejected, Unavailable."""
        wanted = {"audience": audience, "scopes": ["read"]}
        made = await self._ask("POST", "/v1/access-tokens", self._token, json=wanted)
        return made["access_token"], to_us(datetime.fromisoformat(made["expires_at"]))


class InferenceClient(_Http):
    """The inference API, asked for the room."""

    def __init__(
        self, url: str, api: ApiClient, clock: Clock, *, connect_seconds: float, request_seconds: float
    ) -> None:
        super().__init__(
            url, "the inference API", connect_seconds=connect_seconds, request_seconds=request_seconds
        )
        self._api, self._clock = api, clock
        self._token, self._ends_us = "", 0

    async def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """The JSON at `path`. Raises Unavailable (either API), NotFound, Rejected."""
        if self._clock.now_us() > self._ends_us - RENEW_US:
            self._token, self._ends_us = await self._api.signed_token(INFERENCE_API)
        try:
            return await self._ask("GET", path, self._token)
        except Rejected:
            self._ends_us = 0  # the key that signed it may be good no more
            raise
