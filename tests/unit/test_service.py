"""A service's life: loops, grace, crashes, and a real process under SIGTERM."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from shared.errors import Misconfigured, Unavailable
from shared.service import (
    EXIT_OK,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    Loop,
    LoopEndedError,
    Patience,
    ended,
    run_loops,
    run_main,
    until_stop,
    wait_or_stop,
)

ROOT = Path(__file__).parents[2]


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_loop_that_ends_before_stop_is_an_error() -> None:
    async def ends() -> None:
        pass

    with pytest.raises(LoopEndedError, match="'reader' ended before"):
        await run_loops(asyncio.Event(), reader=ends, other=forever)


async def test_what_a_loop_raises_comes_out_and_the_others_are_cancelled() -> None:
    cancelled = asyncio.Event()

    async def crashes() -> None:
        raise KeyError("row")

    async def watched() -> None:
        try:
            await forever()
        finally:
            cancelled.set()

    with pytest.raises(KeyError, match="row"):
        await run_loops(asyncio.Event(), watched=watched, crashes=crashes)
    assert cancelled.is_set()


async def test_stop_lets_loops_drain() -> None:
    stop = asyncio.Event()
    drained = []

    async def drains() -> None:
        await stop.wait()
        await asyncio.sleep(0)
        drained.append("done")

    asyncio.get_running_loop().call_soon(stop.set)
    await run_loops(stop, first=drains, second=drains)
    assert drained == ["done", "done"]


async def test_a_straggler_is_cancelled_after_the_grace_time() -> None:
    stop = asyncio.Event()
    stop.set()
    cancelled = asyncio.Event()

    async def straggler() -> None:
        try:
            await forever()
        finally:
            cancelled.set()

    await run_loops(stop, grace=0.01, straggler=straggler)
    assert cancelled.is_set()


async def test_a_failure_while_draining_comes_out() -> None:
    stop = asyncio.Event()

    async def fails_late() -> None:
        await stop.wait()
        for _ in range(10):  # so that the drain has begun
            await asyncio.sleep(0)
        raise Unavailable("the log is away")

    asyncio.get_running_loop().call_soon(stop.set)
    with pytest.raises(Unavailable, match="away"):
        await run_loops(stop, fails_late=fails_late)


async def test_loops_that_ended_with_stop_leave_nothing_to_drain() -> None:
    stop = asyncio.Event()

    async def stops_all() -> None:
        stop.set()

    await run_loops(stop, only=stops_all)


async def test_cancelling_the_service_cancels_its_loops() -> None:
    cancelled = asyncio.Event()
    running = asyncio.Event()

    async def watched() -> None:
        running.set()
        try:
            await forever()
        finally:
            cancelled.set()

    task = asyncio.create_task(run_loops(asyncio.Event(), watched=watched))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


async def test_wait_or_stop() -> None:
    stop = asyncio.Event()
    assert await wait_or_stop(stop, 0.001) is False
    assert await wait_or_stop(stop, 0) is False
    stop.set()
    assert await wait_or_stop(stop, 60) is True
    assert await wait_or_stop(stop, 0) is True


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, EXIT_OK),
        (Misconfigured("no such log", hint="use nats://"), EXIT_USAGE),
        (Unavailable("the log is away"), EXIT_UNAVAILABLE),
    ],
)
def test_exit_codes(error: Exception | None, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    async def main(stop: asyncio.Event) -> None:
        assert not stop.is_set()
        if error:
            raise error

    assert run_main(main) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (f"{error}\n" if error else "")


def test_a_bug_comes_out_of_main() -> None:
    async def main(_stop: asyncio.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_main(main)


CHILD = """
    import asyncio, sys
    from shared.service import run_loops, run_main

    async def main(stop):
        async def loop():
            print("running", flush=True)
            await stop.wait()
            print("drained", flush=True)
            if {crash}:
                raise RuntimeError("a bug")
        await run_loops(stop, grace=5, loop=loop)
        print("closed", flush=True)

    sys.exit(run_main(main))
"""


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_a_real_process(sig: signal.Signals) -> None:
    code, out, _ = signalled(sig, crash=False)
    assert (code, out) == (EXIT_OK, ["drained", "closed"])


def test_a_crash_while_draining_is_seen_by_the_supervisor() -> None:
    code, out, err = signalled(signal.SIGTERM, crash=True)
    assert (code, out) == (1, ["drained"])
    assert "RuntimeError: a bug" in err


SETTLING = """
    import asyncio, gc, sys
    from shared import service

    service.SETTLED_SECONDS = 0.0

    async def main(stop):
        async with asyncio.timeout(10):
            while not gc.get_freeze_count():
                await asyncio.sleep(0.01)

    sys.exit(service.run_main(main))
"""


def test_what_a_process_began_with_is_left_out_of_later_collections() -> None:
    script = textwrap.dedent(SETTLING)
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=30, check=False).returncode == 0


def signalled(sig: signal.Signals, *, crash: bool) -> tuple[int, list[str], str]:
    script = textwrap.dedent(CHILD).replace("{crash}", str(crash))
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        child.send_signal(sig)
        out, err = child.communicate(timeout=30)
        return child.returncode, out.splitlines(), err


async def test_an_endless_loop_is_cut_off_at_the_stop() -> None:
    stop, cut = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    ended = asyncio.create_task(_awaited(until_stop(stop, endless)))
    await asyncio.sleep(0)
    assert not cut.is_set()
    stop.set()
    async with asyncio.timeout(5):
        await ended
    assert cut.is_set()


async def test_what_an_endless_loop_raises_comes_through() -> None:
    async def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await until_stop(asyncio.Event(), broken)()


async def _awaited(loop: Loop) -> None:
    await loop()


class Away:
    """Answers at the `good`th call; away before it."""

    def __init__(self, good: int) -> None:
        self.good, self.calls = good, 0
        self.seen: list[str] = []

    async def ask(self, patience: Patience) -> str:
        self.seen.append(patience.waiting_for)
        self.calls += 1
        if self.calls < self.good:
            raise Unavailable(f"away {self.calls}")
        return "there"


async def test_what_is_away_is_waited_for_and_said() -> None:
    away, patience = Away(good=4), Patience(cap=0.001)
    assert await patience.retried(asyncio.Event(), "store", lambda: away.ask(patience)) == "there"
    assert [why.partition("away ")[2] for why in away.seen] == ["", "1", "2", "3"]
    assert patience.waiting_for == ""


async def test_told_to_stop_it_waits_no_longer() -> None:
    away, patience, stop = Away(good=1000), Patience(cap=3600), asyncio.Event()
    stop.set()
    assert await patience.retried(stop, "store", lambda: away.ask(patience)) is None
    assert away.calls == 1
    assert "away 1" in patience.waiting_for


async def test_only_what_is_away_is_waited_for() -> None:
    async def wrong() -> None:
        raise KeyError("row")

    with pytest.raises(KeyError, match="row"):
        await Patience(cap=0.001).retried(asyncio.Event(), "store", wrong)


async def test_what_answers_ends_no_other_wait() -> None:
    patience, stop, store, log = Patience(cap=0.001), asyncio.Event(), Away(good=10**9), Away(good=1)
    waiting = asyncio.create_task(patience.retried(stop, "store", lambda: store.ask(patience)))
    while not patience.waiting_for:
        await asyncio.sleep(0)
    assert await patience.retried(stop, "log", lambda: log.ask(patience)) == "there"
    assert "away" in patience.waiting_for
    stop.set()
    assert await waiting is None


async def test_a_task_that_lost_a_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while lost < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
        await asyncio.Event().wait()

    async def failing() -> None:
        raise KeyError("row")

    tasks = [asyncio.create_task(deaf()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    await ended(*tasks, again=0.01)
    assert [task.cancelled() for task in tasks] == [True, False]
    assert lost == 3
