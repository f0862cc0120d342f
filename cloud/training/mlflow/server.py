"""MLflow's own server and pages, behind a password, in this process.

MLflow's launcher starts workers as grandchildren, which outlive a parent that is killed, and its password app needs
a database of users. Here the same application runs in one process, with one user checked before anything reads a
request.
"""

import asyncio
import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud.training.mlflow.settings import USER, MlflowSettings
from cloud.training.mlflow.tracking import QUIET
from shared.settings import set_library_environment
from shared.uvicorn import serve

OPEN_PATH: Final = "/health"


class Password:
    """ASGI middleware: HTTP basic authentication (RFC 7617) for all but the health path; no WebSockets."""

    def __init__(self, app: ASGIApp, password: str) -> None:
        self._app = app
        self._expected = f"{USER}:{password}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or answer it here."""
        match scope["type"]:
            case "websocket":
                await send({"type": "websocket.close", "code": 1008})
            case "http" if scope["path"] != OPEN_PATH and not self._knows(dict(scope["headers"])):
                headers = {"WWW-Authenticate": 'Basic realm="MLflow", charset="UTF-8"'}
                await PlainTextResponse("a password is needed\n", 401, headers)(scope, receive, send)
            case _:
                await self._app(scope, receive, send)

    def _knows(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        try:
            found = base64.b64decode(given, validate=True)
        except binascii.Error:
            return False
        return scheme.lower() == b"basic" and hmac.compare_digest(found, self._expected)


async def run(settings: MlflowSettings, stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises Misconfigured (port taken)."""
    app = Password(build_app(settings), settings.password.get_secret_value())
    await serve(app, settings.host, settings.port, stop, section="mlflow", what="MLflow's server")


def build_app(settings: MlflowSettings) -> ASGIApp:
    """MLflow's application. It reads its settings from the environment when it is imported, and only then."""
    set_library_environment(
        {
            **QUIET,
            "_MLFLOW_SERVER_FILE_STORE": settings.store_url,
            "_MLFLOW_SERVER_REGISTRY_STORE": settings.store_url,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": settings.artifacts.resolve().as_uri(),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": settings.artifacts.resolve().as_uri(),
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(
                pattern for host in settings.allowed_hosts for pattern in (host, f"{host}:*")
            ),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
    )
    from mlflow.server.fastapi_app import app  # noqa: PLC0415 - see above

    found: ASGIApp = app
    return found
