"""A second model on trial: it scores the same rows beside the champion, its rows are marked, and nothing it says is raised."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from shared.events import AnomalyStarted
from shared.frames import Readings, Scores, ScoreState
from shared.loaded import LoadedModel
from shared.scoring import WindowScoring


@dataclass(slots=True)
class Figures:
    """What champion and shadow said since the shadow was installed.

    `windows` both scored; of these `both`, `champion` alone and `shadow` alone were above their limit. `episodes` is how
    often the shadow would have raised an anomaly, `unpaired` how many of its windows the champion had none for.
    """

    windows: int = 0
    both: int = 0
    champion: int = 0
    shadow: int = 0
    episodes: int = 0
    unpaired: int = 0


class Shadow:
    """A model on trial at one machine. Its memory is its own; only its marked rows and its figures leave it."""

    def __init__(
        self, edge: str, machine: str, model: LoadedModel, recent: Iterable[Readings], now_us: int
    ) -> None:
        self._scoring = WindowScoring(edge, machine)
        for readings in recent:
            self._scoring.remember(readings)
        self._scoring.run_model(model, now_us, again=True)
        self.model = model
        self.figures = Figures()

    def take(self, readings: Readings, champion: Sequence[Scores]) -> list[Scores]:
        """The shadow's scored windows of these rows, marked; `champion` is what the champion made of them."""
        parts, events = self._scoring.score_rows(readings)
        self.figures.episodes += sum(isinstance(event, AnomalyStarted) for event in events)
        said = {
            int(time_us): bool(score > part.limit)
            for part in champion
            for time_us, score in zip(part.time_us, part.score, strict=True)
            if np.isfinite(score)
        }
        marked = [_marked(part) for part in parts]
        for part in marked:
            for time_us, score in zip(part.time_us.tolist(), part.score.tolist(), strict=True):
                self._compare(said.get(time_us), alarm=score > part.limit)
        return [part for part in marked if len(part)]

    def report(self) -> dict[str, Any]:
        """For the edge's report."""
        desired = self.model.desired
        told = {"model": desired.model, "version": desired.version, "sha256": desired.sha256}
        return {**told, "score": self._scoring.score, "reason": self._scoring.reason, **asdict(self.figures)}

    def _compare(self, champion: bool | None, *, alarm: bool) -> None:  # noqa: FBT001 - the datum itself
        if champion is None:
            self.figures.unpaired += 1
            return
        self.figures.windows += 1
        self.figures.both += champion and alarm
        self.figures.champion += champion and not alarm
        self.figures.shadow += alarm and not champion


def _marked(part: Scores) -> Scores:
    """The windows that have a score, marked as a shadow's."""
    scored = np.flatnonzero(np.isfinite(part.score))
    return replace(
        part,
        time_us=part.time_us[scored],
        score=part.score[scored],
        state=np.full(len(scored), ScoreState.SHADOW, np.uint8),
        contribution=part.contribution[scored],
        expected=part.expected[scored],
    )
