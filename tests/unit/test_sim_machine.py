"""Simulated machines: deterministic, within their physics, and with faults that show where they should."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.episodes import Episode, kind_of
from firmware_sim.machine import Machine
from firmware_sim.machines import MACHINE_TYPES, machine_type
from firmware_sim.model import Fault, LookAlike, SensorFault
from firmware_sim.signals import correlated, lag
from shared.errors import Misconfigured, Rejected

SECOND = 1_000_000
FIRST = 1_709_280_000  # a row index at 1 Hz: 2024-03-01T08:00Z, on a block's edge
TYPES = tuple(MACHINE_TYPES)


def machine(kind: str = "centrifugal-pump", *, seed: int = 3, interval_us: int = SECOND) -> Machine:
    return Machine(machine_type(kind), f"{kind}-01", seed=seed, interval_us=interval_us)


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_has_units_faults_and_an_operating_sensor(kind: str) -> None:
    shape = machine_type(kind)
    assert len(shape.sensors) >= 4
    assert len(set(shape.sensor_names)) == len(shape.sensors)
    assert shape.operating_sensor in shape.sensor_names
    assert shape.default_sensor in shape.sensor_names
    for signature in shape.faults.values():
        assert set(signature.gains) <= set(shape.sensor_names)
        assert set(signature.first) <= set(signature.gains)
        assert signature.first
    assert set(shape.filter_change) <= set(shape.sensor_names)


def test_every_fault_exists_somewhere() -> None:
    assert {fault for kind in MACHINE_TYPES.values() for fault in kind.faults} == set(Fault)


def test_an_unknown_type_names_those_that_exist() -> None:
    assert machine_type("pump").name == "centrifugal-pump"
    with pytest.raises(Misconfigured, match="screw-compressor"):
        machine_type("toaster")


@pytest.mark.parametrize("kind", TYPES)
def test_values_do_not_depend_on_how_they_are_asked_for(kind: str) -> None:
    whole = machine(kind).values(FIRST - 50, 200)
    parts = [machine(kind).values(FIRST - 50 + at, 1) for at in (0, 49, 50, 51, 199)]
    assert np.array_equal(np.concatenate(parts), whole[[0, 49, 50, 51, 199]])
    assert np.isfinite(whole).all()
    assert not np.array_equal(machine(kind, seed=4).values(FIRST, 100), whole[50:150])


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 30_000), max_size=5), start=st.integers(-20_000, 20_000))
def test_any_cutting_gives_the_same_values(cuts: list[int], start: int) -> None:
    edges = sorted({0, *cuts, 30_000})
    made = machine(interval_us=10 * SECOND)
    made.inject(Episode("cavitation", 2, (FIRST // 10 + 5_000) * 10 * SECOND, None, 600))
    whole = machine(interval_us=10 * SECOND)
    whole.inject(made.episodes[0])
    first = FIRST // 10 + start
    parts = [made.values(first + a, b - a) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), whole.values(first, 30_000))


@pytest.mark.parametrize("kind", TYPES)
def test_six_hours_cover_the_operating_points(kind: str) -> None:
    shape = machine_type(kind)
    made = machine(kind)
    values = made.values(FIRST, 6 * 3600)
    column = shape.sensor_names.index(shape.operating_sensor)
    rated = values[:, column].max() / max(shape.load.levels)
    for level in shape.load.levels:
        assert np.abs(values[:, column] - level * rated).min() < 0.02 * rated
    assert sum(shape.load.dwells_s) <= 40 * 60
    assert values.min() >= 0


@pytest.mark.parametrize("kind", TYPES)
def test_noise_has_the_sigma_it_says(kind: str) -> None:
    """The difference of two seeds' fast parts: noise alone, since set-points and weather are slow."""
    shape = machine_type(kind)
    values = machine(kind).values(FIRST, 3600)
    steps = np.diff(values, axis=0)
    for column, sensor in enumerate(shape.sensors):
        step = sensor.sigma * np.sqrt(2 * (1 - np.exp(-1 / sensor.noise_tau_s)))
        assert np.median(np.abs(steps[:, column])) / 0.6745 == pytest.approx(step, rel=0.3)


def shift(
    kind: str, episode: Episode, seconds: int = 3600
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Mean change of each sensor, in sigmas, over the episode's last quarter."""
    shape = machine_type(kind)
    healthy, faulty = machine(kind), machine(kind)
    faulty.inject(episode)
    change = faulty.values(FIRST, seconds) - healthy.values(FIRST, seconds)
    assert not np.nan_to_num(change[: (episode.onset_us // SECOND - FIRST)]).any()
    sigmas = np.array([sensor.sigma for sensor in shape.sensors])
    return np.asarray(np.nanmean(change[-seconds // 4 :], axis=0) / sigmas)


@pytest.mark.parametrize(("kind", "fault"), [(k, f) for k in TYPES for f in machine_type(k).faults])
def test_a_fault_leads_on_an_accepted_sensor_and_scales_with_severity(kind: str, fault: Fault) -> None:
    onset = (FIRST + 600) * SECOND
    shape = machine_type(kind)
    two = shift(kind, Episode(fault, 2, onset, None, 300))
    leading = shape.sensor_names[int(np.argmax(np.abs(two)))]
    assert leading in shape.first_sensors(fault, None)
    assert 1.2 <= np.abs(two).max() <= 3.6
    assert shift(kind, Episode(fault, 4, onset, None, 300)) == pytest.approx(2 * two, rel=0.05, abs=0.05)


def test_a_cleared_fault_goes_away_and_the_past_stays() -> None:
    made, healthy = machine(), machine()
    made.inject(Episode("bearing-wear", 4, (FIRST + 100) * SECOND))
    before = made.values(FIRST, 1000).copy()
    made.clear((FIRST + 1000) * SECOND)
    made.clear((FIRST + 2000) * SECOND)
    assert np.array_equal(made.values(FIRST, 1000), before)
    assert made.values(FIRST + 2500, 100) == pytest.approx(healthy.values(FIRST + 2500, 100), abs=1e-3)


def test_a_fault_that_the_machine_cannot_have_is_refused() -> None:
    with pytest.raises(Rejected, match="no fault 'cavitation'; it has"):
        machine("extraction-fan").inject(Episode("cavitation", 2, FIRST * SECOND))
    with pytest.raises(Rejected, match="no sensor 'nose'"):
        machine().inject(Episode("stuck", 1, FIRST * SECOND, sensor="nose"))
    with pytest.raises(Rejected, match="cavitation"):
        kind_of("gremlins")


@pytest.mark.parametrize(
    "episode",
    [
        Episode("leakage", 0, 0),
        Episode("leakage", float("nan"), 0),
        Episode("leakage", 1, 0, ramp_s=-1),
        Episode("leakage", 1, 10, 10),
    ],
)
def test_impossible_numbers_are_refused(episode: Episode) -> None:
    with pytest.raises(Rejected):
        machine().inject(episode)


def test_sensor_faults_hit_their_column_alone() -> None:
    onset = FIRST + 1000
    shape = machine_type("pump")
    column = shape.sensor_names.index("flow")
    others = [i for i in range(len(shape.sensors)) if i != column]
    healthy = machine().values(FIRST, 3000)

    def hit(name: SensorFault) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        made = machine()
        made.inject(Episode(name, 4, onset * SECOND, (onset + 1000) * SECOND, sensor="flow"))
        values = made.values(FIRST, 3000)
        assert np.array_equal(values[:, others], healthy[:, others])
        assert np.array_equal(values[:1000], healthy[:1000])
        assert np.array_equal(values[2000:], healthy[2000:])
        return values[1000:2000, column]

    truth = healthy[1000:2000, column]
    assert set(hit(SensorFault.STUCK)) == {healthy[999, column]}
    assert hit(SensorFault.DRIFT)[-1] - truth[-1] == pytest.approx(2.0 * 4 * 1000 / 1800, rel=0.01)
    spikes = np.abs(hit(SensorFault.SPIKE) - truth)
    assert set(np.round(spikes, 3)) == {0.0, 24.0}
    assert 5 < np.count_nonzero(spikes) < 80
    assert 700 < np.count_nonzero(np.isnan(hit(SensorFault.DROPOUT))) < 900
    assert np.array_equal(hit(SensorFault.CLOCK_SKEW), truth)


def test_a_stuck_value_holds_across_a_block() -> None:
    made = machine()
    made.inject(Episode("stuck", 1, (FIRST - 5) * SECOND))
    column = made.kind.sensor_names.index(made.kind.default_sensor)
    assert set(made.values(FIRST - 5, 20_000)[:, column]) == {machine().values(FIRST - 6, 1)[0, column]}


def test_a_skewed_clock_uses_no_timestamp_twice() -> None:
    made = machine()
    assert made.skews_us(FIRST * SECOND) == {}
    for number in range(3):
        onset = (FIRST + 100 * number) * SECOND
        made.inject(Episode("clock-skew", 2, onset, onset + 50 * SECOND, sensor="flow"))
    late = [made.skews_us((FIRST + 100 * n + 1) * SECOND)["flow"] for n in range(3)]
    assert len({us % SECOND for us in (0, *late)}) == 4
    assert all(round(us / SECOND) == 10 for us in late)
    assert made.skews_us((FIRST + 60) * SECOND) == {}


@pytest.mark.parametrize("kind", TYPES)
def test_look_alikes_are_seen_where_a_person_would_see_them(kind: str) -> None:
    onset, end = (FIRST + 600) * SECOND, (FIRST + 3000) * SECOND
    shape = machine_type(kind)
    ambient = shape.sensor_names.index("ambient-temp")
    operating = shape.sensor_names.index(shape.operating_sensor)
    assert shift(kind, Episode(LookAlike.HOT_DAY, 2, onset, None, 60))[ambient] > 10
    assert shift(kind, Episode(LookAlike.NEW_PRODUCT, 2, onset))[operating] < -2
    changed = shift(kind, Episode(LookAlike.FILTER_CHANGE, 4, onset))
    assert 0.5 < np.abs(changed).max() < 1.5
    made = machine(kind)
    made.inject(Episode(LookAlike.RESTART, 1, onset, end))
    values = made.values(FIRST, 4000)
    assert values[2500:2900, operating].max() < 0.05 * values[:500, operating].max()
    assert values[3900, operating] > 0.5 * values[:500, operating].max()


def test_lag_settles_with_its_time_constant_and_noise_has_variance_one() -> None:
    step = np.concatenate([np.zeros(1), np.ones(1000)])
    assert lag(step, 50.0, 1.0)[50] == pytest.approx(1 - np.exp(-1), abs=1e-9)
    white = np.random.default_rng(1).standard_normal(100_000)
    assert np.std(correlated(white, 3.0, 1.0)) == pytest.approx(1.0, abs=0.03)
