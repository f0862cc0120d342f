"""One connection to the data API's live stream for all browsers, and the readers of what the stream doesn't tell.

Nobody is waited for: a browser is woken, and takes what is newest at its own pace. So its queue is one wake-up long.
"""

import asyncio
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson
import structlog
from pydantic import ValidationError
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from cloud.ui.client import ApiClient, NotYet
from cloud.ui.plant import PlantView
from shared.clock import Clock
from shared.errors import NotFound, Rejected, Unavailable

log = structlog.get_logger()

SILENCE_SECONDS: Final = 5.0
"""The stream has a heartbeat of two seconds: silent for longer, it is dead."""
RETRY_SECONDS: Final = (0.2, 2.0)
MAX_MESSAGE: Final = 16 * 1024 * 1024
TICK_SECONDS: Final = 1.0
"""How often browsers are woken with no news: ages make machines stale."""


class Live:
    """Keeps the plant's view current."""

    def __init__(
        self,
        plant: PlantView,
        client: ApiClient,
        clock: Clock,
        *,
        url: str,
        token: str,
        connect_seconds: float,
        refresh_seconds: float,
        trend_hours: float,
        trend_points: int,
    ) -> None:
        self.plant = plant
        self._client = client
        self._clock = clock
        self._url = stream_url(url)
        self._token = token
        self._connect_seconds = connect_seconds
        self._refresh_seconds = refresh_seconds
        self._trend = {"from": f"-{trend_hours:g}h", "max_points": trend_points}
        self._browsers: set[asyncio.Event] = set()
        self._read_at: dict[str, float] = {}
        self._episodes = True
        self._events_at = ""
        self._stale = asyncio.Event()

    @contextmanager
    def listen(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever there is news, while the block runs."""
        news = asyncio.Event()
        self._browsers.add(news)
        try:
            yield news
        finally:
            self._browsers.discard(news)

    async def run(self) -> None:
        """Follow the stream and read what it doesn't tell, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="stream")
            group.create_task(self._read(), name="readers")
            group.create_task(self._tick(), name="tick")

    def wake(self) -> None:
        """There is news for every browser."""
        for news in self._browsers:
            news.set()

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK_SECONDS)
            self.wake()

    async def _follow(self) -> None:
        """The stream, again and again: at once after it worked, else with growing, jittered pauses of at most 2 s."""
        pause, longest = RETRY_SECONDS
        while True:
            try:
                async with connect(
                    self._url,
                    additional_headers={"Authorization": f"Bearer {self._token}"},
                    open_timeout=self._connect_seconds,
                    close_timeout=1,
                    max_size=MAX_MESSAGE,
                    max_queue=16,
                    proxy=None,
                ) as socket:
                    self._read_at.clear()
                    self._episodes = True
                    pause = RETRY_SECONDS[0]
                    while True:
                        async with asyncio.timeout(SILENCE_SECONDS):
                            message = await socket.recv()
                        self._take(message)
            except (OSError, WebSocketException, TimeoutError) as error:
                log.debug("the live stream is away", why=str(error) or type(error).__name__)
            self.plant.away(self._clock.now_us())
            self.wake()
            await self._clock.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            pause = min(longest, pause * 2)

    def _take(self, message: str | bytes) -> None:
        try:
            told = orjson.loads(message)
            self._events_at = _position(told) or self._events_at
            if self.plant.apply(told, self._clock.now_us()):
                self._episodes = True
        except (orjson.JSONDecodeError, ValidationError, TypeError, ValueError, AttributeError) as error:
            log.warning("a message of the live stream can't be read", why=str(error)[:200])
            return
        if self._episodes or self._unread():
            self._stale.set()
        self.wake()

    def _unread(self) -> list[str]:
        """Machines whose curves were never read, or too long ago, or whose model is not known."""
        now = self._clock.monotonic()
        return [
            name
            for name, machine in self.plant.machines.items()
            if now - self._read_at.get(name, -1e9) > self._refresh_seconds
            or (
                machine.status.model is not None
                and machine.status.model.version_hash not in self.plant.models
            )
        ]

    async def _read(self) -> None:
        """Curves, bands, models and episodes, when they are due."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                if self._episodes:
                    await self._read_episodes()
                for name in self._unread():
                    await self._read_machine(name)
                    self.wake()
            except (Unavailable, Rejected) as error:
                log.debug("curves can't be read now", why=str(error))
                self._episodes = True
            except (ValidationError, KeyError, TypeError) as error:
                log.warning("an answer of the data API can't be read", why=str(error)[:200])
            await self._clock.sleep(TICK_SECONDS)

    async def _read_episodes(self) -> None:
        """The episodes, counting to what the stream told: it is told before the store has it."""
        self._episodes = False
        try:
            told = await self._client.get("/v1/anomalies", limit=100, min_position=self._events_at)
        except NotYet:
            self._episodes = True  # what is known now, and once more when the next message comes
            told = await self._client.get("/v1/anomalies", limit=100)
        self.plant.take_anomalies(told["anomalies"])
        self.wake()

    async def _read_machine(self, name: str) -> None:
        plant, base = self.plant, f"/v1/machines/{name}"
        machine = plant.machines.get(name)
        model = machine.status.model if machine else None
        self._read_at[name] = self._clock.monotonic()
        plant.take_bands(name, (await self._get(f"{base}/sensors")).get("sensors", ()))
        plant.take_trends(name, (await self._get(f"{base}/readings", **self._trend)).get("series", ()))
        scores = await self._get(f"{base}/scores", **self._trend)
        if scores:
            plant.take_scores(name, scores)
        plant.take_events(name, (await self._get("/v1/events", machine=name, limit=100)).get("events", ()))
        if model is not None:
            plant.take_model(model.version_hash, await self._get(f"/v1/models/{model.version_hash}"))

    async def _get(self, path: str, **query: Any) -> dict[str, Any]:  # noqa: ANN401 - text or number
        """An answer; empty where there is none yet."""
        try:
            found: dict[str, Any] = await self._client.get(path, **query)
        except NotFound:
            return {}
        return found


def _position(told: Mapping[str, Any]) -> str:
    """The position that a message says, as `min_position` wants it."""
    return ",".join(f"{partition}-{offset}" for partition, offset in (told.get("position") or {}).items())


def stream_url(api_url: str) -> str:
    """The live stream of a data API."""
    parts = urlsplit(api_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, f"{parts.path.rstrip('/')}/v1/live", "", ""))
