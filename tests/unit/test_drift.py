"""The triage of a changed machine: each kind of change on simulated machines, its order, its statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.training.drift import (
    DAY_US,
    Kind,
    Span,
    alarmed_share,
    benjamini_hochberg,
    kendall,
    shifts,
    stuck,
    triage,
    two_sided,
)
from cloud.training.expected import History, Reference, learn
from cloud.training.operation import Scope, scope_of
from firmware_sim.machines import MACHINE_TYPES
from shared.artifact import unpack
from tests.changing_machines import BASELINE_DAYS, Change, Changing
from tests.models import packed

STEP_US = 300_000_000


def words(machine: Changing, last: int, every: int = 1) -> list[tuple[int, Kind]]:
    return [(day, found.kind) for day, found in machine.days(last, every=every)]


def after(day: int, said: list[tuple[int, Kind]]) -> set[Kind]:
    return {kind for at, kind in said if at >= day}


def test_a_stuck_sensor_is_a_data_fault_within_a_day() -> None:
    machine = Changing("screw-compressor", 5, [Change("stuck", 4.0, 12)])
    *_, (_, last) = machine.days(13)
    assert (last.kind, machine.sensors(last)) == (Kind.DATA_FAULT, ("oil-temp",))
    assert "stands still" in last.reason


def test_a_sensor_that_drifts_alone_is_a_data_fault_and_named() -> None:
    machine = Changing("extraction-fan", 5, [Change("drift", 6.0, 12, 2)])
    *_, (_, last) = machine.days(17)
    assert last.kind is Kind.DATA_FAULT
    assert "static-pressure" in machine.sensors(last)
    assert "while what predicts it holds" in last.reason


def test_a_new_product_is_a_state_never_seen() -> None:
    *_, (_, last) = Changing("conveyor-gearbox", 5, [Change("new-product", 4.0, 12)]).days(15)
    assert last.kind is Kind.NEW_STATE


@pytest.mark.nightly
def test_what_moves_after_maintenance_proposes_a_new_baseline_and_untold_is_drift() -> None:
    change = Change("filter-change", 16.0, 12)
    told = Changing("screw-compressor", 5, [change], [(11.8, 11.95)])
    untold = Changing("screw-compressor", 5, [change])
    late = Changing("screw-compressor", 5, [change], [(7.2, 7.3)])
    [*_, (_, first)], [*_, (_, second)], [*_, (_, third)] = told.days(18), untold.days(18), late.days(18)
    assert (first.kind, second.kind, third.kind) == (Kind.MAINTENANCE, Kind.DRIFT, Kind.DRIFT)
    assert abs(first.onset_us - told.at(12)) <= DAY_US


def test_a_hot_season_is_drift_for_the_machine_answers_as_it_did() -> None:
    said = words(Changing("machining-spindle", 5, [Change("hot-day", 4.0, 12, 5)]), 24)
    assert after(20, said) == {Kind.DRIFT}


@pytest.mark.nightly
def test_thirty_days_of_slow_wear_are_degradation_and_never_anything_that_is_retrained() -> None:
    said = words(Changing("screw-compressor", 5, [Change("bearing-wear", 4.0, 10, 30)]), 54, every=2)
    assert Kind.DRIFT not in after(10, said)
    assert Kind.MAINTENANCE not in after(10, said)
    assert after(22, said) == {Kind.DEGRADATION}  # also two weeks after it has come to rest


@pytest.mark.nightly
@pytest.mark.parametrize("kind", MACHINE_TYPES)
@pytest.mark.parametrize("seed", [21, 22, 23])
def test_slow_wear_of_any_machine_is_never_called_drift(kind: str, seed: int) -> None:
    said = words(Changing(kind, seed, [Change("bearing-wear", 4.0, 10, 30)]), 60)
    assert Kind.DRIFT not in after(10, said)
    assert Kind.NONE not in after(25, said)


@pytest.mark.nightly
def test_a_healthy_machine_is_left_alone() -> None:
    assert {found for _, found in words(Changing("centrifugal-pump", 5), 31, every=3)} == {Kind.NONE}


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_healthy_machines_run_ninety_days_and_more_to_a_false_word() -> None:
    days = said = 0
    for kind in MACHINE_TYPES:
        for seed in range(31, 35):
            course = words(Changing(kind, seed), BASELINE_DAYS + 120)
            first = next((day for day, found in course if found is not Kind.NONE), None)
            said += first is not None
            days += (first or course[-1][0]) - BASELINE_DAYS
    assert days / max(said, 1) >= 90, (days, said)


# On made-up sensors: three that follow a load, and noise


def made(days: float, seed: int, *, from_day: float = 0.0) -> History:
    random = np.random.default_rng(seed)
    times = (np.arange(int(days * 288)) + 1 + int(from_day * 288)) * STEP_US
    load = 1.0 + 0.2 * np.sin(2 * np.pi * times / 7.2e9)
    gains = np.array([1.0, 2.0, -1.0, 3.0])
    cells = load[:, None] * gains + 0.01 * random.standard_normal((len(times), 4))
    return History(times, cells, np.zeros(len(times), np.int64))


NAMES = ("a", "b", "c", "d")
REFERENCE = Reference(made(7, 1), 0)


def judged(since: History, **more: object) -> Kind:
    return triage(REFERENCE, since, int(since.times_us[0]), names=NAMES, **more).kind  # type: ignore[arg-type]


def test_a_silent_sensor_and_one_out_of_all_range_are_data_faults() -> None:
    silent, wild = made(3, 2, from_day=7), made(3, 2, from_day=7)
    assert judged(silent) is Kind.NONE
    silent.cells[:, 2] = np.nan
    wild.cells[100:140, 1] = -999.0
    assert judged(silent) is judged(wild) is Kind.DATA_FAULT


def test_a_step_of_several_sensors_is_drift_unless_an_alarm_is_open() -> None:
    since = made(6, 2, from_day=7)
    since.cells[288:, 1:3] += 0.2
    assert judged(since) is Kind.DRIFT
    assert judged(since, alarmed=0.5) is Kind.DEGRADATION


def test_a_data_fault_comes_before_maintenance_and_a_new_state_too() -> None:
    since = made(6, 2, from_day=7)
    since.cells[:, 1:3] += 0.2
    worked = (Span(7 * DAY_US - 3600, 7 * DAY_US),)
    assert judged(since, maintenance=worked) is Kind.MAINTENANCE
    since.state[::3] = -2
    assert judged(since, maintenance=worked) is Kind.NEW_STATE
    since.cells[600:, 3] = 1.0
    assert judged(since, maintenance=worked) is Kind.DATA_FAULT


def test_nothing_is_said_of_too_little() -> None:
    assert shifts(REFERENCE, made(0.02, 3, from_day=7)) == []
    assert learn(made(0.05, 1).cells, 0, ()) is None
    assert judged(made(0.02, 3, from_day=7)) is Kind.NONE


def test_one_sensor_alone_has_a_level_and_no_predictors() -> None:
    one = made(7, 1)
    alone = Reference(History(one.times_us, one.cells[:, :1], one.state), 0)
    since = made(6, 2, from_day=7)
    moved = History(since.times_us, since.cells[:, :1] + 0.3, since.state)
    assert triage(alone, moved, int(moved.times_us[0]), names=("a",)).kind is Kind.DRIFT


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.01, 0.5))
def test_benjamini_hochberg_rejects_the_smallest_and_no_more_than_it_may(p: list[float], q: float) -> None:
    values = np.array(p)
    chosen = benjamini_hochberg(values, q)
    count = int(chosen.sum())
    if count:
        assert values[chosen].max() <= q * count / len(p)
        assert values[chosen].max() <= values[~chosen].min(initial=np.inf)
    for more in range(count + 1, len(p) + 1):
        assert np.sort(values)[more - 1] > q * more / len(p)


@pytest.mark.parametrize(
    ("t", "freedom", "p"), [(2.262, 9, 0.05), (3.250, 9, 0.01), (1.96, 10_000, 0.05), (0.0, 5, 1.0)]
)
def test_students_tail_is_that_of_the_tables(t: float, freedom: int, p: float) -> None:
    assert two_sided(t, freedom) == pytest.approx(p, rel=0.02)


def test_standing_still_and_order_and_shares() -> None:
    times = np.arange(20) * 600_000_000
    values = np.r_[np.arange(5.0), np.full(10, 4.5), np.arange(5.0)]
    assert stuck(times, values) == [Span(int(times[5]), int(times[14]))]
    assert stuck(times, np.arange(20.0)) == []
    assert (kendall(np.arange(9.0)), kendall(np.zeros(9)), kendall(np.zeros(1))) == (1.0, 0.0, 0.0)
    assert alarmed_share([Span(0, 40), Span(20, 50), Span(90, 200)], 0, 100) == pytest.approx(0.6)


def test_states_are_those_that_a_model_learnt() -> None:
    scope = scope_of(("a", "b"), "a", made(1, 1).cells)
    values = np.array([1.0, 1.0, 0.0, 5.0, 5.0, 5.0, 1.0, 1.0, np.nan])
    assert scope.states(np.arange(9), np.c_[values, values]).tolist() == [-1, 0, -1, -1, -2, -2, -1, 0, -1]
    nobody = scope_of(("a", "b"), None, made(1, 1).cells)
    assert nobody.states(np.arange(2), np.zeros((2, 2))).tolist() == [0, 0]
    assert scope_of(("a",), "a", np.full((4, 1), np.nan)).column is None
    told = Scope.of_manifest(unpack(packed("speed")).manifest)
    speeds = np.zeros((8, 4))
    speeds[:, 0] = [1000, 1000, 1600, 1600, 0, 0, 1400, 1400]
    assert told.states(np.arange(8), speeds).tolist() == [-1, 0, 0, 0, -1, -1, -1, 0]
    assert Scope.of_manifest(unpack(packed()).manifest).column is None
