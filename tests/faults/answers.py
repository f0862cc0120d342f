"""Askers of the data API who know the truth: every answer, while parts and servers come and go, is held against it.

Right is: the readings of the range, each with the value that was sent, none twice, and all of those that an earlier answer
had. Right is also to say that the answer can't be had now (503, or nobody listens while the process is between two
lives). Everything else is wrong: an answer with a reading less, an empty one, 404 for a series that was there, 500.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.faults.background import Background
from tests.faults.load import SENSORS, Device, Identity

BLOCK: Final = 500
"""Readings of a range: fewer than an answer may have points, so that none is a mean of several."""
PATIENCE_S: Final = 20.0
"""No answer may take longer, whatever is away."""
_PACE_S: Final = 0.02
_NAMED: Final = 5


@dataclass
class Answers:
    """What came so far. `slowest`: the longest that anybody waited, answered or not."""

    right: int = 0
    unchanged: int = 0
    unavailable: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.right} right answers ({self.unchanged} of them 'not modified'), {self.unavailable.total()} times unavailable"
            f" {dict(self.unavailable)}, slowest {self.slowest:.1f} s, wrong: {self.wrong[:_NAMED] or 'none'}"
        )


class Asker:
    """Asks for one range after another of what devices have sent, in the background, until it is told to end.

    `ask_again`: the share of questions that were asked before, which a cache may answer; they carry their ETag.
    """

    def __init__(
        self,
        background: Background,
        url: str,
        token: str,
        devices: Mapping[str, Device],
        seed: str,
        *,
        ask_again: float = 0.5,
    ) -> None:
        self.answers = Answers()
        self._devices = dict(devices)
        self._rng = random.Random(seed)
        self._again = ask_again
        self._seen: dict[str, set[Identity]] = {}
        self._kept: dict[str, tuple[str, Any]] = {}
        self._headers = {"Authorization": f"Bearer {token}"}
        self._url = url
        self._halt = asyncio.Event()
        self._background = background
        self._running = background.start(self._run())

    def stop(self) -> Answers:
        """End, after the answer that is awaited."""
        self._background.loop.call_soon_threadsafe(self._halt.set)
        self._running.result(2 * PATIENCE_S)
        return self.answers

    async def _run(self) -> None:
        async with httpx.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=PATIENCE_S, trust_env=False
        ) as client:
            while not self._halt.is_set():
                device = self._devices[self._rng.choice(list(self._devices))]
                if device.sent:
                    await self._ask(client, device)
                await asyncio.sleep(_PACE_S)

    def _draw(self, device: Device) -> tuple[str, int, str]:
        """Sensor, first number of the range, and the path that asks for it."""
        sensor = self._rng.choice(SENSORS)
        blocks = device.numbers(sensor) // BLOCK + 1
        block = self._rng.randrange(blocks) if self._rng.random() < self._again else blocks - 1
        begin = (device.start_ms + block * BLOCK) * 1000
        return (
            sensor,
            block * BLOCK,
            f"/v1/machines/{device.machine}/readings/{sensor}?from={begin}&to={begin + BLOCK * 1000}&max_points={2 * BLOCK}",
        )

    async def _ask(self, client: httpx.AsyncClient, device: Device) -> None:
        sensor, _, path = self._draw(device)
        kept = self._kept.get(path)
        begun = time.monotonic()
        try:
            answer = await client.get(path, headers={"If-None-Match": kept[0]} if kept else {})
        except httpx.TransportError as error:
            self.answers.unavailable[type(error).__name__] += 1
            self._timed(begun)
            return
        self._timed(begun)
        match answer.status_code:
            case httpx.codes.OK:
                body = answer.json()
                if etag := answer.headers.get("etag"):
                    self._kept[path] = (etag, body)
                self._hold(path, device, sensor, body)
            case httpx.codes.NOT_MODIFIED if kept:
                self.answers.unchanged += 1
                self._hold(path, device, sensor, kept[1])
            case httpx.codes.SERVICE_UNAVAILABLE:
                self.answers.unavailable["503"] += 1
            case httpx.codes.NOT_FOUND if not self._knows(device, sensor):
                self.answers.right += 1
            case status:
                self.answers.wrong.append(f"{path}: {status} {answer.text[:200]}")

    def _timed(self, begun: float) -> None:
        self.answers.slowest = max(self.answers.slowest, time.monotonic() - begun)

    def _knows(self, device: Device, sensor: str) -> bool:
        """Whether any answer has had a reading of this series."""
        return any(seen and next(iter(seen))[:2] == (device.machine, sensor) for seen in self._seen.values())

    def _hold(self, path: str, device: Device, sensor: str, body: Mapping[str, Any]) -> None:
        """Hold an answer against what was sent and what was seen."""
        found = [Identity(device.machine, sensor, at) for at in body["time_us"]]
        values = dict(zip(found, body["value"], strict=True))
        seen = self._seen.setdefault(path.split("&max_points", maxsplit=1)[0], set())
        invented = [each for each, value in values.items() if device.sent.get(each) != value]
        gone = seen - values.keys()
        if invented or gone or len(values) != len(found) or body["downsampled"]:
            self.answers.wrong.append(
                f"{path}: {len(invented)} that nobody sent {invented[:_NAMED]}, {len(gone)} that were there before "
                f"{sorted(gone)[:_NAMED]}, {len(found) - len(values)} twice, downsampled {body['downsampled']}"
            )
            return
        self.answers.right += 1
        seen |= values.keys()
