"""What a birth defines, and what later messages mean by it: names, aliases, types."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from shared.errors import Rejected
from shared.sparkplug.datatypes import METRICS, DataType, Value, data_type, typed
from shared.sparkplug.payload import Metric, Payload, Properties

BD_SEQ: Final = "bdSeq"
REBIRTH: Final = "Node Control/Rebirth"
CONTROL: Final = ("Node Control/", "Device Control/")
"""Metrics under these are there to be written, not to be read."""
QUALITY: Final = "Quality"


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric as its birth defined it."""

    name: str
    kind: DataType
    properties: Properties


@dataclass(frozen=True, slots=True)
class Table:
    """The metrics of one birth, by name and by alias. `refused`: names and aliases of those that broke a rule."""

    by_name: Mapping[str, Definition] = field(default_factory=dict)
    by_alias: Mapping[int, Definition] = field(default_factory=dict)
    refused: frozenset[str | int] = frozenset()

    def __len__(self) -> int:
        return len(self.by_name)


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric. `value` is None for null; `suspect` if messages before it were lost.

    `time_ms` is the metric's time, else its message's, else None. `quality` is Sparkplug's code (192 good, 0 bad,
    500 stale), None where the sender gave none.
    """

    name: str
    kind: DataType
    value: "Value | None"
    time_ms: int | None
    quality: int | None = None
    historical: bool = False
    transient: bool = False
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """A metric that could not be taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Contents:
    """A message's metrics: what could be read and what not.

    `unknown` if some are in no birth; `refused` counts those that their birth had wrong: that was told then.
    """

    samples: tuple[Sample, ...] = ()
    faults: tuple[Fault, ...] = ()
    unknown: bool = False
    refused: int = 0


def read_birth(payload: Payload, *, suspect: bool = False) -> tuple[Table, Contents]:
    """The definitions of a birth, and its first values. A metric that breaks a rule is a fault and defines nothing."""
    by_name: dict[str, Definition] = {}
    by_alias: dict[int, Definition] = {}
    refused: set[str | int] = set()
    samples, faults = [], []
    for metric in payload.metrics:
        try:
            definition = _defined(metric, by_name, by_alias)
        except Rejected as error:
            faults.append(Fault(_called(metric), error.reason))
            refused |= {each for each in (metric.name, metric.alias) if each is not None}
            continue
        by_name[definition.name] = definition
        if metric.alias is not None:
            by_alias[metric.alias] = definition
        try:
            samples.append(_sample(metric, definition, payload, suspect=suspect))
        except Rejected as error:
            faults.append(Fault(definition.name, error.reason))
    return Table(by_name, by_alias, frozenset(refused)), Contents(tuple(samples), tuple(faults))


def read_data(table: Table, payload: Payload, *, suspect: bool) -> Contents:
    """The values of a data message under the birth's definitions."""
    samples, faults, unknown, refused = [], [], False, 0
    for metric in payload.metrics:
        found = _found(metric, table)
        if found is None and (metric.name in table.refused or metric.alias in table.refused):
            refused += 1
            continue
        unknown |= found is None
        try:
            samples.append(_sample(metric, found, payload, suspect=suspect))
        except Rejected as error:
            faults.append(Fault(_called(metric) if found is None else found.name, error.reason))
    return Contents(tuple(samples), tuple(faults), unknown, refused)


def bd_seq(payload: Payload) -> int | None:
    """The birth-and-death number in a birth or death of a node; None if it has none."""
    for metric in payload.metrics:
        if metric.name == BD_SEQ and metric.carried is not None and metric.carried.field in {"int", "long"}:
            return int(metric.carried.value)  # type: ignore[arg-type]
    return None


def _defined(
    metric: Metric, names: Mapping[str, Definition], aliases: Mapping[int, Definition]
) -> Definition:
    if metric.fault:
        raise Rejected(metric.fault)
    if metric.name is None:
        raise Rejected("a birth's metric has no name")
    if metric.datatype is None:
        raise Rejected("a birth's metric has no data type")
    kind = data_type(metric.datatype)
    if kind not in METRICS:
        raise Rejected(f"a metric can't be {kind.name}")
    if metric.name in names:
        raise Rejected("is in this birth twice")
    if metric.alias is not None and metric.alias in aliases:
        raise Rejected(f"has the alias {metric.alias} of {aliases[metric.alias].name[:80]!r}")
    return Definition(metric.name, kind, metric.properties)


def _found(metric: Metric, table: Table) -> Definition | None:
    """By alias where there is one: it is what the sender means when it sends both."""
    if metric.alias is not None and metric.alias in table.by_alias:
        return table.by_alias[metric.alias]
    return None if metric.name is None else table.by_name.get(metric.name)


def _sample(metric: Metric, definition: Definition | None, payload: Payload, *, suspect: bool) -> Sample:
    """Raises Rejected."""
    if metric.fault:
        raise Rejected(metric.fault)
    if definition is None:
        raise Rejected("is in no birth")
    if metric.datatype is not None and metric.datatype != definition.kind:
        raise Rejected(f"is of type {metric.datatype}, and its birth said {definition.kind.name}")
    if metric.carried is None and not metric.is_null:
        raise Rejected("has no value and is not null")
    return Sample(
        definition.name,
        definition.kind,
        None if metric.is_null or metric.carried is None else typed(metric.carried, definition.kind),
        payload.timestamp if metric.timestamp is None else metric.timestamp,
        _quality(metric),
        metric.is_historical,
        metric.is_transient,
        suspect,
    )


def _quality(metric: Metric) -> int | None:
    found = metric.properties.get(QUALITY)
    return found.value if found is not None and type(found.value) is int else None


def _called(metric: Metric) -> str:
    return metric.name if metric.name is not None else f"alias {metric.alias}"
