"""Whether what a contestant wrote is what was sent: every reading's identity and value, not the count alone."""

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from bench.peers.scenario import (
    FIRST_MS,
    PAYLOAD_BYTES,
    SITE,
    Scenario,
    machine_of,
    sensor_of,
    thousandths_of,
)
from shared import frame_pb2 as pb
from shared.frame_codec import decode
from shared.frames import Kind, Readings

_DECODED_WHOLE = 1000
_N = TypeVar("_N", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Messages of the scenario that are not there, that are there again, and records that are not what was sent."""

    missing: int
    doubled: int
    wrong: int

    @property
    def right(self) -> bool:
        """Whether nothing is missing and nothing is wrong; a second copy is allowed."""
        return not self.missing and not self.wrong


Check = Callable[[Sequence[bytes], Scenario, int], Verdict]


def same_payloads(values: Sequence[bytes], scenario: Scenario, count: int) -> Verdict:
    """Records are the JSON payloads as they were sent, byte for byte."""
    whole = [value for value in values if len(value) == PAYLOAD_BYTES]
    found = np.frombuffer(b"".join(whole), np.uint8).reshape(-1, PAYLOAD_BYTES)
    packets, offsets = scenario.open(4)
    sent = np.frombuffer(packets, np.uint8).reshape(scenario.count, int(offsets[1]))[:count, -PAYLOAD_BYTES:]
    digits = bytes(sent[0]).index(b'"seq":"') + 7
    n = (found[:, digits : digits + 9].astype(np.int64) - 48) @ 10 ** np.arange(8, -1, -1)
    known = (n >= 0) & (n < count)
    equal = np.zeros(len(n), np.bool_)
    equal[known] = (found[known] == sent[n[known]]).all(axis=1)
    return _verdict(n[equal], count, len(values) - int(equal.sum()))


def telegraf_json(values: Sequence[bytes], _: Scenario, count: int) -> Verdict:
    """Records are Telegraf's JSON: time, value, and the MQTT topic as a tag."""
    times, numbers, topics = [], [], []
    for value in values:
        metric = orjson.loads(value)
        times.append(metric["timestamp"])
        numbers.append(metric["fields"]["value"])
        topics.append(metric["tags"]["topic"])
    n = np.array(times, np.int64) - FIRST_MS
    names = [
        f"plant/{SITE}/press-{m:03d}/c-{s:02d}"
        for m, s in zip(machine_of(n).tolist(), sensor_of(n).tolist(), strict=True)
    ]
    right = (np.array(numbers) == thousandths_of(n) / 1000) & (np.array(topics) == np.array(names))
    return _verdict(n[right], count, len(values) - int(right.sum()))


def framed_readings(values: Sequence[bytes], _: Scenario, count: int) -> Verdict:
    """Records are this project's frames; each reading's machine, sensor, unit, time and value are compared."""
    times, numbers, machines, sensors, wrong = [], [], [], [], 0
    singles: list[tuple[str, str, int, float]] = []
    for at, value in enumerate(values):
        if at >= _DECODED_WHOLE and (single := _single(value)) is not None:
            singles.append(single)
            continue
        header, body = decode(value)
        if header.kind is not Kind.READINGS or not isinstance(body, Readings) or set(body.units) != {"degC"}:
            wrong += header.count
            continue
        times.append(body.time_us)
        numbers.append(body.value)
        machines.append(np.full(len(body), int(header.machine.removeprefix("press-"))))
        names = np.array([int(name.removeprefix("c-")) for name in body.sensor_names])
        sensors.append(names[body.sensor])
    if singles:
        names_of, sensor_names, times_of, values_of = zip(*singles, strict=True)
        times.append(np.array(times_of, np.int64))
        numbers.append(np.array(values_of))
        machines.append(np.array([int(name[6:]) for name in names_of]))
        sensors.append(np.array([int(name[2:]) for name in sensor_names]))
    n = _joined(times) // 1000 - FIRST_MS
    right = (
        (_joined(times) % 1000 == 0)
        & (_joined(machines) == machine_of(n))
        & (_joined(sensors) == sensor_of(n))
        & (_joined(numbers) == thousandths_of(n) / 1000)
    )
    return _verdict(n[right], count, wrong + int((~right).sum()))


def _single(value: bytes) -> tuple[str, str, int, float] | None:
    """Machine, sensor, time in µs and value of a frame of one reading, without the columns' arrays; None for others."""
    frame = pb.Frame.FromString(value)
    if frame.count != 1 or int(frame.kind) != Kind.READINGS:
        return None
    body = pb.Readings.FromString(frame.body)
    if list(body.units) != ["degC"] or body.quality:
        return None
    return frame.machine, body.sensor_names[0], body.time_delta[0], struct.unpack("<d", body.value)[0]


def same_frames(values: Sequence[bytes], scenario: Scenario, count: int) -> Verdict:
    """Records are the edges' frames, byte for byte."""
    sent = Counter(blake2b(payload, digest_size=16).digest() for payload in scenario.payloads(count))
    found = Counter(blake2b(value, digest_size=16).digest() for value in values)
    return Verdict(
        missing=sum(1 for digest in sent if digest not in found),
        doubled=sum(times - 1 for digest, times in found.items() if digest in sent),
        wrong=sum(times for digest, times in found.items() if digest not in sent),
    )


def _joined(parts: Sequence[NDArray[_N]]) -> NDArray[_N]:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _verdict(n: NDArray[np.int64], count: int, wrong: int) -> Verdict:
    """`n` are the numbers of the right ones, which may be of messages that were not sent."""
    outside = int(((n < 0) | (n >= count)).sum())
    times = np.bincount(n[(n >= 0) & (n < count)], minlength=count)
    return Verdict(int((times == 0).sum()), int((times[times > 1] - 1).sum()), wrong + outside)
