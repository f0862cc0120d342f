"""What a mapping file may say. A mistake is Misconfigured, with the file's name and the line."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.mapping.document import read_document
from edge.mapping.paths import Template, TopicPattern, pointer
from edge.mapping.values import TIME_SCALES, Decimal, QualityCode, zone
from edge.settings import SensorLimits
from shared.errors import Misconfigured, Rejected
from shared.names import check_id, fitted
from shared.units import UNITS, convert

ANY: Final = "*"
"""The row of a table of sensors that stands for all names that have none of their own."""
UNKNOWN_UNIT: Final = "?"
"""A proposal's mark for a unit that nobody knows yet: such a file does not run."""
_HINT: Final = "the words of a mapping are in docs/reference/mapping.md"


def _id(text: str) -> str:
    try:
        return check_id(text)
    except Rejected as error:
        raise ValueError(error.reason) from error


def _unit(text: str) -> str:
    if text not in UNITS and text != UNKNOWN_UNIT:
        raise ValueError(f"unknown unit {text!r}: the table has {', '.join(UNITS)}")
    return text


def _pointer(text: str) -> str:
    pointer(text)
    return text


def _template(text: str) -> str:
    Template.parse(text)
    return text


def _pattern(text: str) -> str:
    TopicPattern.parse(text)
    return text


def _time_form(text: str) -> str:
    if text not in {*TIME_SCALES, "ns", "iso"} and "%" not in text:
        raise ValueError(f"{text!r} is none of s, ms, us, ns, iso, or a pattern such as '%d.%m.%Y %H:%M:%S'")
    return text


def _zone(text: str) -> str:
    if text:
        zone(text)
    return text


Id = Annotated[str, AfterValidator(_id)]
Unit = Annotated[str, AfterValidator(_unit)]
Pointer = Annotated[str, AfterValidator(_pointer)]
TemplateText = Annotated[str, AfterValidator(_template)]
Pattern = Annotated[str, AfterValidator(_pattern)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Limits(SensorLimits):
    """The limits of a sensor, in a row of the file."""

    model_config = ConfigDict(strict=True)


class SensorRow(Limits):
    """What a value of one name becomes."""

    sensor: Id | None = None
    unit: Unit | None = None
    unit_at: Pointer | None = None
    source_unit: Unit | None = Field(None, alias="from")
    scale: float = Field(1.0, allow_inf_nan=False)
    offset: float = Field(0.0, allow_inf_nan=False)
    words: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _converts(self) -> Self:
        if self.source_unit is not None:
            try:
                convert(0.0, self.source_unit, self.unit or UNKNOWN_UNIT)
            except Rejected as error:
                raise ValueError(f"from: {error.reason}") from error
        return self


class TimeRow(_Part):
    """Where an event's time stands and how it is written."""

    at: Pointer
    form: Annotated[str, AfterValidator(_time_form)] = Field(alias="as")
    zone: Annotated[str, AfterValidator(_zone)] = ""


class QualityRow(_Part):
    """Where a quality code stands, and of which table it is."""

    at: Pointer
    form: QualityCode = Field("word", alias="as")


class Rule(_Part):
    """Messages of one shape. Without `name` the keys of `sensors` are pointers into the payload."""

    topic: Pattern
    machine: TemplateText
    machines: dict[str, Id] = Field(default_factory=dict)
    payload: Literal["json", "text"] = "json"
    split: str | None = Field(None, min_length=1)
    each: Pointer | None = None
    name: TemplateText | None = None
    value: Pointer = ""
    time: TimeRow | None = None
    quality: QualityRow | None = None
    unit_at: Pointer | None = None
    decimal: Decimal | None = None
    sensors: dict[str, SensorRow] = Field(min_length=1)
    ignore: tuple[str, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = TopicPattern.parse(self.topic).names
        for text in filter(None, (self.machine, self.name)):
            for level in Template.parse(text).levels:
                if level not in named:
                    raise ValueError(
                        f"{text!r} names the level {level!r}, which is not in topic {self.topic!r}"
                    )
        if self.payload == "json" and self.split is not None:
            raise ValueError("`split` takes a text apart: say `payload: text`")
        if self.name is None and self.value:
            raise ValueError("`value` goes with `name`; without it the keys of `sensors` are pointers")
        taken: dict[str, str] = {}
        for key, row in self.sensors.items():
            self._check_row(key, row, taken)
        return self

    def _check_row(self, key: str, row: SensorRow, taken: dict[str, str]) -> None:
        if self.name is None:
            pointer(key)
        if row.unit is None and (row.unit_at or self.unit_at) is None:
            raise ValueError(f"sensor {key!r} has neither `unit` nor `unit_at`")
        if key == ANY:
            if row.sensor is not None:
                raise ValueError("the row '*' stands for many names: it names no sensor")
            return
        sensor = row.sensor or fitted(key)
        if sensor in taken:
            raise ValueError(f"{key!r} and {taken[sensor]!r} are both the sensor {sensor!r}: rename one")
        taken[sensor] = key


class SparkplugMetric(Limits):
    """What a metric becomes; `unit` stands above the one that its birth names."""

    sensor: Id | None = None
    unit: Unit | None = None


class SparkplugRule(_Part):
    """A node, or a device of one (`device`), of a Sparkplug group. With no `metrics` all are taken."""

    group: str = Field(min_length=1)
    node: str = Field(min_length=1)
    device: str = ""
    machine: Id
    metrics: dict[str, SparkplugMetric] = Field(default_factory=dict)
    ignore: tuple[str, ...] = Field((), strict=False)


class MappingFile(_Part):
    """A whole mapping. The first rule whose topic fits has a message."""

    version: Literal[1]
    rules: tuple[Rule, ...] = Field((), strict=False)
    sparkplug: tuple[SparkplugRule, ...] = Field((), strict=False)
    ignore: tuple[Pattern, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.rules and not self.sparkplug:
            raise ValueError("it maps nothing: write `rules` or `sparkplug`")
        seen: dict[tuple[str, str, str], str] = {}
        for row in self.sparkplug:
            if (key := (row.group, row.node, row.device)) in seen:
                raise ValueError(f"the Sparkplug node {'/'.join(filter(None, key))} is there twice")
            seen[key] = row.machine
        return self


def load_mapping(path: Path, *, draft: bool = False) -> MappingFile:
    """Read a mapping file; a `draft` may have units that are not known yet. Raises Misconfigured with the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Misconfigured(
            f"can't read the mapping {path}: {error.strerror}", hint="check --mapping"
        ) from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"the mapping {path} is not UTF-8 (byte {error.start})", hint=_HINT) from error
    return parse_mapping(text, str(path), draft=draft)


def parse_mapping(text: str, name: str = "mapping", *, draft: bool = False) -> MappingFile:
    """The mapping in `text`. Raises Misconfigured with `name` and the line."""
    document = read_document(text, name)
    if not isinstance(document.data, dict):
        raise Misconfigured(f"{name}, line 1: a mapping begins with `version: 1`", hint=_HINT)
    try:
        made = MappingFile.model_validate(document.data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = f"{where}: {first['msg']}" if where else str(first["msg"])
        raise Misconfigured(f"{name}, line {document.line(first['loc'])}: {said}", hint=_HINT) from error
    if not draft:
        _refuse_unknown(document.data, document.lines, name)
    return made


def _refuse_unknown(data: Any, lines: Any, name: str) -> None:  # noqa: ANN401 - plain data
    """Raises Misconfigured for the first unit that is marked as unknown."""
    for part, table in (("rules", "sensors"), ("sparkplug", "metrics")):
        for at, rule in enumerate(data.get(part) or ()):
            for key, row in (rule.get(table) or {}).items():
                if row and UNKNOWN_UNIT in {row.get("unit"), row.get("from")}:
                    line = lines[part, at, table, key, "unit" if row.get("unit") == UNKNOWN_UNIT else "from"]
                    raise Misconfigured(
                        f"{name}, line {line}: the unit of {key!r} is not known yet",
                        hint=f"write one of {', '.join(UNITS)} for '?'",
                    )
