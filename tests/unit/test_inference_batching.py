"""Micro-batching: alone at once and exact, together while the model is busy, refused when too many wait."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from cloud.inference.batching import Batcher, Queue
from cloud.inference.metrics import Metrics
from shared.errors import Rejected, Unavailable
from shared.onnxruntime import Scorer, Scores
from shared.windows import Floats
from tests.unit.edge_models import loaded, plant

WINDOWS = np.lib.stride_tricks.sliding_window_view(plant(60, 3), 8, axis=0).transpose(0, 2, 1).copy()


class Slow:
    """The model's scorer, each run of which waits until it is let go."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.gate = threading.Semaphore(0)
        self.sizes: list[int] = []

    def score(self, windows: Floats) -> Scores:
        self.sizes.append(len(windows))
        assert self.gate.acquire(timeout=10)
        return self._scorer.score(windows)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def parts(pool: ThreadPoolExecutor, *, most: int = 16, limit: int = 40) -> tuple[Slow, Batcher, Queue]:
    metrics = Metrics(CollectorRegistry())
    queue, slow = Queue(limit, metrics), Slow(loaded().scorer)
    return slow, Batcher(slow, pool, queue, metrics, most=most), queue  # type: ignore[arg-type]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_alone_it_runs_at_once_and_to_the_last_bit(pool: ThreadPoolExecutor) -> None:
    slow, batcher, queue = parts(pool)
    slow.gate.release(len(WINDOWS))
    for window in WINDOWS:
        got, wanted = await batcher.score(window[None]), loaded().scorer.score(window[None])
        for name in ("score", "alarm", "contributions", "expected", "seen"):
            np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))
    assert set(slow.sizes) == {1}
    assert queue.windows == 0


async def test_what_comes_while_it_is_busy_shares_the_next_runs(pool: ThreadPoolExecutor) -> None:
    slow, batcher, _ = parts(pool, most=16)
    alone = [loaded().scorer.score(WINDOWS[at : at + 3]) for at in range(0, 36, 3)]
    tasks = [asyncio.create_task(batcher.score(WINDOWS[at : at + 3])) for at in range(0, 36, 3)]
    await turns()
    slow.gate.release(10)
    found = await asyncio.gather(*tasks)
    assert slow.sizes == [3, 15, 15, 3]
    for got, wanted in zip(found, alone, strict=True):
        np.testing.assert_allclose(got.score, wanted.score, rtol=1e-6)
        np.testing.assert_allclose(got.expected, wanted.expected, rtol=1e-6)
        np.testing.assert_allclose(got.contributions, wanted.contributions, atol=1e-6)
        assert got.alarm.tolist() == wanted.alarm.tolist()


async def test_a_request_larger_than_a_shared_run_goes_alone(pool: ThreadPoolExecutor) -> None:
    slow, batcher, _ = parts(pool, most=4)
    tasks = [asyncio.create_task(batcher.score(WINDOWS[:size])) for size in (1, 9, 2, 2)]
    await turns()
    slow.gate.release(10)
    await asyncio.gather(*tasks)
    assert slow.sizes == [1, 9, 4]


async def test_when_too_many_wait_the_next_is_told_when_to_come_again(pool: ThreadPoolExecutor) -> None:
    slow, batcher, queue = parts(pool, limit=10)
    first = [asyncio.create_task(batcher.score(WINDOWS[:5])) for _ in range(2)]
    await turns()
    with pytest.raises(Unavailable, match="10 windows wait") as refused:
        await batcher.score(WINDOWS[:1])
    assert refused.value.retry_after == 1.0
    slow.gate.release(10)
    await asyncio.gather(*first)
    assert queue.windows == 0
    assert len(await batcher.score(WINDOWS[:1])) == 1


async def test_who_leaves_makes_room_and_holds_up_nobody(pool: ThreadPoolExecutor) -> None:
    slow, batcher, queue = parts(pool, most=8)
    tasks = [asyncio.create_task(batcher.score(WINDOWS[:4])) for _ in range(4)]
    await turns()
    tasks[0].cancel()
    tasks[1].cancel()
    await turns()
    assert queue.windows == 8
    slow.gate.release(10)
    assert [len(each) for each in await asyncio.gather(*tasks[2:])] == [4, 4]
    assert slow.sizes == [4, 8]
    assert queue.windows == 0


async def test_a_failing_graph_fails_its_own_run_alone(pool: ThreadPoolExecutor) -> None:
    slow, batcher, queue = parts(pool)
    slow.gate.release(10)
    with pytest.raises(Rejected, match="don't fit"):
        await batcher.score(WINDOWS[:1, :4])
    assert len(await batcher.score(WINDOWS[:2])) == 2
    assert queue.windows == 0
