"""From rows to a challenger: triage of a stored machine, when training is due, and that a poisoned week promotes nobody."""

import time
from dataclasses import replace
from datetime import timedelta
from functools import cache

import numpy as np
import pytest

from cloud.labels.logic import labels_of
from cloud.labels.port import Verdict
from cloud.training import retraining
from cloud.training.contest import Contest, Outcome
from cloud.training.drift import DAY_US, NOTHING, Kind, Triage
from cloud.training.duel import Grounds, cells_of, duel, run
from cloud.training.history import Judged, Past
from cloud.training.logic import fit
from cloud.training.recording import LeftOut, Recording
from cloud.training.retraining import data_faults, prepare, review
from cloud.training.settings import RetrainingSettings
from cloud.training.triggers import Action, Policy, Seen, Trigger, decide
from firmware_sim.episodes import Episode
from firmware_sim.machine import Machine
from firmware_sim.machines import machine_type
from shared.artifact import unpack
from shared.errors import Misconfigured, Rejected
from shared.event import at
from shared.manifest import Manifest
from shared.onnxruntime import Scorer
from shared.verdict_events import VerdictKind
from tests.models import packed, recording

KIND, SENSOR = "screw-compressor", "oil-temp"
ROW_US = 150_000_000
DAYS = 8
NOTHING_PAST = Past((), (), ())
BEGIN = 1_770_000_000_000_000 // ROW_US


@cache
def rows(days: float, *episodes: Episode) -> Recording:
    """A compressor's rows over so many days."""
    kind = machine_type(KIND)
    machine = Machine(kind, "c-1", seed=9, interval_us=ROW_US, episodes=episodes)
    count = int(days * DAY_US / ROW_US)
    units = tuple(sensor.unit for sensor in kind.sensors)
    return Recording(
        machine.times_us(BEGIN, count), kind.sensor_names, units, machine.values(BEGIN, count).copy()
    )


def day(number: float) -> int:
    return BEGIN * ROW_US + int(number * DAY_US)


def fitted(given: Recording) -> bytes:
    point = machine_type(KIND).operating_sensor
    return fit(
        given, machine="c-1", machine_type="compressor", now_us=1, operating_sensor=point, step_us=ROW_US
    )


def first(given: Recording, days: float) -> Recording:
    chosen = given.times_us < day(days)
    return Recording(given.times_us[chosen], given.sensors, given.units, given.values[chosen])


@cache
def champion() -> bytes:
    return fitted(first(rows(2 * DAYS), DAYS))


def manifest() -> Manifest:
    return unpack(champion()).manifest


STUCK = Episode("stuck", 4.0, day(DAYS + 0.5), None, 0.0, SENSOR)
FILTER = Episode("filter-change", 16.0, day(DAYS + 0.5), None)


def reviewed(given: Recording, past: Past = NOTHING_PAST) -> Triage:
    return review(given, manifest(), past, int(given.times_us[-1]))


def test_each_change_of_a_stored_machine_has_its_triage() -> None:
    assert reviewed(rows(2 * DAYS)).kind is Kind.NONE
    assert reviewed(rows(2 * DAYS, STUCK)).kind is Kind.DATA_FAULT
    changed = rows(2 * DAYS, FILTER)
    assert reviewed(changed).kind is Kind.DRIFT
    worked = LeftOut("maintenance", day(DAYS + 0.4), day(DAYS + 0.45))
    assert reviewed(changed, replace(NOTHING_PAST, maintenance=(worked,))).kind is Kind.MAINTENANCE
    alarm = LeftOut("open-alarm", day(DAYS + 0.5), day(2 * DAYS))
    assert reviewed(changed, replace(NOTHING_PAST, alarms=(alarm,))).kind is Kind.DEGRADATION
    assert reviewed(rows(3)).reason == "there is no baseline of a day yet"
    fewer = replace(rows(3), sensors=("x", *rows(3).sensors[1:]))
    assert "the store has no" in reviewed(fewer).reason


def seen(kind: Kind = Kind.NONE, **more: object) -> Seen:
    return replace(Seen(Triage(kind, reason="so"), DAY_US, 0, None), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "action", "trigger"),
    [
        (seen(), Action.NOTHING, Trigger.SCHEDULE),
        (seen(age_us=31 * DAY_US), Action.TRAIN, Trigger.SCHEDULE),
        (seen(labels=20), Action.TRAIN, Trigger.LABELS),
        (seen(Kind.DRIFT), Action.TRAIN, Trigger.DRIFT),
        (seen(Kind.DRIFT, rest_us=DAY_US // 2), Action.NOTHING, Trigger.SCHEDULE),
        (seen(Kind.DATA_FAULT, age_us=99 * DAY_US), Action.FINDING, Trigger.DRIFT),
        (seen(Kind.NEW_STATE, labels=99), Action.FINDING, Trigger.DRIFT),
        (seen(Kind.MAINTENANCE, age_us=99 * DAY_US), Action.REBASELINE, Trigger.DRIFT),
        (seen(Kind.DEGRADATION, age_us=99 * DAY_US, labels=99), Action.FINDING, Trigger.DRIFT),
        (seen(Kind.DEGRADATION, asked=True), Action.FINDING, Trigger.OPERATOR),
        (seen(Kind.DATA_FAULT, asked=True), Action.TRAIN, Trigger.OPERATOR),
        (seen(asked=True, rest_us=0), Action.TRAIN, Trigger.OPERATOR),
    ],
)
def test_when_training_is_due(given: Seen, action: Action, trigger: Trigger) -> None:
    found = decide(given, Policy())
    assert (found.action, found.trigger) == (action, trigger)
    assert found.reason


def test_a_challenger_is_not_judged_on_rows_that_it_was_trained_on_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = rows(2 * DAYS)
    failure = Judged("fault", at(day(10)), at(day(10.1)), confirmed=True)
    alarms = (LeftOut("open-alarm", day(10.02), day(10.1)), LeftOut("open-alarm", day(12), day(12.1)))
    made = prepare(given, manifest(), replace(NOTHING_PAST, alarms=alarms), [failure], seed=1)
    held = day(2 * DAYS) - int(0.2 * (int(given.times_us[-1]) - manifest().training.last_us))
    assert made.training.times_us.max() <= held
    assert made.grounds.trusted
    monkeypatch.setattr(retraining, "REPLAYED_US", DAY_US // 4)
    short = prepare(given, manifest(), NOTHING_PAST, [], seed=1).grounds
    assert len(short.recording.times_us) == pytest.approx(DAY_US / 2 / ROW_US, abs=2)
    assert short.trusted
    monkeypatch.undo()
    kept = given.times_us > day(DAYS)  # retention took the champion's own rows
    later = Recording(given.times_us[kept], given.sensors, given.units, given.values[kept])
    assert not prepare(later, manifest(), NOTHING_PAST, [], seed=1).grounds.trusted
    assert made.fresh == int((made.training.times_us > manifest().training.last_us).sum()) > made.needed
    reasons = {one.reason for one in made.training.left_out}
    assert reasons == {"open-alarm", "before-failure", "fault", "held-back"}
    replayed = made.grounds.recording.times_us
    assert replayed.max() > held
    assert replayed.min() >= day(0.6 * DAYS) - DAY_US
    assert ((replayed > day(10)) & (replayed < day(10.1))).any()
    assert [one.from_us for one in made.grounds.unknown] == [day(12)]
    # One person's word on that alarm changes nothing; a confirmed one makes it count.
    for confirmed, unknown in ((False, [day(12)]), (True, [])):
        normal = Judged("normal", at(day(12)), at(day(12.1)), confirmed=confirmed)
        said = prepare(given, manifest(), replace(NOTHING_PAST, alarms=alarms), [failure, normal], seed=1)
        assert [one.from_us for one in said.grounds.unknown] == unknown


def test_a_month_of_wear_is_never_trained_away_not_even_by_a_schedule() -> None:
    """A training that came while nothing was to be seen yet does not move the baseline, so the wear is seen all the same."""
    wear = Episode("bearing-wear", 4.0, day(DAYS + 1), None, 30 * 86_400.0)
    given = rows(DAYS + 33, wear)
    policy = Policy(schedule_us=7 * DAY_US, pause_us=0)
    root = manifest()
    trained: list[int] = []
    words: list[Kind] = []
    for number in range(DAYS + 2, DAYS + 33, 5):
        then = first(given, number)
        found = review(then, root, NOTHING_PAST, day(number))
        action = decide(
            Seen(found, day(number) - (trained or [root.training.last_us])[-1], 0, None), policy
        ).action
        words.append(found.kind)
        if action is Action.TRAIN:
            trained.append(day(number))
    flagged = words.index(Kind.DEGRADATION)
    assert Kind.DRIFT not in words
    assert set(words[flagged:]) == {Kind.DEGRADATION}
    assert trained, "the schedule came round before anything was to be seen"
    assert max(trained) < day(DAYS + 1 + 15)
    # A model of the last scheduled training still alarms at what became of the machine.
    late = Scorer(unpack(fitted(first(given, (max(trained) - day(0)) / DAY_US))))
    end = given.times_us > day(DAYS + 31)
    last = Recording(given.times_us[end], given.sensors, given.units, given.values[end])
    assert run(late, last).alarms.mean() > 0.5


# A poisoned week


def contest(challenger: bytes, grounds: Grounds) -> Contest:
    return duel(champion(), challenger, grounds, time.monotonic)


def flipped(person: str, given: Recording) -> list[Verdict]:
    """A fault called normal, and healthy hours called faults, a hundred times over."""
    begins = at(int(given.times_us[0]))
    lies = [
        Verdict(f"vd-{n}", "c-1", begins + timedelta(hours=n), begins + timedelta(hours=n, minutes=50),
                VerdictKind.FAULT, "VIB", 1.0, person, "", begins)
        for n in range(100)
    ]  # fmt: skip
    return [*lies, replace(lies[0], id="vd-x", kind=VerdictKind.NORMAL, code="")]


def test_a_poisoned_week_is_never_champion() -> None:
    poisoned = rows(2 * DAYS, STUCK)
    # By itself nobody trains on it.
    assert (
        decide(seen(reviewed(poisoned).kind, age_us=99 * DAY_US, labels=101), Policy()).action
        is Action.FINDING
    )
    # An operator insists, and one person flipped the labels: none of theirs count as evidence.
    labels = labels_of(flipped("eve", poisoned), [], at(day(99)))
    assert labels.faults == ()
    assert labels.capped == 101
    words = [Judged("fault", one.begins, one.ends) for one in flipped("eve", poisoned)[:100]]
    made = prepare(poisoned, manifest(), NOTHING_PAST, words, seed=1)
    broken = [one for one in made.training.left_out if one.reason == "data-fault"]
    assert sum(one.to_us - one.from_us for one in broken) >= 7.4 * DAY_US
    column = poisoned.sensors.index(SENSOR)
    assert not (np.diff(made.training.values[:, column]) == 0).sum() > 100
    assert made.fresh < made.needed  # what is left of the week is too little: no challenger comes of it
    # And had one come of it: without the poison a person would decide, with it the champion stays.
    assert contest(fitted(made.training), made.grounds).outcome is not Outcome.PROMOTE
    for given in (poisoned, _last_week(poisoned)):
        judged = contest(fitted(given), made.grounds)
        assert judged.outcome is Outcome.KEEP, (judged.reasons, judged.figures())
    assert "does not judge oil-temp" in contest(fitted(_last_week(poisoned)), made.grounds).reasons[0]


def _last_week(given: Recording) -> Recording:
    chosen = given.times_us > day(DAYS + 0.6)
    return Recording(given.times_us[chosen], given.sensors, given.units, given.values[chosen])


def test_a_challenger_that_is_the_champion_is_no_better_and_missing_sensors_are_named() -> None:
    made = prepare(rows(2 * DAYS), manifest(), NOTHING_PAST, [], seed=1)
    same = contest(champion(), made.grounds)
    assert (same.outcome, same.reasons) == (Outcome.KEEP, ("it is no better in anything",))
    scorer = Scorer(unpack(champion()))
    with pytest.raises(Rejected, match="lacks"):
        cells_of(scorer, recording())
    track = run(Scorer(unpack(packed())), recording())
    assert len(track.times_us) > 1000


def test_a_sensor_out_of_all_range_is_left_out_with_the_time_around_it() -> None:
    given = rows(DAYS + 1)
    values = given.values.copy()
    values[-200:-190, given.sensors.index(SENSOR)] = -999.0
    [out] = data_faults(replace(given, values=values), manifest())
    assert (out.reason, out.from_us < given.times_us[-200], out.to_us > given.times_us[-190]) == (
        "data-fault",
        True,
        True,
    )
    assert data_faults(given, manifest()) == []
    assert NOTHING.kind is Kind.NONE


def test_a_plant_sets_when_training_is_due_and_what_is_looked_at() -> None:
    assert RetrainingSettings().policy() == Policy()
    turned = RetrainingSettings.load(
        environ={
            "IM_RETRAINING__SCHEDULE_DAYS": "3", "IM_RETRAINING__LABELS": "2", "IM_RETRAINING__PAUSE_HOURS": "2",
            "IM_RETRAINING__BEFORE_FAILURE_DAYS": "1", "IM_RETRAINING__CONFIRMED_EVENTS": "9",
            "IM_RETRAINING__HELD_SHARE": "0.5",
        }
    ).policy()  # fmt: skip
    none = Kind.NONE
    assert decide(seen(none, age_us=4 * DAY_US, labels=0, rest_us=None), turned).trigger is Trigger.SCHEDULE
    assert decide(seen(none, age_us=4 * DAY_US, labels=0, rest_us=None), Policy()).action is Action.NOTHING
    assert decide(seen(none, age_us=0, labels=2, rest_us=None), turned).action is Action.TRAIN
    assert "within 2 h" in decide(seen(none, age_us=0, labels=2, rest_us=1), turned).reason
    given = rows(2 * DAYS)
    failure = Judged("fault", at(day(4)), at(day(4) + 3_600_000_000), confirmed=True)
    usual, wide = (
        prepare(given, manifest(), NOTHING_PAST, [failure], seed=1, policy=policy)
        for policy in (Policy(), turned)
    )
    before = [
        next(one for one in made.training.left_out if one.reason == "before-failure")
        for made in (usual, wide)
    ]
    assert before[1].to_us - before[1].from_us == DAY_US < before[0].to_us - before[0].from_us
    held = [
        next(one for one in made.training.left_out if one.reason == "held-back") for made in (usual, wide)
    ]
    assert held[1].from_us < held[0].from_us
    assert (usual.grounds.confirmed_min, wide.grounds.confirmed_min) == (5, 9)


@pytest.mark.parametrize(
    "wrong", [{"confirmed_events": 4}, {"schedule_days": 31}, {"held_share": 0.05}, {"baseline_days": 0.5}]
)
def test_what_would_weaken_the_loop_can_t_be_set(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        RetrainingSettings.load(flags=wrong, environ={})
