"""From a real store's rows to a fitted artifact."""

import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.telemetry.port import MINUTE_US, TelemetryStore, open_store
from cloud.training import app
from cloud.training.app import newest_us, read_minutes, read_recording, train_machine_models
from cloud.training.origin import code_sha, lock_sha256
from shared.artifact import unpack
from shared.clock import ManualClock
from shared.errors import Rejected
from shared.frames import Quality, Readings
from tests.models import SENSORS, STEP_US, UNITS, healthy
from tests.parts import ROOT
from tests.unit.front_door import T0, readings


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TelemetryStore]:
    async with open_store(f"sqlite:///{tmp_path}/t.db") as opened:
        yield opened


def by_name(
    values: np.ndarray[tuple[int, int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The columns in the store's order of sensors."""
    return values[:, [SENSORS.index(name) for name in sorted(SENSORS)]]


async def test_every_usable_row_is_read_in_its_place(store: TelemetryStore) -> None:
    entry = readings(50)
    body = entry.content
    assert isinstance(body, Readings)
    quality = np.zeros(len(body), np.uint8)
    quality[0], quality[5] = Quality.BAD, Quality.UNCERTAIN  # speed of row 0, flow of row 1
    await store.write([replace(entry, content=replace(body, quality=quality))])
    recording = await read_recording(store, "pump-1")
    assert recording.sensors == tuple(sorted(SENSORS))
    assert recording.units == tuple(UNITS[SENSORS.index(name)] for name in recording.sensors)
    assert recording.times_us.tolist() == [T0 + n * STEP_US for n in range(50)]
    wanted = by_name(healthy(50))
    wanted[0, recording.sensors.index("speed")] = np.nan
    np.testing.assert_array_equal(recording.values, wanted)


async def test_a_range_of_time_is_cut_out(store: TelemetryStore) -> None:
    await store.write([readings(50)])
    part = await read_recording(store, "pump-1", from_us=T0 + 10 * STEP_US, to_us=T0 + 20 * STEP_US)
    assert part.times_us.tolist() == [T0 + n * STEP_US for n in range(10, 20)]
    empty = await read_recording(store, "pump-1", from_us=T0 + 10**12)
    assert empty.values.shape == (0, 4)


async def test_nothing_and_too_much_are_refused(
    store: TelemetryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Rejected, match="pump-1 has no readings"):
        await read_recording(store, "pump-1")
    await store.write([readings(50)])
    monkeypatch.setattr(app, "MAX_ROWS", 199)
    with pytest.raises(Rejected, match="choose a later start"):
        await read_recording(store, "pump-1")


async def test_candidates_are_fitted_from_the_store_too(store: TelemetryStore) -> None:
    await store.write([readings(250)])  # too few for the autoencoder
    pytest.importorskip("torch")
    clock = ManualClock()
    trained = await train_machine_models(store, "pump-1", "centrifugal-pump", clock, operating_sensor="speed")
    assert trained.machine == "pump-1"
    assert [each.method for each in trained.candidates] == ["window-pca"]
    manifest = unpack(trained.chosen.artifact).manifest
    assert manifest.operating is not None
    assert trained.data == manifest.training
    assert (manifest.code_sha, manifest.lock_sha256) == (code_sha(), lock_sha256())


def test_a_checkout_tells_its_commit_and_its_lock() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    asked = [git, "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    assert (code_sha() or "").removesuffix("-dirty") == head
    assert lock_sha256() == hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()


async def test_minutes_are_means_at_their_ends(store: TelemetryStore) -> None:
    await store.write([readings(600)])
    minutes = await read_minutes(store, "pump-1", T0, T0 + 10**10)
    assert minutes.sensors == tuple(sorted(SENSORS))
    assert (minutes.times_us % MINUTE_US == 0).all()
    rows = await read_recording(store, "pump-1")
    for time_us, means in zip(minutes.times_us.tolist(), minutes.values, strict=True):
        inside = (rows.times_us >= time_us - MINUTE_US) & (rows.times_us < time_us)
        np.testing.assert_allclose(means, rows.values[inside].mean(axis=0))
    nobody = await read_minutes(store, "fan-9", T0, T0 + 10**10)
    assert nobody.values.shape == (0, 0)


async def test_a_long_history_is_read_from_where_it_fits(
    store: TelemetryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write([readings(1200)])
    now = T0 + 1200 * STEP_US
    assert await newest_us(store, "pump-1", now) < T0
    monkeypatch.setattr(app, "MAX_ROWS", 2400)
    begin = await newest_us(store, "pump-1", now)
    part = await read_recording(store, "pump-1", from_us=begin)
    assert begin > T0
    assert 1900 < np.isfinite(part.values).sum() <= 2400
