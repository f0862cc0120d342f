"""One machine's scoring: windows in any batching, anomalies with their sensors, model swaps, restarts."""

import asyncio
import itertools
from pathlib import Path

import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry

from edge.models import ModelFolder
from edge.outbox import open_outbox
from edge.scorer import ScoringLoop
from edge.scoring import MachineScoring, Outcome
from edge.settings import Limits
from shared.clock import ManualClock, SystemClock
from shared.errors import Rejected
from shared.events import (
    AnomalyEnded,
    AnomalyStarted,
    Event,
    ModelActivated,
    parse_event,
)
from shared.frames import Kind, Records, Scores, ScoreState, slice_readings
from shared.loaded import Desired, load_model
from shared.machine_events import LimitCleared, LimitCrossed
from shared.packing import join
from shared.scoring_state import ScoringState
from tests.unit.edge_models import START, UNITS, artifact, desired, loaded, plant, rows


def machine(state: bytes | None = None, limits: dict[str, Limits] | None = None) -> MachineScoring:
    return MachineScoring("e1", "pump", limits or {}, state)


def events(*outcomes: Outcome) -> list[Event]:
    return [
        parse_event(record)
        for outcome in outcomes
        for item in outcome.items
        if isinstance(item.body, Records)
        for record in item.body.record
    ]


def scores(*outcomes: Outcome) -> Scores:
    body = join([item.body for outcome in outcomes for item in outcome.items if item.kind is Kind.SCORES])
    assert isinstance(body, Scores)
    return body


def test_without_a_model_it_learns_and_watches_limits() -> None:
    scoring = machine(limits={"temperature": Limits(high=45)})
    outcome = scoring.take(rows(plant(30, 2, fault_from=10)))
    assert scoring.state == "learning"
    assert [type(event) for event in events(outcome)] == [LimitCrossed]
    assert all(item.urgent for item in outcome.items)
    assert [type(e) for e in events(scoring.take(rows(plant(10, 2), 30)))] == [LimitCleared]
    assert scoring.take(rows(plant(10, 2), 40)).items == ()


def test_an_anomaly_starts_with_its_sensor_first_and_ends() -> None:
    scoring = machine()
    assert [type(e) for e in events(scoring.install(loaded(), START))] == [ModelActivated]
    table = plant(400, 3, fault_from=200)
    table[300:, 2] -= 8
    started = scoring.take(rows(table[:280]))
    assert scoring.state == "anomalous"
    assert scoring.leading[0].sensor == "temperature"
    (start,) = events(started)
    assert isinstance(start, AnomalyStarted)
    first = start.sensors[0]
    assert (first.sensor, first.unit) == ("temperature", "degC")
    assert first.seen is not None
    assert first.expected is not None
    assert first.seen > first.expected
    ended = scoring.take(rows(table[280:], 280))
    (end,) = events(ended)
    assert isinstance(end, AnomalyEnded)
    assert end.onset == start.onset
    assert end.peak_score > end.limit
    assert scoring.state == "normal"
    assert scoring.leading == ()


def test_any_batching_gives_the_same_scores() -> None:
    table = rows(plant(300, 4, fault_from=150))
    at_once, piecewise = machine(), machine()
    at_once.install(loaded(), START)
    piecewise.install(loaded(), START)
    whole = scores(at_once.take(table))
    edges = [0, 1, 2, 50, 51, 400, len(table)]
    parts = [piecewise.take(slice_readings(table, a, b)) for a, b in itertools.pairwise(edges)]
    pieces = scores(*parts)
    assert whole.time_us.tolist() == pieces.time_us.tolist()
    np.testing.assert_allclose(whole.score, pieces.score, rtol=1e-6)
    assert whole.state.tolist() == pieces.state.tolist()
    assert np.diff(whole.time_us).tolist() == [1_000_000] * (len(whole) - 1)


def test_a_swap_scores_on_at_once_and_no_window_twice() -> None:
    scoring = machine()
    scoring.install(loaded(), START)
    before = scores(scoring.take(rows(plant(100, 5))))
    scoring.install(loaded(seed=9), START)
    after = scores(scoring.take(rows(plant(50, 6), 100)))
    assert after.time_us[0] == before.time_us[-1] + 1_000_000
    assert after.state.tolist().count(ScoreState.UNSCORED) == 0
    assert after.version_hash != before.version_hash


def test_a_first_model_scores_at_once_from_what_was_seen_before() -> None:
    scoring = machine()
    for first in range(60):
        scoring.take(rows(plant(1, first), first))
    scoring.install(loaded(), START)
    outcome = scores(scoring.take(rows(plant(20, 6), 60)))
    assert outcome.state.tolist().count(ScoreState.UNSCORED) == 0


def test_an_anomaly_survives_a_restart_and_a_swap() -> None:
    scoring = machine()
    scoring.install(loaded(), START)
    outcome = scoring.take(rows(plant(300, 7, fault_from=150)))
    assert scoring.state == "anomalous"
    again = machine(outcome.state)
    again.install(loaded(), START, again=True)
    assert again.state == "anomalous"
    assert events(again.take(rows(plant(60, 8, fault_from=0), 300))) == []
    again.install(loaded(seed=9), START)
    assert again.state == "anomalous"
    (end,) = events(again.take(rows(plant(100, 8), 360)))
    assert isinstance(end, AnomalyEnded)


def test_an_unreadable_state_is_a_fresh_start() -> None:
    for bad in (b"nonsense", b'{"version": 1}', ScoringState().encode().replace(b":2,", b":9,")):
        assert machine(bad).state == "learning"
        with pytest.raises(Rejected):
            ScoringState.decode(bad)


def test_gaps_and_foreign_units_are_unscored_with_a_reason() -> None:
    scoring = machine()
    scoring.install(loaded(), START)
    table = rows(plant(60, 9))
    only_flow = slice_readings(table, 0, len(table))
    scoring.take(only_flow)
    assert scoring.reason == ""
    foreign = rows(plant(60, 9), 60, units=("l/min", "W", "degC"))
    outcome = scores(scoring.take(foreign))
    assert outcome.state[-1] == ScoreState.UNSCORED
    assert np.isnan(outcome.score[-1])
    assert scoring.score is None
    assert "no reading" in scoring.reason
    assert scoring.unscored > 0


async def test_the_loop_swaps_in_order_and_drops_to_unscored_when_behind(tmp_path: Path) -> None:
    changes: list[int] = []
    scoring = {"pump": machine()}
    async with open_outbox(tmp_path / "o.db", site="s1", edge="e1", clock=ManualClock()) as outbox:
        loop = ScoringLoop(
            outbox,
            scoring,
            SystemClock(),
            CollectorRegistry(),
            limit=400,
            on_change=lambda: changes.append(1),
            rows_waiting=lambda: None,
        )
        loop.offer("pump", rows(plant(50, 1)))
        loop.offer("pump", rows(plant(50, 2), 50))
        loop.offer("pump", rows(plant(50, 2), 100))
        assert loop.unscored_rows == 150
        loop.install("pump", loaded())
        loop.offer("pump", rows(plant(20, 3), 100))
        task = asyncio.create_task(loop.run())
        async with asyncio.timeout(10):
            while (await outbox.report())["waiting"] < 20:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert scoring["pump"].model is not None
        assert changes
        assert await outbox.state("pump") is not None


def test_models_on_disk_whole_or_passed_over(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    assert folder.load("pump") == (None, [])
    old, new = artifact(), artifact(seed=9)
    folder.save("pump", desired(old, 1), old)
    folder.save("pump", desired(new, 2), new)
    folder.save("pump", desired(new, 2), new)
    model, problems = folder.load("pump")
    assert (model and model.desired.version, problems) == (2, [])
    blob = tmp_path / f"{desired(new).sha256}.model"
    blob.write_bytes(new[: len(new) // 2])
    model, problems = folder.load("pump")
    assert model is not None
    assert model.desired.version == 1
    assert "version 2" in problems[0]
    third = artifact(seed=11)
    folder.save("pump", desired(third, 3), third)
    assert len(list(tmp_path.glob("*.model"))) == 2
    (tmp_path / "pump.json").write_text("{")
    assert folder.load("pump") == (None, [])


def test_a_half_written_or_foreign_file_is_no_model() -> None:
    data = artifact()
    with pytest.raises(Rejected, match="hash"):
        load_model(desired(data), data[:-10])
    for bad in (b"x", b"{}", orjson.dumps({"model": "a", "version": 1, "object": "o", "sha256": "zz"})):
        with pytest.raises(Rejected, match="desired state"):
            Desired.parse(bad)
    assert Desired.parse(orjson.dumps(desired(data).to_dict())) == desired(data)
    assert UNITS


def test_a_shadow_scores_beside_the_champion_marked_and_raises_nothing() -> None:
    plain, tried = machine(), machine()
    for each in (plain, tried):
        each.install(loaded(), START)
        each.take(rows(plant(100, 3)))
    tried.try_out(loaded(seed=9), START)
    table = rows(plant(200, 4, fault_from=100), 100)
    alone, both = plain.take(table), tried.take(table)
    assert [e.id for e in events(both)] == [e.id for e in events(alone)] != []
    parts = [item.body for item in both.items if isinstance(item.body, Scores)]
    champion = [part for part in parts if part.version_hash == desired(artifact()).sha256]
    shadow = [part for part in parts if part.version_hash == desired(artifact(seed=9)).sha256]
    np.testing.assert_array_equal(join(list(champion)).score, scores(alone).score)  # type: ignore[union-attr]
    assert {state for part in shadow for state in part.state.tolist()} == {ScoreState.SHADOW}
    assert tried.shadow is not None
    told = tried.shadow.report()
    assert told["windows"] == sum(len(part) for part in shadow) == len(scores(alone))
    assert (told["unpaired"], told["episodes"]) == (0, 1)
    over = sum(int((part.score > part.limit).sum()) for part in shadow)
    assert told["both"] + told["shadow"] == over > 0
    assert told["version"] == 1
    tried.try_out(None, START)
    assert {
        i.body.version_hash for i in tried.take(rows(plant(20, 5), 300)).items if isinstance(i.body, Scores)
    } == {desired(artifact()).sha256}
