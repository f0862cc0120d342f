"""What a training run of one machine comes to: the candidates, how each did, and which is the better."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.manifest import TrainingData

__all__ = ["Candidate", "Trained"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fitted model and how it did.

    Attributes:
        method: Name of the method, as in the model's name: `window-pca`, `window-pca-long`, `conv-autoencoder`.
        artifact: Bytes of `shared.artifact`; its manifest has the same `metrics`.
        parameters: What the method was run with.
        metrics: Figures of this candidate, and of its rivals under their method's name.
        curves: Values by epoch, such as `train_loss`; empty for a method without epochs.
        run: The description of the run that fitted it, as JSON (`cloud.training.run`); empty where nobody knows it.
    """

    method: str
    artifact: bytes
    parameters: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    curves: Mapping[str, tuple[float, ...]]
    run: str = ""


@dataclass(frozen=True, slots=True)
class Trained:
    """All candidates fitted on the same rows of one machine. `best` indexes `candidates`."""

    machine: str
    candidates: tuple[Candidate, ...]
    best: int
    data: TrainingData

    @property
    def chosen(self) -> Candidate:
        """The candidate to deliver."""
        return self.candidates[self.best]
