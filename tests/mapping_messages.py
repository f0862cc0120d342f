"""Helpers for tests of mappings: a mapping at work, and messages for it."""

from collections.abc import Collection
from typing import Any

import orjson

from edge.input_limits import InputLimits
from edge.mapping.gathered import Gathered
from edge.mapping.inputs import MappedInputs
from edge.mapping.schema import parse_mapping
from shared.paho import MqttMessage

NOW_US = 1_700_000_000_000_000
NOW_S = NOW_US // 1_000_000
MACHINES = ("press3", "press-4", "mixer-7", "m1", "press-7", "press-7-pump")


def message(
    topic: str,
    payload: Any,  # noqa: ANN401 - bytes, a text, or JSON
    *,
    retain: bool = False,
    connection: int = 1,
) -> MqttMessage:
    if isinstance(payload, str):
        payload = payload.encode()
    raw = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    return MqttMessage(topic, raw, retain=retain, dup=False, qos=1, mid=1, connection=connection)


def at_work(text: str, machines: Collection[str] = MACHINES) -> MappedInputs:
    return MappedInputs(parse_mapping(text), machines, InputLimits(), edge="e1")


def taken(inputs: MappedInputs, *messages: MqttMessage, now_us: int = NOW_US) -> Gathered:
    out = Gathered()
    for each in messages:
        inputs.take(each, now_us, now_us / 1e6, out)
    return out


def rows(out: Gathered) -> list[tuple[str, str, float, str, int, str]]:
    """(machine, sensor, value, unit, time in µs, quality) of each reading."""
    found = []
    for machine, each in out.rows.items():
        names = list(each.index)
        for at, index in enumerate(each.sensor):
            sensor, unit = names[index]
            quality = {0: "good", 1: "uncertain", 2: "bad"}[each.quality[at]]
            found.append((machine, sensor, each.value[at], unit, each.time_us[at], quality))
    return found


def reasons(out: Gathered) -> list[str]:
    return [letter.reason for letter in out.letters]
