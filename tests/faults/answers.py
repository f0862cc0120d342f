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
from typing import Any, Final, NamedTuple

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


class Question(NamedTuple):
    """A range of a series, and how it is asked for."""

    device: Device
    sensor: str
    path: str


class Truth:
    """Holds answers against what devices sent, and against what answers before had."""

    def __init__(self) -> None:
        self.answers = Answers()
        self._seen: dict[str, set[Identity]] = {}
        self._known: set[tuple[str, str]] = set()
        self._kept: dict[str, tuple[str, dict[str, Any]]] = {}

    def etag(self, question: Question) -> str:
        """Of the newest answer to this question; "" if there is none."""
        return self._kept.get(question.path, ("", {}))[0]

    def hold(self, question: Question, answer: httpx.Response) -> None:
        """Take an answer."""
        device, sensor, path = question
        match answer.status_code:
            case httpx.codes.OK:
                body = answer.json()
                if etag := answer.headers.get("etag"):
                    self._kept[path] = (etag, body)
                self._compare(question, body)
            case httpx.codes.NOT_MODIFIED if path in self._kept:
                self.answers.unchanged += 1
                self._compare(question, self._kept[path][1])
            case httpx.codes.SERVICE_UNAVAILABLE:
                self.answers.unavailable["503"] += 1
            case httpx.codes.NOT_FOUND if (device.machine, sensor) not in self._known:
                self.answers.right += 1
            case status:
                self.answers.wrong.append(f"{path}: {status} {answer.text[:200]}")

    def _compare(self, question: Question, body: Mapping[str, Any]) -> None:
        device, sensor, path = question
        found = [Identity(device.machine, sensor, at) for at in body["time_us"]]
        values = dict(zip(found, body["value"], strict=True))
        seen = self._seen.setdefault(path, set())
        invented = [each for each, value in values.items() if device.sent.get(each) != value]
        gone = seen - values.keys()
        if invented or gone or len(values) != len(found) or body["downsampled"]:
            self.answers.wrong.append(
                f"{path}: {len(invented)} that nobody sent {invented[:_NAMED]}, {len(gone)} that were there before "
                f"{sorted(gone)[:_NAMED]}, {len(found) - len(values)} twice, downsampled {body['downsampled']}"
            )
            return
        self.answers.right += 1
        self._known.add((device.machine, sensor))
        seen.update(values)


class Asker:
    """Asks for one range after another of what devices have sent, in the background, until it is told to end.

    `ask_again`: the share of questions about any range that was ever sent, which a cache may answer; the others are about the
    newest. Both carry the ETag of the answer before.
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
        self._truth = Truth()
        self._devices = list(devices.values())
        self._rng = random.Random(seed)
        self._again = ask_again
        self._url, self._headers = url, {"Authorization": f"Bearer {token}"}
        self._halt = asyncio.Event()
        self._background = background
        self._running = background.start(self._run())

    @property
    def answers(self) -> Answers:
        """What came so far."""
        return self._truth.answers

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
                device = self._rng.choice(self._devices)
                if device.sent:
                    await self._ask(client, self._draw(device))
                await asyncio.sleep(_PACE_S)

    def _draw(self, device: Device) -> Question:
        sensor = self._rng.choice(SENSORS)
        blocks = device.numbers(sensor) // BLOCK + 1
        block = self._rng.randrange(blocks) if self._rng.random() < self._again else blocks - 1
        return question(device, sensor, block)

    async def _ask(self, client: httpx.AsyncClient, asked: Question) -> None:
        begun = time.monotonic()
        try:
            answer = await client.get(asked.path, headers={"If-None-Match": self._truth.etag(asked)})
        except httpx.TransportError as error:
            self.answers.unavailable[type(error).__name__] += 1
        else:
            self._truth.hold(asked, answer)
        self.answers.slowest = max(self.answers.slowest, time.monotonic() - begun)


def question(device: Device, sensor: str, block: int) -> Question:
    """For the readings of a series from number `block` times BLOCK on, as many."""
    begin = (device.start_ms + block * BLOCK) * 1000
    span = f"from={begin}&to={begin + BLOCK * 1000}&max_points={2 * BLOCK}"
    return Question(device, sensor, f"/v1/machines/{device.machine}/readings/{sensor}?{span}")
