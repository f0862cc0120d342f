"""How far a command is: a bar on a terminal, JSON lines for a program, a line a phase for a file."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Self

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from shared.clock import Clock
from shared.settings import no_color

_EVERY_SECONDS: Final = 0.5


class Teller(AbstractContextManager["Teller"]):
    """Shows phases of known length. JSON goes to stdout, a line twice a second at most; all else to stderr."""

    def __init__(self, name: str, clock: Clock, *, json: bool) -> None:
        self._name, self._clock, self._json = name, clock, json
        console = Console(stderr=True, no_color=no_color())
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        shown = console.is_terminal and not json
        self._bar = Progress(*columns, console=console, transient=True) if shown else None
        self._task: TaskID | None = None
        self._phase = ""
        self._told_at = 0.0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def phase(self, phase: str) -> Callable[[int, int], None]:
        """Begin a phase; returns what takes (done, total) of it, in any thread."""
        self._phase, self._told_at = phase, 0.0
        if self._json:
            self._print({"event": "phase", "phase": phase})
        elif self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(f"{self._name}: {phase}", total=None)
        else:
            self._console.print(f"{self._name}: {phase}", markup=False, highlight=False)
        return self._tell

    def done(self, **figures: Any) -> None:  # noqa: ANN401 - JSON
        """The result: for a program as its last line."""
        if self._json:
            self._print({"event": "done", **figures})

    def _tell(self, done: int, total: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif self._json and (done >= total or self._clock.monotonic() - self._told_at >= _EVERY_SECONDS):
            self._told_at = self._clock.monotonic()
            self._print({"event": "progress", "phase": self._phase, "done": done, "total": total})

    def _print(self, line: dict[str, Any]) -> None:
        sys.stdout.write(orjson.dumps({"name": self._name, **line}).decode() + "\n")
        sys.stdout.flush()
