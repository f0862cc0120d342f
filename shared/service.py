"""A service's life: start, loops, drain, stop.

Resources are opened by the caller (an AsyncExitStack outside), loops run inside `run_loops`, resources close last.
SIGTERM or SIGINT sets `stop`: sources stop, what is in flight drains within the grace time, the rest is cancelled.
A loop that returns before `stop` is an error. Only a lost connection is retried, inside its adapter; everything
else ends the process, and the supervisor restarts it.
"""

import asyncio
import gc
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from shared.errors import Misconfigured, Rejected, Unavailable

T = TypeVar("T")

log = structlog.get_logger()

_FIRST_WAIT: Final = 0.05
SETTLED_SECONDS: Final = 10.0
"""After its start a process has loaded what it needs."""

EXIT_OK = 0
EXIT_CRASH = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3

Loop = Callable[[], Awaitable[None]]


async def ended(*tasks: "asyncio.Future[Any]", again: float = 5.0) -> None:
    """Cancel tasks and return when they are done, whatever came of them.

    One cancellation may not do: `asyncio.wait_for` of Python 3.11, which drivers wait with, loses one that comes together
    with what it waits for (CPython issue 86296). So what goes on is cancelled again after so many seconds, and again.
    """
    going: set[asyncio.Future[Any]] = set(tasks)
    while going:
        for task in going:
            task.cancel()
        _, going = await asyncio.wait(going, timeout=again)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # was looked at: nobody is told of it when the task goes


class LoopEndedError(RuntimeError):
    """A loop returned although nobody asked the service to stop."""


async def run_loops(stop: asyncio.Event, *, grace: float = 10.0, **loops: Loop) -> None:
    """Run named loops until `stop`, then give them `grace` seconds to end by themselves and cancel the rest.

    Raises what the first failing loop raised (others are cancelled), or LoopEndedError.
    """

    async def guarded(name: str, loop: Loop) -> None:
        await loop()
        if not stop.is_set():
            raise LoopEndedError(f"loop {name!r} ended before the service was told to stop")

    tasks = {asyncio.create_task(guarded(name, loop), name=name) for name, loop in loops.items()}
    stopper = asyncio.create_task(stop.wait(), name="stop")
    try:
        running = set(tasks)
        while running and not stop.is_set():
            done, _ = await asyncio.wait({*running, stopper}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopper}:
                running.discard(task)
                task.result()
        if running:
            _, late = await asyncio.wait(running, timeout=grace)
            for task in late:
                log.warning("loop cancelled after the grace time", loop=task.get_name(), seconds=grace)
            await ended(*late)
            results = await asyncio.gather(*running, return_exceptions=True)
            failures = [r for r in results if isinstance(r, Exception)]
            if failures:
                raise failures[0]
    finally:
        await ended(stopper, *tasks)


def until_stop(stop: asyncio.Event, loop: Loop) -> Loop:
    """A loop that runs for ever, ended by cancellation once `stop` is set; what it raises before comes through.

    It may be cut off at any await, so what it does must be safe to leave half done.
    """

    async def to_its_end() -> None:
        work = asyncio.ensure_future(loop())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            await ended(work, stopping)

    return to_its_end


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> bool:
    """Wait `seconds`, or less if `stop` is set meanwhile; returns whether it is."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return stop.is_set()  # a wait of 0 times out even when it is
    return True


class Patience:
    """Calls again what is away, after jittered waits that double up to `cap` seconds. Several may wait at once."""

    def __init__(self, cap: float) -> None:
        self._cap = cap
        self._waits: dict[str, str] = {}

    @property
    def waiting_for(self) -> str:
        """Why something does not move, "" while all does: what a health check answers."""
        return "; ".join(self._waits.values())

    async def retried(self, stop: asyncio.Event, what: str, call: Callable[[], Awaitable[T]]) -> T | None:
        """The call's result, after as many waits as it takes; None if told to stop while waiting.

        Only Unavailable is waited out, so `call` must be safe to repeat after it. `what` names whom it asks: what
        one answers ends no other's wait.
        """
        delay = min(_FIRST_WAIT, self._cap)
        while True:
            try:
                result = await call()
            except Unavailable as error:
                if not self._waits:
                    log.warning("waiting", why=str(error))
                self._waits[what] = str(error)
                if await wait_or_stop(stop, delay * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter
                    return None
                delay = min(self._cap, delay * 2)
            else:
                self._waits.pop(what, None)
                return result


def _keep_what_is_here() -> None:
    """Take what the process began with, its modules above all, out of every later collection of garbage.

    Walking it again holds everything up by 50 to 100 ms, every so often, in the midst of what was to take two.
    """
    gc.collect()
    gc.freeze()


def run_main(
    main: Callable[[asyncio.Event], Awaitable[None]],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Run a service to its end in this process, on a loop of asyncio's or of the factory's; returns its exit code."""

    async def with_signals() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, stop.set)
        _keep_what_is_here()
        settling = loop.call_later(SETTLED_SECONDS, _keep_what_is_here)
        try:
            await main(stop)
        finally:
            settling.cancel()

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(with_signals())
    except (Misconfigured, Rejected) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_UNAVAILABLE
    return EXIT_OK
