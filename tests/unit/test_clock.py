import asyncio
import time

from shared.clock import MICROSECONDS, ManualClock, SystemClock


async def test_the_system_clock_is_the_machines() -> None:
    clock = SystemClock()
    before = time.time_ns() // 1000
    assert before <= clock.now_us() <= before + 60 * MICROSECONDS
    first = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= first


async def test_the_manual_clock_stands_still_until_moved() -> None:
    clock = ManualClock(start_us=5)
    assert (clock.now_us(), clock.monotonic()) == (5, 0.0)
    await clock.advance(1.5)
    assert (clock.now_us(), clock.monotonic()) == (5 + 1_500_000, 1.5)


async def test_sleepers_wake_in_order_and_see_their_own_deadline() -> None:
    clock = ManualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 3.0), ("early", 1.0), ("also early", 1.0)):
            group.create_task(sleeper(name, seconds))
        await asyncio.sleep(0)
        await clock.advance(0.5)
        assert woken == []
        await clock.advance(1.0)
        assert woken == [("early", 1.0), ("also early", 1.0)]
        await clock.advance(10.0)
    assert woken[-1] == ("late", 3.0)
    assert clock.monotonic() == 11.5


async def test_a_chain_of_sleeps_runs_within_one_advance() -> None:
    clock = ManualClock()
    ticks: list[float] = []

    async def ticker() -> None:
        for _ in range(3):
            await clock.sleep(1.0)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(ticker())
    await asyncio.sleep(0)
    await clock.advance(3.0)
    await task
    assert ticks == [1.0, 2.0, 3.0]


async def test_a_cancelled_sleeper_is_passed_over() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1.0))
    await asyncio.sleep(0)
    task.cancel()
    await clock.advance(2.0)
    assert task.cancelled()


async def test_a_sleep_of_nothing_returns_at_once() -> None:
    clock = ManualClock()
    await asyncio.wait_for(clock.sleep(0), 5)
    await asyncio.wait_for(clock.sleep(-1), 5)
    assert clock.monotonic() == 0.0
