"""The simulator's set: frozen, drawn by seeds, matched one to one, scored as an edge scores."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml

from bench.models import arguments
from bench.simulator.faults import FAULTS, Simulated, Spec, load, simulate
from bench.simulator.matching import DUPLICATE, NOTHING, f1, false_week, figures, match
from bench.simulator.methods import Answer, Onset, known, score
from cloud.training.logic import fit
from edge.scoring import MachineScoring
from firmware_sim.machines import MACHINE_TYPES
from firmware_sim.readings import Label
from shared.artifact import sha256
from shared.errors import Misconfigured
from shared.events import AnomalyStarted, parse_event, to_us
from shared.frames import Readings, Records
from shared.loaded import Desired, load_model

ROOT = Path(__file__).parents[2]
PUMP = MACHINE_TYPES["centrifugal-pump"]
MINUTE_US = 60_000_000
SPEC = load()


def small(**machines: int) -> Spec:
    return replace(SPEC, machines={**SPEC.machines, "fit_hours": 6, "interval_s": 60, **machines})


def test_the_kept_figures_are_of_this_very_file() -> None:
    kept = orjson.loads((ROOT / "bench" / "figures" / "SIMULATOR.json").read_bytes())
    assert kept["faults"] == {"file": FAULTS.name, "sha256": SPEC.sha256}
    assert SPEC.sha256 in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_look_alikes_are_as_many_as_faults_and_severities_come_equally_often() -> None:
    machine = simulate(small(), PUMP, 5)
    faults = [each for each in machine.labels if each.kind == "fault"]
    last = machine.weeks[-1][0]
    alike = [each for each in machine.labels if each.kind == "look-alike" and each.onset_us >= last]
    assert len(alike) >= len(faults) == 16
    assert {each.name for each in alike} == {"hot-day", "new-product", "filter-change", "restart"}
    assert sorted(each.severity for each in faults) == [0.5] * 4 + [1] * 4 + [2] * 4 + [4] * 4
    assert {each.name for each in faults} == set(map(str, PUMP.faults))
    assert not [each for each in machine.labels if each.kind == "fault" and each.onset_us < last]
    assert all(each.sensors for each in faults)


def test_events_lie_apart_with_jitter_and_seeds_repeat() -> None:
    one, same, other = (simulate(small(), PUMP, seed) for seed in (5, 5, 6))
    assert one.labels == same.labels
    assert np.array_equal(one.values, same.values)
    assert [each.onset_us for each in one.labels] != [each.onset_us for each in other.labels]
    gaps = [after.onset_us - before.end_us for before, after in zip(one.labels, one.labels[1:], strict=False)]
    assert min(gaps) >= SPEC.events["quiet_h"] * 60 * MINUTE_US > SPEC.tail_us
    assert len(set(gaps)) == len(gaps)


def test_a_simulator_with_other_faults_than_the_frozen_ones_is_refused(tmp_path: Path) -> None:
    text = FAULTS.read_text(encoding="utf-8")
    (tmp_path / "faults.toml").write_text(
        text.replace("vibration = 1.5", "vibration = 1.6", 1), encoding="utf-8"
    )
    with pytest.raises(Misconfigured, match="centrifugal-pump"):
        load(tmp_path / "faults.toml")


def matched(*minutes: tuple[int, str]) -> tuple[Simulated, Answer]:
    """A healthy hour 0 to 100 with a look-alike, then a strong, a weak and a look-alike event; episodes at these minutes."""

    def label(kind: str, name: str, severity: float, at: int) -> Label:
        sensors = ("vibration",) if kind == "fault" else ()
        begin, end = at * MINUTE_US, (at + 20) * MINUTE_US
        return Label("m-1", kind, name, severity, begin, end, sensors)  # type: ignore[arg-type]

    labels = (
        label("look-alike", "hot-day", 4, 20),
        label("fault", "imbalance", 2, 200),
        label("fault", "imbalance", 1, 300),
        label("look-alike", "restart", 1, 400),
    )
    weeks = ((0, 100 * MINUTE_US, False), (100 * MINUTE_US, 600 * MINUTE_US, True))
    machine = Simulated(PUMP, 1, np.zeros(0, np.int64), np.zeros((0, 7)), 0, labels, weeks)
    return machine, Answer("made", tuple(Onset(at * MINUTE_US, leading) for at, leading in minutes), 1.0)


def test_one_episode_is_a_fault_s_own_and_every_other_is_false() -> None:
    at = [
        (25, ""),
        (60, ""),
        (201, "vibration"),
        (215, "vibration"),
        (305, ""),
        (310, ""),
        (405, ""),
        (500, ""),
    ]
    tally = match(SPEC, *matched(*at))
    assert [each.onset is not None and each.onset.time_us for each in tally.strong] == [201 * MINUTE_US]
    assert tally.false == {DUPLICATE: 2, "restart": 1, NOTHING: 1}
    assert tally.healthy_false == {"hot-day": 1, NOTHING: 1}
    assert f1([tally]) == pytest.approx(2 / (2 + 0 + 4))
    assert false_week([tally]) == pytest.approx(2 / (100 / (7 * 24 * 60)))
    found = figures([tally])
    assert (found["top1"], found["weak found"], found["delay_s"]) == (1, 1, 60)
    assert found["top1 by chance"] == pytest.approx(1 / 7)


def test_a_fault_s_tail_is_its_own_and_what_is_not_found_costs_recall() -> None:
    late, too_late = (match(SPEC, *matched((at, "flow"))) for at in (229, 231))
    assert f1([late]) == 1
    assert figures([late])["top1"] == 0
    assert f1([too_late]) == 0
    assert too_late.false == {NOTHING: 1}


def test_episodes_are_those_of_an_edge_that_gets_the_rows_one_by_one() -> None:
    spec = replace(SPEC, machines={**SPEC.machines, "fit_hours": 12, "healthy_weeks": 0})
    whole = simulate(spec, PUMP, 11)
    rows = whole.fit_rows + 25_000
    machine = replace(whole, times_us=whole.times_us[:rows], values=whole.values[:rows])
    data = fit(
        known(machine),
        machine=machine.name,
        machine_type=PUMP.name,
        now_us=0,
        operating_sensor=PUMP.operating_sensor,
    )
    onsets, scored = score(machine, data)
    desired = Desired("pump", 1, "pump.1", sha256(data))
    edge = MachineScoring("e1", machine.name, {}, None)
    edge.install(load_model(desired, data), 0)
    width = len(PUMP.sensors)
    begin = machine.fit_rows - 100
    started = []
    for first in range(begin, rows, 500):
        part = slice(first, min(first + 500, rows))
        count = part.stop - part.start
        times = np.repeat(machine.times_us[part], width)
        told = edge.take(
            Readings(
                PUMP.sensor_names,
                tuple(sensor.unit for sensor in PUMP.sensors),
                np.tile(np.arange(width), count),
                times,
                times,
                machine.values[part].ravel(),
                np.zeros(count * width, np.uint8),
            )
        )
        events = [
            parse_event(raw) for i in told.items if isinstance(i.body, Records) for raw in i.body.record
        ]
        started += [each for each in events if isinstance(each, AnomalyStarted)]
    assert [(to_us(each.occurred_at), each.sensors[0].sensor) for each in started] == [
        (each.time_us, each.leading) for each in onsets
    ]
    assert len(onsets) >= 2
    assert 0.9 < scored < 1  # out of the learnt operating range it is silent


def test_the_stage_calls_the_command_and_depends_on_files_that_exist() -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["simulator"]
    words = shlex.split(stage["cmd"])
    given = arguments().parse_args(words[words.index("bench/models.py") + 1 :])
    assert given.sets == ["SIMULATOR"]
    assert given.seed is None  # drawn when it is run
    assert [path for path in stage["deps"] if not (ROOT / path).exists()] == []
    assert re.search(r"<!-- SIMULATOR -->", (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"))
