import pytest

from shared.errors import Misconfigured, Rejected
from shared.persistence import CALM_LEVEL, CALM_WINDOWS, Clear, Onset, Persistence, calm_windows, episodes


def test_m_of_n_alarms_begin_an_anomaly_and_n_quiet_windows_end_it() -> None:
    state = Persistence(2, 3)
    answers = [state.update(at, bool(alarm)) for at, alarm in enumerate([1, 0, 1, 0, 0, 1, 0, 0, 0, 0])]
    assert answers == [None, None, Onset(2, 0), None, None, None, None, None, Clear(8, 2), None]
    assert state.active is None


def test_unscored_and_repeated_windows_are_no_evidence() -> None:
    state = Persistence(2, 2)
    assert state.update(1, True) is None
    assert state.update(2, None) is None
    assert state.update(1, True) is None
    assert state.update(0, True) is None
    assert state.update(3, True) == Onset(3, 1)
    assert state.active == Onset(3, 1)


def test_the_state_survives_a_restart() -> None:
    alarms = [False, True, True, None, True, False, False, True, False, False, False, False, False]
    whole = Persistence(3, 4)
    expected = [whole.update(at, alarm) for at, alarm in enumerate(alarms)]
    parts = Persistence(3, 4)
    seen = []
    for at, alarm in enumerate(alarms):
        parts = Persistence.from_json(parts.to_json())
        seen.append(parts.update(at, alarm))
    assert seen == expected
    assert Onset(4, 1) in seen
    assert any(isinstance(answer, Clear) for answer in seen)


def test_a_score_that_wavers_about_the_limit_is_one_anomaly_until_it_is_calm_for_a_whole_window() -> None:
    scores = [0.5] * 4 + [1.1, 1.2, 1.1, 0.9, 0.85, 0.9, 0.9, 1.1, 1.1, 1.1] + [0.7] * 9 + [1.1] + [0.7] * 10
    alarms, calm = [each > 1 for each in scores], [each <= CALM_LEVEL for each in scores]
    assert [at for at, _ in episodes(range(len(scores)), alarms, 2, 3)] == [5, 12]  # as for old manifests
    one = episodes(range(len(scores)), alarms, 2, 3, clear=10, calm=calm)
    assert one == [(5, 33)]  # the alarm at 23 begins the count anew
    assert (calm_windows(2, 5), calm_windows(128, 5), calm_windows(2, 200)) == (CALM_WINDOWS, 128, 200)


def test_calm_windows_before_an_onset_do_not_count_and_the_count_survives_a_restart() -> None:
    state = Persistence(1, 1, 3)
    course = [(False, True)] * 5 + [(True, False), (False, True), (None, True), (False, True), (False, False)]
    course += [(False, True)] * 3
    seen = []
    for at, (alarm, calm) in enumerate(course):
        state = Persistence.from_json(state.to_json())
        if (change := state.update(at, alarm, calm)) is not None:
            seen.append(change)
    assert seen == [Onset(5, 5), Clear(12, 5)]


def test_a_state_of_version_1_goes_on_as_it_was() -> None:
    old = '{"version": 1, "m": 1, "n": 3, "recent": [[1, true], [2, false], [3, false]], "onset": [1, 1]}'
    assert Persistence.from_json(old).update(4, False) == Clear(4, 1)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 9}', '{"version": 1, "m": 5, "n": 2, "recent": [], "onset": null}']
)
def test_a_foreign_state_is_rejected(text: str) -> None:
    with pytest.raises(Rejected):
        Persistence.from_json(text)


@pytest.mark.parametrize(("m", "n"), [(0, 3), (4, 3)])
def test_impossible_persistence_is_refused(m: int, n: int) -> None:
    with pytest.raises(Misconfigured):
        Persistence(m, n)


def test_episodes_of_a_recorded_run() -> None:
    alarms = [True, True, False, False, True, True]
    assert episodes(range(6), alarms, 2, 2) == [(1, 3), (5, None)]
