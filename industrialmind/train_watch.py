"""Tells of a fit as it goes: which candidate, which epoch, how long still at most."""

from collections.abc import Callable, Mapping
from typing import Any

from shared.clock import Clock


class TellingWatch:
    """A `cloud.training.watch.Watch` whose looks are events of the trainer."""

    def __init__(self, machine: str, tell: Callable[[Mapping[str, Any]], None], clock: Clock) -> None:
        self._machine, self._tell, self._clock = machine, tell, clock
        self._began, self._seen = clock.monotonic(), 0

    def fitting(self, method: str, number: int, of: int, /) -> None:
        """The event `fitting`."""
        self._began, self._seen = self._clock.monotonic(), 0
        self._tell(
            {"event": "fitting", "machine": self._machine, "method": method, "number": number, "of": of}
        )

    def epoch(self, method: str, epoch: int, of: int, figures: Mapping[str, float], /) -> None:
        """The event `epoch`; `left_s` is what is left where no patience ends it earlier."""
        self._seen += 1  # a training that goes on from a checkpoint does not begin with the first
        each = (self._clock.monotonic() - self._began) / self._seen
        self._tell(
            {
                "event": "epoch",
                "machine": self._machine,
                "method": method,
                "epoch": epoch,
                "of": of,
                "left_s": round(each * (of - epoch), 1),
                "figures": dict(figures),
            }
        )

    def trial(
        self, method: str, number: int, of: int, settings: Mapping[str, float], value: float | None, /
    ) -> None:
        """The event `trial`."""
        self._tell(
            {
                "event": "trial",
                "machine": self._machine,
                "method": method,
                "number": number,
                "of": of,
                "settings": dict(settings),
                "value": value,
            }
        )

    def judged(self, method: str, metrics: Mapping[str, float], /) -> None:
        """Nothing: the event `fitted` has the figures of all."""
