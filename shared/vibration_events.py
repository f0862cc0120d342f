"""Events that an edge makes of waveform blocks: zones, steps, and a bearing's struck part."""

from typing import ClassVar

from shared.event import Event


class _VibrationEvent(Event):
    """A vibration sensor of a machine; `occurred_at` is the time of the block's first sample."""

    identity: ClassVar[tuple[str, ...]] = ("sensor", "occurred_at")

    edge: str
    sensor: str


class ZoneChanged(_VibrationEvent):
    """The velocity RMS (mm/s) came into another zone of ISO 20816-3; `before` is empty for the first one."""

    type: ClassVar[str] = "vibration.zone-changed"

    zone: str
    before: str
    velocity: float
    machine_class: str


class VibrationStepped(_VibrationEvent):
    """The velocity RMS (mm/s) left its baseline in the same operating condition by more than 25 % of the boundary B/C."""

    type: ClassVar[str] = "vibration.stepped"

    velocity: float
    baseline: float
    allowed: float
    condition: str


class BearingSuspected(_VibrationEvent):
    """A block shows strikes at the rate of a bearing's part; noise alone would do so with probability 10 ** `log10_p`."""

    type: ClassVar[str] = "bearing.suspected"

    part: str
    frequency_hz: float
    speed_hz: float
    log10_p: float


class BearingCleared(_VibrationEvent):
    """Three blocks in a row that could have shown the part's strikes did not."""

    type: ClassVar[str] = "bearing.cleared"

    part: str
