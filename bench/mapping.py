"""What a mapping costs a message: from bytes to columns, beside the plain path and a bare JSON parse, in one run.

    PYTHONPATH=. python bench/mapping.py [--messages N] [--rounds N]

Each contestant takes the same number of messages in commits' batches of 500 and ends with the columns that a commit is
given. The rounds are interleaved, so that the machine's moods hit all alike; the fastest round of each counts.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import orjson

from edge.input_limits import InputLimits
from edge.mapping.gathered import Gathered
from edge.mapping.inputs import MappedInputs
from edge.mapping.schema import parse_mapping
from edge.settings import SensorLimits
from shared.device_json import parse_device
from shared.frames import Readings, concat_readings
from shared.names import DeviceTopic
from shared.paho import MqttMessage
from shared.sparkplug.codec import encode
from shared.sparkplug.datatypes import DataType
from shared.sparkplug.payload import Payload, metric

NOW_MS = 1_700_000_000_000
BATCH = 500
MAPPING = """
version: 1
rules:
  - {topic: "number/{machine}/{tag}", machine: "{machine}", name: "{tag}", sensors: {temp: {sensor: number, unit: degC}}}
  - topic: object/{machine}/{tag}
    machine: "{machine}"
    name: "{tag}"
    value: /v
    time: {at: /t, as: ms}
    sensors: {temp: {unit: degC}}
  - topic: nested/{machine}
    machine: "{machine}"
    time: {at: /ts, as: iso}
    sensors:
      /data/temp/value: {sensor: a, unit: degC, unit_at: /data/temp/unit}
      /data/press/value: {sensor: b, unit: bar, unit_at: /data/press/unit}
      /data/rpm: {sensor: c, unit: rpm}
  - {topic: "text/{machine}/{tag}", machine: "{machine}", payload: text, decimal: ",", name: "{tag}", sensors: {temp: {sensor: text, unit: degC}}}
sparkplug:
  - {group: g, node: n, machine: m1}
"""


def message(topic: str, payload: bytes) -> MqttMessage:
    """As it arrives."""
    return MqttMessage(topic, payload, retain=False, dup=False, qos=1, mid=1, connection=1)


def object_(n: int) -> bytes:
    """A value and its time."""
    return orjson.dumps({"v": 20 + n % 7, "t": NOW_MS + n})


def nested(n: int) -> bytes:
    """Three sensors, two with their unit."""
    stamp = f"2023-11-14T{n // 3600 % 22:02}:{n // 60 % 60:02}:{n % 60:02}Z"
    data = {
        "temp": {"value": 20 + n % 7, "unit": "°C"},
        "press": {"value": 250, "unit": "kPa"},
        "rpm": 900 + n % 5,
    }
    return orjson.dumps({"ts": stamp, "data": data})


def ndata(n: int) -> bytes:
    """One metric by alias, in its place in the sequence."""
    each = metric(None, DataType.DOUBLE, 20.0 + n % 7, alias=1, timestamp=NOW_MS + n, typeless=True)
    return encode(Payload(NOW_MS + n, (each,), (n + 1) % 256))


def plain(messages: Sequence[MqttMessage]) -> int:
    """The edge's own topics and JSON."""
    parts: dict[str, list[Readings]] = {}
    for each in messages:
        topic = DeviceTopic.parse(each.topic)
        parts.setdefault(topic.machine, []).append(
            parse_device(topic, each.payload, now_us=NOW_MS * 1000).readings
        )
    return sum(len(concat_readings(each)) for each in parts.values())


def parse_alone(messages: Sequence[MqttMessage]) -> int:
    """The floor: the bytes as JSON, and nothing done with it."""
    for each in messages:
        orjson.loads(each.payload)
    return len(messages)


def mapped(limits: InputLimits) -> Callable[[Sequence[MqttMessage]], int]:
    """A mapping at work, and the limits behind it."""
    inputs = MappedInputs(parse_mapping(MAPPING), ["m1"], limits, edge="e1")
    birth = (
        metric("bdSeq", DataType.INT64, 0, timestamp=NOW_MS),
        metric("Temp", DataType.DOUBLE, 1.0, alias=1, timestamp=NOW_MS),
    )
    born = message("spBv1.0/g/NBIRTH/n", encode(Payload(NOW_MS, birth, 0)))

    def take(messages: Sequence[MqttMessage]) -> int:
        out = Gathered()
        if messages[0].topic.startswith("spBv1.0/"):
            inputs.take(born, NOW_MS * 1000, 0.0, Gathered())
        for each in messages:
            inputs.take(each, NOW_MS * 1000, 0.0, out)
        if out.letters:
            raise SystemExit(out.letters[0].reason)
        return sum(len(limits.take(machine, rows.readings())[0]) for machine, rows in out.rows.items())

    return take


def main() -> None:
    """Run and print."""
    arguments = argparse.ArgumentParser(description="The mapping's cost a message")
    arguments.add_argument("--messages", type=int, default=20_000)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    limits = InputLimits()
    limits.set("m1", "temp", SensorLimits(deadband=0.0, silence_seconds=1e-6, per_second=1e6))
    numbers = range(options.messages)
    objects = [message("object/m1/temp", object_(n)) for n in numbers]
    own = [
        message("plant/s1/m1/temp", b'{"ts":%d,"value":%d,"unit":"degC"}' % (NOW_MS + n, 20 + n % 7))
        for n in numbers
    ]
    take = mapped(InputLimits())
    contestants: dict[str, tuple[Callable[[Sequence[MqttMessage]], int], list[MqttMessage]]] = {
        "bare orjson.loads of plain JSON": (parse_alone, own),
        "plain path": (plain, own),
        "mapping: a number": (take, [message("number/m1/temp", b"%d.5" % (20 + n % 7)) for n in numbers]),
        "mapping: value and time": (take, objects),
        "  the same, deadband and rate": (mapped(limits), objects),
        "mapping: a text with comma and unit": (
            take,
            [message("text/m1/temp", f"{20 + n % 7},5 °C".encode()) for n in numbers],
        ),
        "mapping: three nested sensors": (take, [message("nested/m1", nested(n)) for n in numbers]),
        "Sparkplug NDATA, one metric": (
            take,
            [message("spBv1.0/g/NDATA/n", ndata(n % BATCH)) for n in numbers],
        ),
    }
    best = dict.fromkeys(contestants, float("inf"))
    rows = dict.fromkeys(contestants, 0)
    for _ in range(options.rounds):
        for name, (work, messages) in contestants.items():
            started = time.perf_counter()
            rows[name] = sum(work(messages[at : at + BATCH]) for at in range(0, len(messages), BATCH))
            best[name] = min(best[name], time.perf_counter() - started)
    floor = best["plain path"] / options.messages
    print(f"{'':38} {'us a message':>12} {'us a reading':>12} {'x plain':>8}")
    for name, seconds in best.items():
        one = seconds / options.messages
        print(f"{name:38} {one * 1e6:12.2f} {seconds / max(1, rows[name]) * 1e6:12.2f} {one / floor:8.2f}")


if __name__ == "__main__":
    main()
