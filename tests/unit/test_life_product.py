"""Remaining life as a product: an artifact that tests itself, the registry, and answers over a real log, store and API."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cloud.api.fleet import Reported
from cloud.api.live import Broadcaster
from cloud.assets.model import Kind as AssetKind
from cloud.assets.sightings import assets_of
from cloud.life.app import LifeModels
from cloud.life.artifact import LifeArtifact, load_life, load_tried
from cloud.life.figures import winkler
from cloud.life.logic import Config, fit
from cloud.life.manifest import LifeManifest
from cloud.life.runs import Runs
from cloud.life.training import Terms, train_life
from cloud.registry.app import load_registry, register_life
from cloud.telemetry.port import HOUR_US, Entry
from cloud.ui.lives import Life, Lives
from industrialmind.asset_part import Eyes
from industrialmind.life_words import described, life_card, listed
from industrialmind.model_answers import ModelAnswers
from shared.artifact import sha256, stored_zip
from shared.errors import Rejected, Unavailable
from shared.eventlog import Record, Stored
from shared.frames import Header, Kind, Readings
from shared.loaded import Desired
from shared.names import SENSOR_READINGS, WORK_ORDERS
from shared.work_order_events import WorkOrderClosed, WorkOrderOpened
from tests.servers import NatsServer
from tests.unit.edge_models import artifact as anomaly_artifact
from tests.unit.inference_parts import CLOCK, Inference, open_inference
from tests.unit.life_fleet import COLUMNS, fleet

BEGIN = 1_700_000_000_000_000 // HOUR_US * HOUR_US
CONFIG = Config(cap=50.0, folds=3, repeats=1, rows=400, rounds=20)
TERMS = Terms(("pump",), "flow below 60 %", "two loads, half of the time each", HOUR_US, "ann")


@pytest.fixture(scope="module")
def data() -> bytes:
    return train_life(fleet(12), TERMS, CONFIG, 1)


@pytest.fixture(scope="module")
def loaded(data: bytes) -> LifeArtifact:
    return load_life(data)


def test_what_is_loaded_says_what_was_fitted(loaded: LifeArtifact) -> None:
    asked = fleet(8, seed=5, cut=True)
    wanted = fit(fleet(12), CONFIG).estimate(asked)
    told = loaded.tell(asked)
    assert [each.enough for each in told] == wanted.evidence.tolist()
    assert [each.more_than is not None for each in told] == wanted.open_ended.tolist()
    np.testing.assert_allclose(
        [each.ends[90] for each in told], np.column_stack([wanted.low, wanted.high]), atol=1e-3
    )
    for each in told:
        (low, high), (lower, higher) = each.ends[80], each.ends[95]
        assert lower <= low <= each.median <= high <= higher
    assert loaded.manifest.provisional
    assert loaded.manifest.failure_criterion == TERMS.failure_criterion


def test_figures_of_held_out_units_stand_beside_what_age_alone_says(loaded: LifeArtifact) -> None:
    found = loaded.manifest.metrics
    assert 0 < found["held_out_rmse_capped_hours"] < found["held_out_floor_rmse_capped_hours"]
    assert 0 < found["held_out_winkler_90_hours"] < found["held_out_floor_winkler_90_hours"]
    assert 0.8 <= found["held_out_coverage_90"] <= 1
    minutes = load_life(train_life(fleet(12), replace(TERMS, cycle_us=HOUR_US // 60), CONFIG, 1)).manifest
    assert minutes.metrics["held_out_coverage_90"] == found["held_out_coverage_90"]
    assert minutes.metrics["held_out_mae_capped_hours"] * 60 == pytest.approx(
        found["held_out_mae_capped_hours"]
    )


def test_figures_count_what_intervals_missed() -> None:
    missed = winkler(np.array([1.0, 1.0, 5.0]), np.array([3.0, 3.0, 9.0]), np.array([2.0, 3.5, 4.0]))
    np.testing.assert_allclose(missed, [2.0, 2.0 + 20 * 0.5, 4.0 + 20 * 1.0])


async def test_assets_take_sensors_ranges_from_anomaly_models_alone(
    inference: Inference, data: bytes
) -> None:
    await _registered(inference, data)
    answers, live = (
        ModelAnswers(inference.events, inference.control, CLOCK),
        Broadcaster(Reported(inference.control), CLOCK, stale_after=10),
    )
    eyes = Eyes(inference.control, inference.store, live, answers)
    assert (await eyes.see()).models == []
    known = await inference.promoted(anomaly_artifact())
    seen = await eyes.see()
    assert seen.models == [(known.machine, known.manifest)]
    assert (AssetKind.MACHINE, known.machine) not in assets_of(seen)  # a model alone makes no asset


async def test_life_models_are_listed_and_shown_as_models_are(inference: Inference, data: bytes) -> None:
    await _registered(inference, data)
    later = await _registered(inference, train_life(fleet(12), TERMS, CONFIG, 2))
    await inference.promoted(anomaly_artifact())
    models, _ = await ModelAnswers(inference.events, inference.control, CLOCK).models()
    assert [(one.purpose, one.version, one.aliases) for one in models] == [
        ("anomaly", 1, ("champion",)),
        ("life", 1, ("champion",)),
        ("life", 2, ("challenger",)),
    ]
    first = models[1].model_dump(mode="json")
    card = life_card(first)
    assert "until: flow below 60 %; at this load: two loads" in card
    assert "| held_out_coverage_90 | " in card
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(listed([first, models[2].model_dump(mode="json")]))
    console.print(described(first))
    shown = console.export_text()
    assert later[:12] in shown
    assert f"{models[1].metrics['held_out_floor_winkler_90_hours']:.4g}" in shown
    assert "flow below 60 %" in shown


def test_the_same_histories_make_the_same_file(data: bytes) -> None:
    assert train_life(fleet(12), TERMS, CONFIG, 1) == data


@pytest.mark.parametrize("name", ["model.onnx", "preparation.json", "probe.json"])
def test_a_part_that_the_manifest_does_not_name_is_refused(data: bytes, name: str) -> None:
    with pytest.raises(Rejected, match=name):
        load_life(_with(data, name, lambda part: part + b" "))


def test_a_model_that_fails_its_own_test_is_refused(data: bytes, loaded: LifeArtifact) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        preparation = archive.read("preparation.json")
    shifted = replace(
        loaded.preparation, survival=replace(loaded.preparation.survival, lives=np.array([9.0, 9.5]))
    )
    other = shifted.to_json()
    assert other != preparation
    changed = _with(data, "preparation.json", lambda _: other)
    named = _with(changed, "manifest.json", lambda part: part.replace(_sha(preparation), _sha(other)))
    with pytest.raises(Rejected, match="self-test"):
        load_life(named)


def test_what_comes_from_elsewhere_is_tried_in_a_child(data: bytes, loaded: LifeArtifact) -> None:
    assert load_tried(data, expected_hash=loaded.version_hash).manifest == loaded.manifest
    other = _with(data, "probe.json", lambda part: part.replace(b'"evidence":[true', b'"evidence":[false'))
    with pytest.raises(Rejected, match=r"probe\.json"):
        load_tried(other, expected_hash=sha256(other))


async def test_a_slow_model_keeps_no_other_waiting_and_is_fetched_once(
    data: bytes, loaded: LifeArtifact
) -> None:
    go = asyncio.Event()
    fetched: list[str] = []

    async def find(machine: str, _: str | None) -> Desired:
        return Desired(f"{machine}/m", 1, machine, loaded.version_hash if machine == "quick" else "ab" * 32)

    async def fetch(name: str) -> bytes:
        fetched.append(name)
        if name == "slow":
            await go.wait()
            raise Unavailable("the object store is away")
        return data

    models = LifeModels(find, fetch, kept=2)
    slow = [asyncio.create_task(models.get("slow", None)) for _ in range(3)]
    await asyncio.sleep(0)
    slow.pop().cancel()
    _, artifact = await models.get("quick", None)
    assert artifact.version_hash == loaded.version_hash
    assert (await models.get("quick", None))[1] is artifact
    go.set()
    said = await asyncio.gather(*slow, return_exceptions=True)
    assert [type(each) for each in said] == [Unavailable] * 2
    assert sorted(fetched) == ["quick", "slow"]
    with pytest.raises(Unavailable):
        await models.get("slow", None)


def test_too_few_units_and_cycles_of_seconds_are_refused() -> None:
    with pytest.raises(Rejected, match="at least 10"):
        train_life(fleet(9), TERMS, CONFIG, 1)
    with pytest.raises(Rejected, match="whole minutes"):
        train_life(fleet(12), replace(TERMS, cycle_us=1_000_000), CONFIG, 1)


def test_a_manifest_says_which_field_is_wrong(loaded: LifeArtifact) -> None:
    with pytest.raises(Rejected, match="failure_criterion"):
        LifeManifest.from_json(loaded.manifest.to_json().replace(b"flow below 60 %", b""))


@pytest.fixture
async def inference(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Inference]:
    async with open_inference(tmp_path, nats_server) as made:
        yield made


async def _registered(inference: Inference, data: bytes, *, deliver: bool = False) -> str:
    manifest = load_life(data).manifest.model_dump(mode="json")
    (model,) = await register_life(
        inference.events, inference.control, data, manifest, CLOCK, deliver=deliver
    )
    return model.version_hash


async def test_a_life_model_and_one_of_anomalies_do_not_take_each_others_place(
    inference: Inference, data: bytes
) -> None:
    anomalies = await inference.promoted(anomaly_artifact())
    first = await _registered(inference, data)
    assert await _registered(inference, data) == first
    later = await _registered(inference, train_life(fleet(12), TERMS, CONFIG, 2))
    registry, _ = await load_registry(inference.events)
    champion, told = registry.champion("pump"), registry.life("pump")
    assert champion is not None
    assert champion.version_hash == anomalies.version_hash
    assert told is not None
    assert (told.version_hash, told.version) == (first, 1)
    assert len(registry.lives) == 2
    assert len(registry.models) == 1
    await _registered(inference, train_life(fleet(12), TERMS, CONFIG, 2), deliver=True)
    registry, _ = await load_registry(inference.events)
    told = registry.life("pump")
    assert told is not None
    assert told.version_hash == later
    assert registry.champion("pump") == champion


async def test_a_machine_is_told_its_life_since_it_was_renewed(inference: Inference, data: bytes) -> None:
    assert "life train" in (await inference.get("/v1/machines/pump/life", 404))["title"]
    assert await inference.get("/v1/life") == {"machines": []}
    version = await _registered(inference, data)
    assert "no whole row" in (await inference.get("/v1/machines/pump/life", 404))["title"]
    failed, worn = fleet(1, seed=3), _cut(fleet(1, seed=6), 20)
    await _store(inference, failed, 0)
    hours = len(failed.cycles)
    await _store(inference, worn, hours, first_row=1 + failed.values.size)
    await _repaired(inference, BEGIN + hours * HOUR_US)
    found = await inference.get("/v1/machines/pump/life")
    assert found["model"]["version_hash"] == version
    assert found["renewed_by"] == "work-order"
    assert found["since_us"] == BEGIN + hours * HOUR_US
    assert found["age_hours"] == len(worn.cycles) - 1  # the hour that runs is not whole yet
    wanted = load_life(data).tell(_cut(worn, 1))[0]
    assert found["run_hours"]["median"] == pytest.approx(wanted.median)
    assert found["run_hours"]["interval_90"] == pytest.approx(list(wanted.ends[90]))
    assert found["duty"] == 1.0
    assert found["calendar_days"]["median"] == pytest.approx(wanted.median / 24)
    assert found["failure_criterion"] == TERMS.failure_criterion
    assert found["load_assumption"] == TERMS.load_assumption
    low, high = found["run_hours"]["interval_90"]
    assert low <= 21 <= high  # what that unit had left
    change = found["change"]
    assert change["ran_hours"] == 24
    assert change["median_hours"] + change["moved_hours"] == pytest.approx(found["run_hours"]["median"])
    assert {each["sensor"] for each in change["because"]} & {"flow", "heat"}
    assert inference.figure("im_inference_lives_total", outcome=found["outcome"]) == 1
    room = Lives()
    room.take_tellers((await inference.get("/v1/life"))["machines"])
    assert room.tellers == {"pump": version}
    room.take("pump", found)
    shown = room.of("pump")
    assert isinstance(shown, Life)
    assert shown.run_hours.interval_90 == (low, high)
    asked = await inference.get("/v1/machines/pump/life", since_us=BEGIN)
    assert asked["renewed_by"] == "asked"
    assert asked["age_hours"] == found["age_hours"] + hours


async def test_calendar_days_follow_the_duty_and_time_off_wears_nothing(
    inference: Inference, data: bytes
) -> None:
    await _registered(inference, data)
    worn = _cut(fleet(1, seed=6), 20)
    await _store(inference, worn, 0, every=2)
    found = await inference.get("/v1/machines/pump/life")
    assert found["renewed_by"] == "first-reading"
    assert found["age_hours"] == len(worn.cycles) - 1
    assert found["duty"] == pytest.approx(0.5, abs=0.01)
    assert found["calendar_days"]["median"] == pytest.approx(
        found["run_hours"]["median"] / 24 / found["duty"]
    )


async def test_posted_rows_are_told_and_strange_ones_get_a_reason(inference: Inference, data: bytes) -> None:
    await _registered(inference, data)
    worn = _cut(fleet(1, seed=6), 20)
    found = await inference.post(_body(worn), path="/v1/life")
    assert found["outcome"] == "told"
    assert found["change"] is None
    strange = replace(worn, values=worn.values * np.array([1, 1, 40, 1, 1, 1]))
    found = await inference.post(_body(strange), path="/v1/life")
    assert found["outcome"] == "not-enough-evidence"
    assert "unlike" in found["reason"]
    assert found["unusual"][0] == "heat"
    assert found["run_hours"]["interval_80"][0] == 0
    silent = _body(worn)
    silent["values"] = {"noise": silent["values"]["noise"], "smell": silent["values"]["heat"]}
    found = await inference.post(silent, path="/v1/life")
    assert found["outcome"] == "not-enough-evidence"
    assert found["ignored"] == ["smell"]
    assert "heat" in found["silent"]
    foreign = {**silent, "values": {"smell": silent["values"]["smell"]}}
    assert "none of the model's sensors" in (await inference.post(foreign, 422, "/v1/life"))["title"]
    await inference.post({**silent, "cycles": [1.0]}, 422, "/v1/life")
    await inference.post(_body(worn) | {"version_hash": "0" * 64}, 404, "/v1/life")


def _body(runs: Runs) -> dict[str, Any]:
    values = {name: runs.values[:, at].tolist() for at, name in enumerate(runs.columns)}
    return {"machine": "pump", "cycles": runs.cycles.tolist(), "values": values}


def _cut(runs: Runs, rows: int) -> Runs:
    """Without its newest rows."""
    return runs.cut(runs.last - rows)


async def _store(inference: Inference, runs: Runs, hour: int, *, every: int = 1, first_row: int = 1) -> None:
    """A reading of each sensor at half past each hour of running."""
    count, width = runs.values.shape
    times = BEGIN + (hour + every * np.repeat(np.arange(count), width)) * HOUR_US + HOUR_US // 2
    readings = Readings(
        COLUMNS,
        ("",) * width,
        np.tile(np.arange(width), count),
        times,
        times + 500,
        runs.values.reshape(-1),
        np.zeros(count * width, np.uint8),
    )
    header = Header("s1", "gateway-1", "pump", Kind.READINGS, b"e" * 16, first_row, len(readings))
    place = Stored(SENSOR_READINGS, "pump", b"", {}, "0", first_row, BEGIN)
    await inference.store.write([Entry(place, header, readings)])


def _opened() -> WorkOrderOpened:
    return WorkOrderOpened(
        source="test",
        subject="wo-1",
        occurred_at=datetime(2023, 11, 1, tzinfo=UTC),
        revision=1,
        by="ann",
        machine="pump",
        component="",
        kind="corrective",
        priority="normal",
        title="worn",
        description="",
        anomaly="",
    )


async def _repaired(inference: Inference, time_us: int) -> None:
    closed = WorkOrderClosed(
        source="test",
        subject="wo-1",
        occurred_at=datetime.fromtimestamp(time_us / 1e6, UTC),
        revision=2,
        by="ann",
        failure_code="BRD",
        actions="new impeller",
    )
    records = [Record(each.to_json(), id=each.id) for each in (_opened(), closed)]
    await inference.events.append(WORK_ORDERS, "wo-1", records)


def _with(data: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {each: archive.read(each) for each in archive.namelist()}
    return stored_zip({**parts, name: change(parts[name])})


def _sha(data: bytes) -> bytes:
    return sha256(data).encode()
