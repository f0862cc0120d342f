"""Who looks on while models are fitted."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Watch(Protocol):
    """Is told how far a fit is, in order, in the fit's thread. What it does changes nothing in the models.

    An error that it raises ends the fit.
    """

    def fitting(self, method: str, number: int, of: int, /) -> None:
        """The candidate numbered `number` (from 1) of `of` begins."""
        ...

    def epoch(self, method: str, epoch: int, of: int, figures: Mapping[str, float], /) -> None:
        """An epoch (from 1) of at most `of` ended, with its losses."""
        ...

    def trial(
        self, method: str, number: int, of: int, settings: Mapping[str, float], value: float | None, /
    ) -> None:
        """A search tried the settings numbered `number` (from 1) of `of`; `value` as the search judges it, None: no fit."""
        ...

    def judged(self, method: str, metrics: Mapping[str, float], /) -> None:
        """A candidate was compared with its rivals: its own figures and theirs."""
        ...


class Unwatched:
    """Nobody looks."""

    def fitting(self, method: str, number: int, of: int, /) -> None:
        """Nothing."""

    def epoch(self, method: str, epoch: int, of: int, figures: Mapping[str, float], /) -> None:
        """Nothing."""

    def trial(
        self, method: str, number: int, of: int, settings: Mapping[str, float], value: float | None, /
    ) -> None:
        """Nothing."""

    def judged(self, method: str, metrics: Mapping[str, float], /) -> None:
        """Nothing."""


class Together:
    """Several who look on, told in their order."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = tuple(watches)

    def fitting(self, method: str, number: int, of: int, /) -> None:
        """To each."""
        for watch in self._watches:
            watch.fitting(method, number, of)

    def epoch(self, method: str, epoch: int, of: int, figures: Mapping[str, float], /) -> None:
        """To each."""
        for watch in self._watches:
            watch.epoch(method, epoch, of, figures)

    def trial(
        self, method: str, number: int, of: int, settings: Mapping[str, float], value: float | None, /
    ) -> None:
        """To each."""
        for watch in self._watches:
            watch.trial(method, number, of, settings, value)

    def judged(self, method: str, metrics: Mapping[str, float], /) -> None:
        """To each."""
        for watch in self._watches:
            watch.judged(method, metrics)
