"""One user's way to nats-server: a session that is made again for ever."""

import asyncio
import random
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import nats.errors
import structlog
from nats.aio.client import Client

from shared.errors import IndustrialMindError, Misconfigured, Unavailable
from shared.nats.session import Session, Timeouts, first_of
from shared.service import ended
from shared.tls import Certificates, TlsFiles

log = structlog.get_logger()

TLS_SCHEME: Final = "tls"
_AGAIN_S: Final = 0.2
_RENEWAL_S: Final = 1.0
_DENIED = re.compile(r'permissions violation for (\w+) to "([^"]+)"', re.IGNORECASE)


class _Client(Client):
    """The driver, which closes whole: its own `_close` ends in the middle when a dead socket refuses what is to be written.

    Nobody would hear of the loss then, and the session would be waited on for ever.
    """

    async def _close(self, status: int, do_cbs: bool = True) -> None:  # noqa: FBT001, FBT002 - the driver's own
        try:
            await super()._close(status, do_cbs)
        except OSError as error:
            log.debug("not written to nats-server any more", error=str(error))
            self._status = Client.DISCONNECTED  # what could not be written is forgotten by now
            await super()._close(status, do_cbs)


class Link:
    """One user's way to the server. A lost session is made again for ever, with jittered, capped backoff."""

    def __init__(
        self, url: str, credentials: str, timeouts: Timeouts, tls: Certificates | None = None
    ) -> None:
        self._url = url
        self._user, _, self._password = credentials.partition(":")
        self._tls = tls
        self._timeouts = timeouts
        self._session: Session | None = None
        self._shown: ssl.SSLContext | None = None
        self._up = asyncio.Event()
        self._refused = asyncio.Event()
        self._last: IndustrialMindError = Unavailable(f"not connected to {url} yet")

    def session(self) -> Session:
        """The live session, at once. Raises Unavailable while there is none."""
        if self._session is None or self._session.lost.is_set():
            raise Unavailable(f"no connection to {self._url} ({self._last})")
        return self._session

    async def connected(self) -> Session:
        """The live session, however long it takes."""
        while self._session is None or self._session.lost.is_set():
            self._up.clear()
            await self._up.wait()
        return self._session

    async def first(self) -> Session:
        """The first session. Raises Misconfigured (refused), Unavailable after the connect time-out."""
        await first_of(self._timeouts.connect, self._up, self._refused)
        if self._session is None:
            raise self._last
        return self._session

    async def run(self) -> None:
        """Connect, wait for the loss, connect again."""
        failures = 0
        while True:
            try:
                session = await self._dial()
            except (TimeoutError, OSError, nats.errors.Error) as error:
                failures += 1
                self._note(error)
                ceiling = min(
                    self._timeouts.backoff_cap, self._timeouts.backoff_first * 2 ** min(failures, 16)
                )
                await asyncio.sleep(ceiling * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                continue
            failures = 0
            self._session = session
            self._up.set()
            try:
                if await self._ends(session):
                    log.warning("connection to nats-server lost", url=self._url)
            finally:
                self._session = None
                await session.close()

    async def _ends(self, session: Session) -> bool:
        """Return once the session is lost (True), or was made with a certificate that has been replaced since."""
        if self._tls is None:
            await session.lost.wait()
            return True
        while not session.lost.is_set():
            if self._tls.context() is not self._shown:
                return False
            await first_of(_RENEWAL_S, session.lost)
        return True

    def _check_tls(self, client: Client) -> None:
        """The driver goes on in the clear with a server that greets without TLS. Raises OSError."""
        if self._tls is not None and not client._server_info.get("tls_required"):  # noqa: SLF001 - nowhere else
            raise OSError("the server offers no TLS")

    def _note(self, error: Exception) -> None:
        if "authorization" in str(error).lower():
            self._last = Misconfigured(
                f"nats-server at {self._url} refused user {self._user!r}", hint="check the user and password"
            )
            self._refused.set()
            log.error("nats-server refused the credentials", url=self._url, user=self._user)
        else:
            self._last = Unavailable(f"nats-server at {self._url}: {error or type(error).__name__}")

    async def _dial(self) -> Session:
        client = _Client()
        made: list[Session] = []

        async def on_error(error: Exception) -> None:
            denied = _DENIED.search(str(error))
            if denied is None:
                log.debug("nats-server connection", error=str(error))
                return
            log.error("nats-server denied", user=self._user, what=denied[1], subject=denied[2])
            for session in made:
                session.deny(denied[2])

        async def on_closed() -> None:
            for session in made:
                session.lost.set()

        self._shown = None if self._tls is None else self._tls.context()

        def password() -> str:
            """Asked for after the server's greeting: one that leaves TLS out is told nothing."""
            self._check_tls(client)
            return self._password

        prefix = f"_INBOX_{self._user}" if self._user else "_INBOX"
        try:
            await client.connect(
                self._url,
                tls=self._shown,
                user=self._user if self._password else None,
                password=password if self._password else None,
                inbox_prefix=prefix,
                allow_reconnect=False,  # a new session instead: one path for every kind of loss
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=self._timeouts.connect,  # type: ignore[arg-type]
                ping_interval=5,
                pending_size=0,  # a publish with no connection fails at once instead of queueing
                error_cb=on_error,
                closed_cb=on_closed,
            )
            self._check_tls(client)
            session = Session(client, self._user, client.new_inbox(), self._timeouts)
            made.append(session)
            await session.start()
        except BaseException:
            await client.close()
            raise
        if client.is_closed:
            session.lost.set()
        return session


@asynccontextmanager
async def open_link(
    url: str,
    *,
    credentials: str = "",
    timeouts: Timeouts | None = None,
    wait: bool = True,
    tls: Certificates | None = None,
) -> AsyncIterator[Link]:
    """A link for the time of the context.

    `credentials` is `user:password`, or the user alone where a certificate (`tls`, for a URL `tls://`) says who it is.
    `wait`: be connected before the body runs (raises Misconfigured, Unavailable); else it comes up behind it.
    """
    if urlsplit(url).scheme == TLS_SCHEME:
        tls = tls or TlsFiles().open()
    elif tls is not None:
        tls = None  # the URL decides
    link = Link(url, credentials, timeouts or Timeouts(), tls)
    task = asyncio.create_task(link.run(), name=f"nats link {url}")
    try:
        if wait:
            await link.first()
        yield link
    finally:
        await ended(task, again=_AGAIN_S)
