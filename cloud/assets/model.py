"""Assets, counters and work orders as values, and which fields each has. Pure.

Ids are the plant's own; a component's, sensor's or counter's id begins with what it belongs to: `pump-01.flow`,
`pump-01.de-bearing.run-hours`. The hierarchy is ISA-95's, the words of equipment and failures ISO 14224's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from shared.names import ID_PATTERN

Fields = Mapping[str, Any]
"""JSON-ready values by field's name."""

MAX_ATTRIBUTES: Final = 50


class Kind(StrEnum):
    """What an asset is, in the order in which they are made: each refers to those before it."""

    SITE = "site"
    EDGE = "edge"
    AREA = "area"
    MACHINE = "machine"
    COMPONENT = "component"
    SENSOR = "sensor"


KINDS: Final = frozenset(str(kind) for kind in Kind)

Source = Literal["observed", "edited"]
"""Whether a field's value was seen in births, readings, assignments or models, or is a person's word."""


class Status(StrEnum):
    """Where a work order is."""

    OPEN = "open"
    IN_PROGRESS = "in progress"
    CLOSED = "closed"
    CANCELLED = "cancelled"


OVER: Final = frozenset({Status.CLOSED, Status.CANCELLED})


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset after `revision` events. A person's word on a field (`edited`) stands above what is `observed`."""

    kind: Kind
    id: str
    observed: Fields = field(default_factory=dict)
    edited: Fields = field(default_factory=dict)
    revision: int = 0
    created_at: datetime | None = None
    changed_at: datetime | None = None
    changed_by: str = ""
    retired_at: datetime | None = None
    retired_why: str = ""

    @property
    def fields(self) -> Fields:
        """What holds, by field."""
        return {**self.observed, **self.edited}

    @property
    def sources(self) -> Mapping[str, Source]:
        """Where each field's value is from."""
        return {name: "edited" if name in self.edited else "observed" for name in self.fields}

    @property
    def machine(self) -> str:
        """The machine that it is, or is a part of; empty for the others."""
        return machine_of(self.kind, self.id)


@dataclass(frozen=True, slots=True)
class Reset:
    """A counter began at nought again; it stood at `value`."""

    at: datetime
    by: str
    reason: str
    value: float


@dataclass(frozen=True, slots=True)
class MeterReading:
    """A counter of a machine or component after `revision` events: `value` at `as_of`, and every reset, oldest first."""

    id: str
    value: float = 0.0
    as_of: datetime | None = None
    changed_by: str = ""
    resets: tuple[Reset, ...] = ()
    revision: int = 0

    @property
    def machine(self) -> str:
        """The machine it belongs to."""
        return self.id.partition(".")[0]

    @property
    def owner(self) -> tuple[Kind, str]:
        """The machine or component that it counts."""
        owner = self.id.rpartition(".")[0]
        return (Kind.COMPONENT if "." in owner else Kind.MACHINE), owner


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """Something to be done at a machine, after `revision` events. `anomaly`: the id of the event that was the reason."""

    id: str
    machine: str
    component: str = ""
    kind: str = "corrective"
    priority: str = "medium"
    title: str = ""
    description: str = ""
    anomaly: str = ""
    failure_code: str = ""
    actions: str = ""
    status: Status = Status.OPEN
    created_at: datetime | None = None
    created_by: str = ""
    changed_at: datetime | None = None
    changed_by: str = ""
    closed_at: datetime | None = None
    closed_by: str = ""
    cancelled_why: str = ""
    revision: int = 0


Thing = Asset | MeterReading | WorkOrder


def machine_of(kind: Kind, asset: str) -> str:
    """The machine that an id is, or is a part of; empty for the others."""
    if kind in {Kind.COMPONENT, Kind.SENSOR}:
        return asset.partition(".")[0]
    return asset if kind is Kind.MACHINE else ""


# The fields of each kind, as people may set them


def _plain(text: str) -> str:
    """Texts go to files, tables and terminals: tab and line ends are the only control characters."""
    if any((letter < " " and letter not in "\t\n\r") or letter == "\x7f" for letter in text):
        raise ValueError("control characters are not taken")
    return text


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is wanted")  # noqa: TRY004 - pydantic takes ValueError
    return value


Id = Annotated[str, Field(pattern=rf"^{ID_PATTERN}$")]
PartId = Annotated[str, Field(pattern=rf"^{ID_PATTERN}\.{ID_PATTERN}$")]
Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
LongText = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_plain)]
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_truth)]
_Whole = Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]
_Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Value = bool | _Whole | _Real | Annotated[str, Field(max_length=500), AfterValidator(_plain)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$")]
Attributes = Annotated[dict[_Name, _Value], Field(min_length=1, max_length=MAX_ATTRIBUTES)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text | None = None
    description: LongText | None = None


class SiteFields(_Fields):
    """A place with machines."""


class AreaFields(_Fields):
    """A part of a site."""

    site: Id | None = None


class EdgeFields(_Fields):
    """An edge agent."""

    site: Id | None = None
    software: Text | None = Field(None, description="the version that it said at its last start")


class MachineFields(_Fields):
    """A machine. `edge` speaks for it; `sparkplug` is the GROUP/NODE[/DEVICE] that does."""

    site: Id | None = None
    area: Id | None = None
    type: Text | None = None
    criticality: Literal["A", "B", "C"] | None = Field(None, description="A: its failure stops the plant")
    manufacturer: Text | None = None
    model: Text | None = None
    serial: Text | None = None
    installed_at: date | None = None
    edge: Id | None = None
    sparkplug: LongText | None = None
    attributes: Attributes | None = None


class ComponentFields(_Fields):
    """A part of a machine that is looked after by itself, for example a bearing, with its geometry as attributes."""

    type: Text | None = None
    manufacturer: Text | None = None
    model: Text | None = None
    serial: Text | None = None
    installed_at: date | None = None
    attributes: Attributes | None = None


class SensorFields(_Fields):
    """A sensor of a machine. What it can measure is its range; in its normal band the machine is well."""

    component: PartId | None = None
    unit: Annotated[Text, Field(max_length=40)] | None = None
    range_low: Number | None = None
    range_high: Number | None = None
    normal_low: Number | None = None
    normal_high: Number | None = None
    interval_seconds: Annotated[Number, Field(gt=0)] | None = None
    attributes: Attributes | None = None


FIELDS: Final[Mapping[Kind, type[_Fields]]] = {
    Kind.SITE: SiteFields,
    Kind.EDGE: EdgeFields,
    Kind.AREA: AreaFields,
    Kind.MACHINE: MachineFields,
    Kind.COMPONENT: ComponentFields,
    Kind.SENSOR: SensorFields,
}
COLUMNS: Final = tuple(dict.fromkeys(name for model in FIELDS.values() for name in model.model_fields))
"""Every field of any kind, in order: the columns of a CSV file after kind and id."""


class OrderFields(BaseModel):
    """What a work order says, apart from where it is."""

    model_config = ConfigDict(extra="forbid")

    component: PartId | Literal[""] | None = None
    kind: Literal["corrective", "preventive", "inspection", "condition-based"] | None = None
    priority: Literal["low", "medium", "high", "urgent"] | None = None
    title: Text | None = None
    description: Annotated[str, Field(max_length=4000), AfterValidator(_plain)] | None = None
    anomaly: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] | None = None
    failure_code: Annotated[str, Field(pattern=r"^([A-Z0-9.]{2,12})?$")] | None = Field(
        None, description="failure mode, ISO 14224 annex B: VIB, BRD, OHE"
    )
    actions: Annotated[str, Field(max_length=4000), AfterValidator(_plain)] | None = None
