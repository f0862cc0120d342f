"""A control room in this process, and a browser's requests to it without a browser."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.responses import Response
from websockets.sync.client import ClientConnection, connect

from cloud.ui.app import run
from cloud.ui.auth import Principal, Sessions
from cloud.ui.settings import UiSettings
from shared.supervise import free_ports

KEY = "a key of this test alone"
PERSON = Principal("admin", "admin", "ims_of-a-plant-that-is-away")


class RunningRoom:
    """`cloud.ui.app.run` in a thread."""

    def __init__(self, settings: UiSettings, person: Principal = PERSON) -> None:
        self.settings = settings
        self.person = person
        self.url = f"http://127.0.0.1:{settings.port}"
        self.sessions = Sessions(settings.session_key.get_secret_value(), hours=settings.session_hours)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve)

    @property
    def cookie(self) -> str:
        """A Cookie header of somebody who is signed in."""
        response = Response()
        self.sessions.open(response, self.person, secure=False)
        return response.headers["set-cookie"].partition(";")[0]

    def http(self, *, signed_in: bool = True) -> httpx.Client:
        """A browser's HTTP."""
        headers = {"Cookie": self.cookie} if signed_in else {}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False)

    def socket(self, **headers: str | None) -> ClientConnection:
        """A browser's WebSocket to Dash; a header given as None is left out."""
        wanted = {"Cookie": self.cookie, "Origin": self.url, **headers}
        more = {name: value for name, value in wanted.items() if value is not None and name != "Host"}
        host = wanted.get("Host") or f"127.0.0.1:{self.settings.port}"
        line = socket.create_connection(("127.0.0.1", self.settings.port))
        return connect(f"ws://{host}/_dash-ws-callback", sock=line, additional_headers=more)

    def start(self) -> None:
        """Return once it answers."""
        self._thread.start()
        with self.http(signed_in=False) as http:
            for _ in range(2000):
                if self._failed:
                    raise self._failed[0]
                try:
                    if http.get("/livez").is_success:
                        return
                except httpx.TransportError:
                    threading.Event().wait(0.01)  # another thread comes up
        raise AssertionError("the control room did not come up")

    def stop(self) -> None:
        """End it."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        if self._failed:
            raise self._failed[0]

    def _serve(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await run(self.settings, self._stop)

        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._failed.append(error)


@contextmanager
def running_room(settings: UiSettings, person: Principal = PERSON) -> Iterator[RunningRoom]:
    """A control room for the length of the block, and who is signed in there."""
    room = RunningRoom(settings, person)
    room.start()
    try:
        yield room
    finally:
        room.stop()


def lonely_settings(**more: Any) -> UiSettings:  # noqa: ANN401 - settings
    """Settings of a control room whose data API is away."""
    port, nowhere = free_ports(2)
    return UiSettings(
        port=port,
        api_url=f"http://127.0.0.1:{nowhere}",
        token=SecretStr("t"),
        session_key=SecretStr(KEY),
        **more,
    )
