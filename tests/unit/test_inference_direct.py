"""A machine with no edge, scored from the log: the edge's own scores, through any restart, and no window twice."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from cloud.inference.direct import DirectMachine, Made, Memory
from edge.scoring import MachineScoring
from shared.clock import ManualClock
from shared.errors import Rejected
from shared.eventlog import Record, Stored
from shared.events import AnomalyEnded, AnomalyStarted, Event, ModelActivated, ModelRefused, parse_event
from shared.frame_codec import decode, encode
from shared.frames import Header, Kind, Readings, Records, Scores, slice_readings
from shared.loaded import LoadedModel
from shared.names import MACHINE_EVENTS, SCORES, SENSOR_READINGS
from shared.origin import origin
from shared.packing import join
from tests.unit.edge_models import START, UNITS, loaded, plant, rows

TABLE = plant(200, 3, fault_from=60)
TABLE[100:, 2] -= 8


def record(offset: int, readings: Readings, machine: str = "pump", *, first: int = 1) -> Stored:
    epoch = machine.encode().ljust(16, b"-")
    header = Header("s1", "gateway-1", machine, Kind.READINGS, epoch, first, len(readings))
    return Stored(SENSOR_READINGS, machine, encode(header, readings), {}, "0", offset, START)


def the_log(units: tuple[str, ...] = UNITS) -> list[Stored]:
    """The table as a gateway would frame it: a few rows a record, cut anywhere."""
    readings, sizes = rows(TABLE, units=units), itertools.cycle([5, 1, 7, 2, 30, 3])
    records: list[Stored] = []
    start = 0
    while start < len(readings):
        stop = min(start + next(sizes), len(readings))
        records.append(record(len(records) + 1, slice_readings(readings, start, stop), first=start + 1))
        start = stop
    return records


LOG = the_log()


def scorer(memory: bytes = b"", *, epoch: bytes = b"1" * 16, recent_rows: int = 4000) -> DirectMachine:
    clock = ManualClock()
    return DirectMachine("inference-1", "pump", epoch, clock, recent_rows=recent_rows, memory=memory)


def take(direct: DirectMachine, records: Sequence[Stored], model: LoadedModel | None) -> Made:
    """What comes of records, in as many steps as it takes."""
    steps = [direct.take(records, model)]
    while steps[-1].more:
        steps.append(direct.take(records, model))
    return Made(
        tuple(each for step in steps for each in step.scores),
        tuple(each for step in steps for each in step.events),
        sum(step.windows for step in steps),
    )


def scores_of(made: Sequence[Made]) -> Scores:
    bodies = [decode(each.value)[1] for part in made for each in part.scores]
    body = join(bodies)
    assert isinstance(body, Scores)
    return body


def events_of(made: Sequence[Made]) -> list[Event]:
    return [parse_event(each.value) for part in made for each in part.events]


def edge() -> tuple[Scores, list[Event]]:
    """What an edge makes of the same rows in the same batches, its model there from the first windows on."""
    scoring = MachineScoring("e1", "pump", {}, None)
    bodies, events, view = [], [], 0
    for each in LOG:
        body = decode(each.value)[1]
        assert isinstance(body, Readings)
        view += len(body)
        if scoring.model is None and view > FIRST_ROWS:
            scoring.install(loaded(), START)
        for item in scoring.take(body).items:
            if isinstance(item.body, Records):
                events += [parse_event(one) for one in item.body.record]
            else:
                bodies.append(item.body)
    joined = join(bodies)
    assert isinstance(joined, Scores)
    return joined, events


FIRST_ROWS = 9
"""Rows until each sensor's rate is known."""


def same(one: Scores, other: Scores) -> None:
    assert one.time_us.tolist() == other.time_us.tolist()
    for name in ("score", "state", "contribution", "expected"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_same_rows_give_the_edges_scores_and_events() -> None:
    direct = scorer()
    made = [take(direct, [each], loaded()) for each in LOG]
    wanted, told = edge()
    got = scores_of(made)
    from_first = np.isin(wanted.time_us, got.time_us)
    assert len(got) >= len(TABLE) - 8
    np.testing.assert_array_equal(got.score, wanted.score[from_first])
    np.testing.assert_array_equal(got.contribution, wanted.contribution[from_first])
    found = events_of(made)
    assert [type(each) for each in found] == [ModelActivated, AnomalyStarted, AnomalyEnded]
    assert [each.id for each in found[1:]] == [each.id for each in told]
    assert {each.source for each in found} == {"cloud/inference"}


def test_batches_of_records_change_nothing() -> None:
    one, many = scorer(), scorer()
    alone = [take(one, [each], loaded()) for each in LOG]
    together = [take(many, LOG[at : at + 11], loaded()) for at in range(0, len(LOG), 11)]
    same(scores_of(alone), scores_of(together))
    assert len(together[1].scores) == 1


@pytest.mark.parametrize("seed", range(6))
def test_killed_anywhere_each_window_comes_once_and_as_it_would_have(seed: int) -> None:
    """The memory that is kept may be of before or after what the last life made: then its records come again."""
    random = np.random.default_rng(seed)
    steady = scorer()
    whole = [take(steady, [each], loaded()) for each in LOG]
    stored: dict[int, list[float]] = {}
    told: dict[str, Event] = {}
    direct, memory, place, lives = scorer(), b"", 0, 1
    while place < len(LOG):
        made = direct.take([LOG[place]], loaded())
        if made.scores:
            body = scores_of([made])
            for time_us, score in zip(body.time_us.tolist(), body.score.tolist(), strict=True):
                stored.setdefault(time_us, []).append(score)
        told |= {each.id: each for each in events_of([made]) if not isinstance(each, ModelActivated)}
        # What was made is in the log. Killed here, the memory is the old one; killed below, the record comes again.
        killed = bool(memory) and random.random() < 0.1
        if not killed:
            memory = direct.memory() if direct.scored else memory
            killed = bool(memory) and random.random() < 0.1
            place += not (made.more or killed)
        if killed:
            lives += 1
            direct = scorer(memory, epoch=bytes([lives]) * 16)
    wanted = scores_of(whole)
    assert lives > 3
    assert sorted(stored) == wanted.time_us.tolist()
    assert all(len(set(map(str, each))) == 1 for each in stored.values())
    np.testing.assert_array_equal([stored[at][0] for at in wanted.time_us.tolist()], wanted.score)
    assert set(told) == {each.id for each in events_of(whole)[1:]}


def test_rows_are_numbered_without_a_gap_in_the_order_in_which_they_are_written() -> None:
    direct = scorer()
    numbers: list[int] = []
    for each in LOG + LOG:  # a step that installs ends before its record is scored
        made = direct.take([each], loaded())
        for frame in made.scores:
            header, _ = decode(frame.value)
            numbers += range(header.first, header.last + 1)
        for event in made.events:
            header_of = origin(stored_event(event), Kind.EVENT)
            assert header_of is not None
            assert (header_of.edge, header_of.site, header_of.epoch) == ("inference-1", "s1", b"1" * 16)
            numbers.append(header_of.first)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > len(TABLE) - 10


def stored_event(event: Record) -> Stored:
    return Stored(MACHINE_EVENTS, "pump", event.value, event.headers, "0", 1, START)


def test_a_new_version_takes_over_between_two_records_and_is_told() -> None:
    direct = scorer()
    before = [take(direct, [each], loaded()) for each in LOG[:60]]
    after = [take(direct, [each], loaded(seed=2)) for each in LOG[60:]]
    first, second = scores_of(before), scores_of(after)
    assert {first.version_hash, second.version_hash} == {
        loaded().desired.sha256,
        loaded(seed=2).desired.sha256,
    }
    steady = scorer()
    times = scores_of([take(steady, [each], loaded()) for each in LOG]).time_us.tolist()
    assert first.time_us.tolist() + second.time_us.tolist() == times
    assert [type(each) for each in events_of(after)][:1] == [ModelActivated]


def test_after_a_restart_a_version_that_came_meanwhile_is_told_and_the_anomaly_stays_on() -> None:
    direct = scorer()
    before = [take(direct, [each], loaded()) for each in LOG[:45]]
    assert AnomalyStarted in [type(each) for each in events_of(before)]
    again = scorer(direct.memory())
    rest = [take(again, [each], loaded(seed=2)) for each in LOG[45:]]
    assert [type(each) for each in events_of(rest)] == [ModelActivated, AnomalyEnded]


def test_without_a_model_rows_only_fill_what_a_promoted_one_begins_with() -> None:
    direct = scorer()
    assert all(not made.scores for made in (take(direct, [each], None) for each in LOG[:50]))
    assert not direct.scored
    made = [take(direct, [each], loaded()) for each in LOG[50:60]]
    assert np.isfinite(scores_of(made).score).all()


@pytest.mark.parametrize(
    ("units", "machine", "words"),
    [
        (("m3/h", "kW", "degC"), "pump", "needs flow in l/min"),
        (UNITS, "fan", "the model is for fan, not for pump"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_once(units: tuple[str, ...], machine: str, words: str) -> None:
    direct = scorer()
    made = [take(direct, [each], loaded(machine)) for each in the_log(units)]
    assert [type(each) for each in events_of(made)] == [ModelRefused]
    assert words in events_of(made)[0].reason  # type: ignore[attr-defined]
    assert not direct.scored


def test_what_is_no_frame_of_readings_is_passed_over() -> None:
    direct, plain = scorer(), scorer()
    header = Header("s1", "gateway-1", "pump", Kind.EVENT, b"g" * 16, 1, 1)
    odd = [
        Stored(SENSOR_READINGS, "pump", value, {}, "0", 0, START)
        for value in (b"", b"rubbish", encode(header, Records((b"{}",))), LOG[3].value[:-3])
    ]
    mixed = [each for pair in itertools.zip_longest(LOG, odd) for each in pair if each is not None]
    numbered = [Stored(SCORES, "pump", each.value, {}, "0", at, START) for at, each in enumerate(mixed, 1)]
    same(
        scores_of([take(direct, [each], loaded()) for each in numbered]),
        scores_of([take(plain, [each], loaded()) for each in LOG]),
    )


@pytest.mark.parametrize(
    "data", [b"x", b"{}", b'{"version": 9, "position": {}, "model": "", "state": {}, "grid": 0}']
)
def test_a_memory_that_can_not_be_read_is_a_fresh_start(data: bytes) -> None:
    with pytest.raises(Rejected):
        Memory.decode(data)
    assert take(scorer(data), LOG[:60], loaded()).windows > 0


def test_a_model_too_large_for_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.inference.direct.MOST_CELLS", 10)
    made = take(scorer(), LOG, loaded())
    assert "have 24 cells" in events_of([made])[0].reason  # type: ignore[attr-defined]
