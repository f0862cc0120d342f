"""The trainer children of `up`: one at a time, tried again when they die, and one whenever MLflow is behind the log.

A promotion needs no message to the trainer: it moves the end of the `models` topic past the position that the last
trainer noted, and so does whatever a killed trainer left undone.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import orjson
import structlog

from industrialmind.children import Processes
from industrialmind.train_words import outcome
from industrialmind.trainer_job import Job, read_reconciled, trainer_works
from shared.clock import Clock
from shared.errors import Unavailable
from shared.eventlog import EventLog, open_event_log
from shared.names import MODELS
from shared.service import EXIT_UNAVAILABLE, wait_or_stop
from shared.supervise import Supervisor

log = structlog.get_logger()

CHILD: Final = "trainer"
LOOK_SECONDS: Final = 1.0
BEHIND_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 1.0
RETRY_CAP_SECONDS: Final = 300.0
TRAINER_SECONDS: Final = 900.0
DUE_SECONDS: Final = 6 * 3600.0
"""How often it is looked at which machines are to be trained again."""
DEATHS: Final = 3
"""How often a trainer that dies of a signal is started again."""


class TrainerJobs:
    """Starts trainers as children of `supervisor`, never two at once."""

    def __init__(
        self,
        supervisor: Supervisor,
        processes: Processes,
        clock: Clock,
        stop: asyncio.Event,
        say: Callable[[str], None],
    ) -> None:
        self._supervisor, self._processes = supervisor, processes
        self._clock, self._stop, self._say = clock, stop, say
        self._one_at_a_time = asyncio.Lock()

    async def train(self, machines: Sequence[str], *, missing: bool) -> bool:
        """Train `machines`; again while the server is away or the child is killed. False if it failed or `stop` came."""
        deaths = 0
        job = Job(machines, missing=missing)
        while not self._stop.is_set():
            code = await self._run_child(job)
            if code == 0:
                return True
            deaths += code < 0
            if code != EXIT_UNAVAILABLE and not 0 < deaths <= DEATHS:
                logs = self._processes.data.logs / f"{CHILD}.log"
                self._say(f"training failed with exit code {code}; the plant runs on: see {logs}")
                return False
            if not self._stop.is_set():
                why = "was killed" if code < 0 else "found the server away"
                self._say(f"training {why} and starts again ...")
            await wait_or_stop(self._stop, RETRY_SECONDS)
        return False

    async def run(self) -> None:
        """Until `stop`: reconcile when MLflow has been behind the log for a while, and train again what is due."""
        nats = self._processes.nats
        url, credentials = self._processes.plant.log_access(nats.nats_url, nats.credentials("cli").userinfo)
        async with open_event_log(url, credentials=credentials) as events:
            since: float | None = None
            pause = RETRY_SECONDS
            looked = self._clock.monotonic()
            while not await wait_or_stop(self._stop, LOOK_SECONDS):
                if not await self._behind(events):
                    since, pause = None, RETRY_SECONDS
                    if self._clock.monotonic() - looked >= DUE_SECONDS:
                        looked = self._clock.monotonic()
                        await self._run_child(Job(due=True))
                    continue
                since = self._clock.monotonic() if since is None else since
                if self._clock.monotonic() - since < BEHIND_SECONDS:
                    continue
                code = await self._run_child(Job(reconcile=True))
                if code != 0:
                    log.warning("MLflow could not be brought up to date", code=code, again_in_seconds=pause)
                    await wait_or_stop(self._stop, pause)
                    pause = min(2 * pause, RETRY_CAP_SECONDS)

    async def _behind(self, events: EventLog) -> bool:
        """Whether none works, and the log has more than the last one noted, or that one did not end."""
        data = self._processes.data
        if self._one_at_a_time.locked() or trainer_works(data):
            return False
        noted = read_reconciled(data)
        try:
            return noted is None or dict(await events.end(MODELS)) != dict(noted)
        except Unavailable:
            return False

    async def _run_child(self, job: Job) -> int:
        """The exit code of one trainer; EXIT_UNAVAILABLE if `stop` came first or it took too long."""
        async with self._one_at_a_time:
            if self._stop.is_set():
                return EXIT_UNAVAILABLE
            await self._supervisor.start(self._processes.trainer(job, self._on_line))
            ended = asyncio.create_task(self._supervisor.wait(CHILD))
            stopping = asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait(
                    {ended, stopping}, timeout=TRAINER_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if ended.done():
                    return ended.result()
                if not self._stop.is_set():
                    self._say(f"training took longer than {TRAINER_SECONDS:.0f} s and is ended")
                    await self._supervisor.stop_one(CHILD)
                return EXIT_UNAVAILABLE
            finally:
                ended.cancel()
                stopping.cancel()

    def _on_line(self, line: str) -> None:
        """A line of the trainer's JSON: what has come of a step is said."""
        try:
            event = orjson.loads(line)
            text = outcome(event)
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return
        if text:
            self._say(text)
