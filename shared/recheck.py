"""Ending what runs once something stops being so: a block that is cut off, as by a time-out, when it is good no more."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

Good = Callable[[], Awaitable[bool]]


class Recheck:
    """An async context manager. Asks `good` every `seconds`, and at the first no cancels the block and sets `cut`.

    A block that ends sooner costs one timer. The cancellation ends here; anybody else's goes through.
    """

    def __init__(self, good: Good, seconds: float) -> None:
        self.cut = False
        self._good, self._seconds = good, seconds
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._again()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
        if not self.cut or self._task is None:
            return False
        return self._task.uncancel() == 0 and kind is asyncio.CancelledError

    def _again(self) -> None:
        self._timer = self._loop.call_later(self._seconds, self._ask)

    def _ask(self) -> None:
        self._asking = self._loop.create_task(self._check(), name="recheck")

    async def _check(self) -> None:
        if await self._good():
            self._again()
        elif self._task is not None:
            self.cut = True
            self._task.cancel()
