"""The audit's fingerprints: order does not matter, any change of a row does."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared import checksum
from shared.checksum import HOUR_US, readings_hashes, row_hashes, sensor_seed, tally
from shared.frames import Kind, Readings
from tests.golden.frame_samples import SAMPLES


def one(time_us: int, value: float, quality: int, sensor: str = "flow", unit: str = "m3/h") -> int:
    seed = np.array([sensor_seed("pump-01", sensor, unit)], np.uint64)
    hashes = row_hashes(seed, np.array([time_us]), np.array([value]), np.array([quality], np.uint8))
    return int(hashes[0])


def test_fingerprints_are_the_same_for_ever() -> None:
    """Edges in the field and the cloud compare these numbers across releases."""
    assert sensor_seed("pump-01", "flow", "m3/h") == 0x9C52A152D493B72D
    assert one(1_700_000_000_000_000, 3.25, 0) == 0xF6D872B037A74AEE


def test_each_part_of_a_reading_changes_its_fingerprint() -> None:
    base = one(1_000, 1.0, 0)
    others = [one(1_001, 1.0, 0), one(1_000, 1.0000001, 0), one(1_000, 1.0, 1)]
    others += [one(1_000, 1.0, 0, sensor="flow-2"), one(1_000, 1.0, 0, unit="l/s")]
    assert len({base, *others}) == 6
    assert sensor_seed("pump-02", "flow", "l/s") != sensor_seed("pump-01", "flow", "l/s")


def test_negative_zero_counts_as_zero() -> None:
    assert one(5, -0.0, 0) == one(5, 0.0, 0)


def test_a_frames_rows_hash_as_single_rows_do() -> None:
    body = SAMPLES[Kind.READINGS][1]
    assert isinstance(body, Readings)
    assert readings_hashes("pump-01", body).tolist() == [
        one(int(t), float(v), int(q), body.sensor_names[s], body.units[s])
        for s, t, v, q in zip(body.sensor, body.time_us, body.value, body.quality, strict=True)
    ]


@given(
    hours=st.lists(st.integers(-3, 3), min_size=1, max_size=30),
    cut=st.integers(0, 30),
    order=st.randoms(use_true_random=False),
)
def test_sums_a_machine_hour_add_up_in_any_order_and_any_parts(
    hours: list[int], cut: int, order: random.Random
) -> None:
    times = np.array([hour * HOUR_US + index for index, hour in enumerate(hours)])
    seed = np.full(len(times), sensor_seed("m", "s", ""), np.uint64)
    hashes = row_hashes(seed, times, np.arange(len(times), dtype=float), np.zeros(len(times), np.uint8))
    whole = tally(times, hashes)
    assert sum(count for count, _ in whole.values()) == len(hours)
    assert set(whole) == set(hours)
    shuffled = list(range(len(times)))
    order.shuffle(shuffled)
    summed: dict[int, tuple[int, int]] = {}
    for part in (shuffled[:cut], shuffled[cut:]):
        for hour, (count, total) in tally(times[part], hashes[part]).items():
            before = summed.get(hour, (0, 0))
            summed[hour] = (before[0] + count, checksum.add(before[1], total))
    assert summed == whole


def test_no_rows_have_no_hours() -> None:
    assert tally(np.array([], np.int64), np.array([], np.uint64)) == {}


def test_sums_wrap_at_64_bits() -> None:
    assert checksum.add(2**64 - 1, 2) == 1
