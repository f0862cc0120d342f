"""Micro-batching: while a model runs, requests for it gather; when it is free, they share its next run.

A request that finds the model free runs at once and alone, so it is never delayed, and one window is scored by the
same call as at the edge, bit for bit. In a shared run a score may differ by 1e-6 of itself: the runtime's kernels
differ by batch size.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cloud.inference.metrics import Metrics
from shared.errors import Unavailable
from shared.onnxruntime import Scorer, Scores
from shared.windows import Floats

RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    windows: Floats
    done: "asyncio.Future[Scores]"


class Queue:
    """The bound over all models: windows that wait or run."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._limit, self._metrics = limit, metrics
        self.windows = 0

    def enter(self, windows: int) -> None:
        """Count them in. Raises Unavailable when they don't fit any more."""
        if self.windows + windows > self._limit:
            raise Unavailable(
                f"{self.windows} windows wait to be scored: no more fit", retry_after=RETRY_SECONDS
            )
        self.windows += windows
        self._metrics.queued.set(self.windows)

    def leave(self, windows: int) -> None:
        """Count them out."""
        self.windows -= windows
        self._metrics.queued.set(self.windows)


class Batcher:
    """One model's session, run by one thread of the pool at a time."""

    def __init__(
        self, scorer: Scorer, pool: ThreadPoolExecutor, queue: Queue, metrics: Metrics, *, most: int
    ) -> None:
        self._scorer, self._pool, self._queue, self._metrics = scorer, pool, queue, metrics
        self._most = most
        self._waiting: deque[_Waiting] = deque()
        self._busy = False

    async def score(self, windows: Floats) -> Scores:
        """Scores of float64[n, W, S]. Raises Unavailable (the queue is full), Rejected (shape, a failing graph)."""
        count = len(windows)
        self._queue.enter(count)
        try:
            waiting = _Waiting(windows, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            self._run_next()
            return await waiting.done
        finally:
            self._queue.leave(count)

    def _run_next(self) -> None:
        """Run what waits, if the model is free."""
        if self._busy:
            return
        batch = self._take()
        if not batch:
            return
        self._busy = True
        windows = batch[0].windows if len(batch) == 1 else np.concatenate([each.windows for each in batch])
        self._metrics.batch.observe(len(windows))
        run = asyncio.get_running_loop().run_in_executor(self._pool, self._scorer.score, windows)
        run.add_done_callback(lambda run: self._ran(batch, run))

    def _take(self) -> list[_Waiting]:
        """The next requests, at most so many windows together; a larger one goes alone. Abandoned ones are dropped."""
        batch: list[_Waiting] = []
        count = 0
        while self._waiting:
            first = self._waiting[0]
            if not first.done.done():
                if batch and count + len(first.windows) > self._most:
                    break
                batch.append(first)
                count += len(first.windows)
            self._waiting.popleft()
        return batch

    def _ran(self, batch: list[_Waiting], run: "asyncio.Future[Scores]") -> None:
        self._busy = False
        self._run_next()
        if run.cancelled():
            error: BaseException | None = Unavailable("the service is stopping")
        else:
            error = run.exception()
        start = 0
        for each in batch:
            stop = start + len(each.windows)
            if each.done.done():
                pass  # whoever asked has gone
            elif error is not None:
                each.done.set_exception(error)
            else:
                each.done.set_result(_part(run.result(), start, stop))
            start = stop


def _part(scores: Scores, start: int, stop: int) -> Scores:
    return Scores(
        scores.score[start:stop],
        scores.limit,
        scores.alarm[start:stop],
        scores.contributions[start:stop],
        scores.expected[start:stop],
        scores.seen[start:stop],
    )
