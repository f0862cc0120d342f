"""What the control room knows of machines' remaining lives: the inference API's last answer on each."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

NOT_ENOUGH: Final = "not-enough-evidence"


class _Told(BaseModel):
    """Told by the inference API; what a later release adds is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Teller(_Told):
    """A machine whose life is told, and by which version."""

    machine: str
    version_hash: str


class TellingModel(_Told):
    """The version that told it."""

    name: str
    version: int
    version_hash: str
    provisional: bool = False
    units: int


class Span(_Told):
    """Remaining life in one measure of time; intervals are (lower end, upper end)."""

    median: float
    interval_80: tuple[float, float]
    interval_90: tuple[float, float]
    interval_95: tuple[float, float]


class Move(_Told):
    """What a sensor's change did to the figure, hours of running."""

    sensor: str
    hours: float


class Change(_Told):
    """The figure beside that of a day before."""

    ran_hours: float
    moved_hours: float
    bounded: bool
    because: tuple[Move, ...] = ()


class Life(_Told):
    """A machine's remaining life: `/v1/machines/{machine}/life`."""

    machine: str
    model: TellingModel
    outcome: str
    reason: str = ""
    unusual: tuple[str, ...] = ()
    run_hours: Span
    calendar_days: Span
    more_than_hours: float | None = None
    duty: float
    failure_criterion: str
    load_assumption: str
    age_hours: float
    since_us: int | None = None
    renewed_by: str = ""
    at_us: int | None = None
    silent: tuple[str, ...] = ()
    change: Change | None = None

    @property
    def enough(self) -> bool:
        """Whether there is evidence for the figures."""
        return self.outcome != NOT_ENOUGH


_TELLERS: Final = TypeAdapter(list[Teller])


class Lives:
    """The last answers. Bounded by the machines that have a life model.

    Attributes:
        tellers: Machines that have a life model, to its hash; None before the inference API was heard.
        away_us: Since when the inference API is away; None while it is there.
    """

    def __init__(self) -> None:
        self.tellers: Mapping[str, str] | None = None
        self.away_us: int | None = None
        self._told: dict[str, Life | str] = {}

    def of(self, machine: str) -> Life | str | None:
        """A machine's life, or why there is no figure; None: not told, or no life model."""
        return self._told.get(machine)

    def take_tellers(self, told: Any) -> None:  # noqa: ANN401 - JSON
        """Machines that have a life model. What was told by other models is forgotten. Raises ValidationError."""
        self.tellers = {each.machine: each.version_hash for each in _TELLERS.validate_python(told)}
        self._told = {
            name: life
            for name, life in self._told.items()
            if name in self.tellers
            and (isinstance(life, str) or life.model.version_hash == self.tellers[name])
        }

    def take(self, machine: str, told: Any) -> None:  # noqa: ANN401 - JSON
        """A machine's life. Raises ValidationError."""
        self._told[machine] = Life.model_validate(told)

    def refuse(self, machine: str, why: str) -> None:
        """The machine has a model that can tell nothing."""
        self._told[machine] = why

    def miss(self, machine: str, why: str) -> None:
        """There was no answer on the machine; the last figure stays, if there is one."""
        self._told.setdefault(machine, why)

    def heard(self) -> None:
        """The inference API answered."""
        self.away_us = None

    def away(self, now_us: int) -> None:
        """The inference API can't be heard. What it told last stays."""
        if self.away_us is None:
            self.away_us = now_us
