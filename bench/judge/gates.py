"""What must hold and what is aimed at, set by set, as the figure's name, the sense, the gate and the goal."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Gate:
    """One line of the specification; `goal` is None where it has none beyond the gate."""

    figure: str
    sense: Literal["≥", "≤"]
    gate: float
    goal: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the gate does; never for NaN."""
        return value >= self.gate if self.sense == "≥" else value <= self.gate

    def distance(self, value: float) -> float | None:
        """What is lacking to the goal, 0 where it is reached."""
        if self.goal is None:
            return None
        lacking = self.goal - value if self.sense == "≥" else value - self.goal
        return max(lacking, 0.0)


GATES: Final[dict[str, tuple[Gate, ...]]] = {
    "SKAB": (Gate("f1", "≥", 0.76, 0.80), Gate("far", "≤", 0.15, 0.13)),
    "SMD": (
        Gate("pr_auc", "≥", 0.42, 0.48),
        Gate("least over the better floor", "≥", 0.9),
        Gate("far_max", "≤", 0.03),
    ),
    "TEP": (
        Gate("detection at 1 % FAR", "≥", 0.85, 0.88),
        Gate("points over PCA", "≥", 0.02),
        Gate("far_all", "≤", 0.03),
    ),
    "NAB": (Gate("events found", "≥", 2.0, 3.0), Gate("false_week", "≤", 0.5, 1.0)),
}
