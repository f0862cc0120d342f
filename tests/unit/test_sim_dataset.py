"""Labelled recordings: deterministic, healthy in front, as many look-alikes as faults, readable again."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from firmware_sim.dataset import SEVERITIES, dataset, generate
from firmware_sim.machines import MACHINE_TYPES, machine_type
from firmware_sim.replay import read_recording
from shared.errors import Misconfigured

HOUR = 3600 * 1_000_000


def test_the_same_seed_gives_the_same_recording() -> None:
    one = generate("pump", 5, 24, 10.0)
    two = generate("pump", 5, 24, 10.0)
    assert np.array_equal(one.values, two.values)
    assert one.labels == two.labels
    assert not np.array_equal(one.values, generate("pump", 6, 24, 10.0).values)


def test_labels_lie_apart_behind_the_healthy_part() -> None:
    made = generate("conveyor-gearbox", 2, 96, 10.0, sensor_faults=4)
    assert made.values.shape == ((96 + 6) * 360, len(made.sensors))
    assert len(made.units) == len(made.sensors)
    assert made.readings < made.values.size  # a dropout among four sensor faults of five kinds
    kinds = [label.kind for label in made.labels]
    assert kinds.count("look-alike") >= kinds.count("fault") + kinds.count("sensor-fault")
    assert kinds.count("fault") == 8
    assert {label.severity for label in made.labels} == set(SEVERITIES)
    fit_end = int(made.times_us[made.fit_rows])
    for label, following in zip(made.labels, [*made.labels[1:], None], strict=True):
        assert fit_end < label.onset_us < label.end_us <= int(made.times_us[-1])
        assert following is None or label.end_us < following.onset_us
        assert bool(label.sensors) == (label.kind != "look-alike")


def test_onsets_are_jittered_by_seed() -> None:
    starts = [generate("fan", seed, 12, 60.0) for seed in range(4)]
    offsets = {(made.labels[0].onset_us - int(made.times_us[0])) % HOUR for made in starts}
    assert len(offsets) == 4


def test_a_skewed_clock_shifts_its_column() -> None:
    for seed in range(40):
        made = generate("pump", seed, 3, 1.0, faults=0, sensor_faults=1, lookalikes=0)
        if made.labels[0].name == "clock-skew" and made.labels[0].severity >= 2:
            break
    (label,) = made.labels
    rows = np.flatnonzero((made.times_us >= label.onset_us) & (made.times_us < label.end_us))
    column = made.sensors.index(label.sensors[0])
    ahead = round(label.severity * 5)
    inner = rows[:-ahead]
    healthy = generate("pump", seed, 3, 1.0, faults=0, sensor_faults=1, lookalikes=0)
    assert np.array_equal(made.values, healthy.values)
    after = made.values[rows[-1] + 1 : rows[-1] + 1 + ahead, column]
    assert np.array_equal(made.values[rows[-ahead:], column], after)
    assert len(inner) > 100


def test_too_many_episodes_are_refused() -> None:
    with pytest.raises(Misconfigured, match="don't fit"):
        generate("pump", 1, 1, 10.0, faults=5)


def test_a_healthy_recording_has_no_labels() -> None:
    made = generate("pump", 1, 0, 10.0)
    assert made.labels == ()
    assert made.fit_rows == len(made.times_us) == 2160


def test_files_read_back_as_what_was_generated(tmp_path: Path) -> None:
    paths = dataset(tmp_path / "out", hours=24, seed=7, machines=["pump", "fan"], interval_s=10.0)
    assert sorted(p.name for p in paths) == sorted(p.name for p in (tmp_path / "out").iterdir())
    made = generate("pump", 7, 24, 10.0, sensor_faults=1)
    fit = read_recording(tmp_path / "out" / "centrifugal-pump-fit.csv")
    test = read_recording(tmp_path / "out" / "centrifugal-pump-test.csv")
    assert np.array_equal(np.concatenate([fit.times_us, test.times_us]), made.times_us)
    assert np.array_equal(np.concatenate([fit.values, test.values]), made.values, equal_nan=True)
    assert fit.sensors == made.sensors
    truth = json.loads((tmp_path / "out" / "centrifugal-pump-labels.json").read_bytes())
    assert [row["name"] for row in truth] == [label.name for label in made.labels]
    assert [tuple(row["sensors"]) for row in truth] == [label.sensors for label in made.labels]
    with (tmp_path / "out" / "extraction-fan-labels.csv").open(newline="") as file:
        assert {row["kind"] for row in csv.DictReader(file)} == {"fault", "sensor-fault", "look-alike"}


def test_faults_can_be_chosen(tmp_path: Path) -> None:
    dataset(tmp_path, hours=12, seed=1, interval_s=60.0, faults=["cavitation"])
    for kind in MACHINE_TYPES:
        truth = json.loads((tmp_path / f"{kind}-labels.json").read_bytes())
        able = "cavitation" in machine_type(kind).faults
        assert {row["name"] for row in truth if row["kind"] == "fault"} == ({"cavitation"} if able else set())
    with pytest.raises(Misconfigured, match="there are cavitation"):
        dataset(tmp_path, hours=12, seed=1, faults=["gremlins"])
