"""A Sparkplug sample as a row: a reading if it is a number or a truth value, else an event."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.device_json import AHEAD_US, EARLIEST_US, END_US
from shared.errors import Rejected
from shared.events import SparkplugMetric, at
from shared.frames import Quality
from shared.sparkplug import codec
from shared.sparkplug.births import REBIRTH, Fault, Sample
from shared.sparkplug.channels import Channel
from shared.sparkplug.datatypes import NUMERIC, Carried, DataType, data_type, typed
from shared.sparkplug.payload import DataSet, Metric, Payload, Template, metric
from shared.sparkplug.topics import MessageType, NodeId, NodeTopic

MAX_EVENT: Final = 64 * 1024
GOOD: Final = 192
STALE: Final = 500
_GOOD_CODES: Final = range(192, 256)
_BAD_CODES: Final = range(64)
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One reading."""

    sensor: str
    unit: str
    time_us: int
    value: float
    quality: Quality


def time_us(sample: Sample, now_us: int) -> int:
    """The sample's time. Raises Rejected outside the years 2000 to 2100 and far ahead of this clock."""
    if sample.time_ms is None:
        raise Rejected("has no time, nor has its message")
    made = sample.time_ms * 1000
    if not EARLIEST_US <= made < END_US:
        raise Rejected(f"its time {sample.time_ms} is outside the years 2000 to 2100")
    if made > now_us + AHEAD_US:
        raise Rejected(f"its time {sample.time_ms} is more than 10 min ahead of this clock")
    return made


def is_reading(sample: Sample) -> bool:
    """Whether the sample's type makes it a reading."""
    return sample.kind in NUMERIC


def reading(sample: Sample, channel: Channel, now_us: int) -> Row:
    """The reading that a sample is. Truth values are 0 and 1. Raises Rejected."""
    value = float(sample.value)  # type: ignore[arg-type]
    if not math.isfinite(value):
        raise Rejected("is not finite")
    return Row(channel.sensor, channel.unit, time_us(sample, now_us), value, quality(sample))


def quality(sample: Sample) -> Quality:
    """Sparkplug's code as ours: 192 (and 193 to 255) good, 0 to 63 bad, others, 500 (stale) too, uncertain.

    After messages were lost no value is better than uncertain: one of them may have given an alias another meaning.
    """
    code = GOOD if sample.quality is None else sample.quality
    if code in _BAD_CODES:
        return Quality.BAD
    return Quality.GOOD if code in _GOOD_CODES and not sample.suspect else Quality.UNCERTAIN


def event(
    sample: Sample, node: NodeId, device: str, *, machine: str, source: str, edge: str, now_us: int
) -> SparkplugMetric:
    """The event that a sample of any other type is. Raises Rejected if it is too large."""
    made = SparkplugMetric(
        source=source,
        subject=machine,
        occurred_at=at(time_us(sample, now_us)),
        edge=edge,
        group=node.group,
        node=node.node,
        device=device,
        metric=sample.name,
        datatype=sample.kind.name,
        value=plain(sample.value),
        quality=quality(sample).name.lower(),
        historical=sample.historical,
    )
    size = len(made.to_json())
    if size > MAX_EVENT:
        raise Rejected(f"takes {size} bytes as an event: the most is {MAX_EVENT}")
    return made


def plain(value: object) -> Any:  # noqa: ANN401 - JSON
    """A value as JSON can hold it: bytes in base64, tables and templates as objects, no NaN."""
    match value:
        case bytes():
            return {"base64": base64.b64encode(value).decode()}
        case float() if not math.isfinite(value):
            return str(value)
        case tuple() | list():
            return [plain(each) for each in value]
        case DataSet():
            rows = [plain(row) for row in value.rows]
            return {
                "columns": list(value.columns),
                "types": [each.name for each in value.types],
                "rows": rows,
            }
        case Template():
            return _template(value)
    return value


def _template(value: Template) -> Mapping[str, Any]:
    return {
        "version": value.version,
        "ref": value.template_ref,
        "definition": value.is_definition,
        "metrics": [
            {"name": each.name, "datatype": _kind(each.datatype), "value": _member(each)}
            for each in value.metrics
        ],
        "parameters": [
            {
                "name": each.name,
                "datatype": None if each.type is None else each.type.name,
                "value": plain(each.value),
            }
            for each in value.parameters
        ],
    }


def _member(metric: Metric) -> Any:  # noqa: ANN401 - JSON
    """A member's value by its type; as it travelled, with the field's name, where that does not fit."""
    if metric.carried is None:
        return None
    try:
        return plain(_typed(metric.carried, metric.datatype))
    except Rejected:
        return {metric.carried.field: plain(metric.carried.value)}


def _typed(carried: Carried, number: int | None) -> object:
    return carried.value if number is None else typed(carried, data_type(number))


def _kind(number: int | None) -> str | None:
    try:
        return None if number is None else data_type(number).name
    except Rejected:
        return str(number)


def reasons(faults: Sequence[Fault]) -> str:
    """Faults in a sentence: the first few by name, the others by number."""
    said = "; ".join(f"{fault.name[:80]!r} {fault.reason}" for fault in faults[:_NAMED])
    more = len(faults) - _NAMED
    return f"{said}; and {more} more" if more > 0 else said


def rebirth(node: NodeId, now_us: int) -> tuple[str, bytes]:
    """Topic and payload of the request for new births."""
    ask = metric(REBIRTH, DataType.BOOLEAN, True, timestamp=now_us // 1000)
    return str(NodeTopic(node, MessageType.NCMD)), codec.encode(Payload(now_us // 1000, (ask,)))
