"""A long outage on little disk: the cap holds, anomalies stay raw, the rest is told as degraded, and it drains live first."""

import random
from pathlib import Path

import numpy as np
import pytest

from cloud.ingest.logic import read_record
from cloud.ledger.logic import Fold, Held, judge
from cloud.ledger.report import EdgeReport
from cloud.telemetry.port import open_store
from edge.flight import Flight
from edge.outbox import open_outbox
from shared import names
from shared.clock import ManualClock
from shared.eventlog import Stored
from shared.frame_codec import decode
from shared.frames import Kind
from shared.packing import Item
from tests.faults.outage import BYTES_A_READING, MARGIN, SENSORS, is_anomalous, readings, run, sent_order

MB = 1024 * 1024
DAY = 86_400
SIZES = [
    pytest.param(16 * MB, None, id="16 MB", marks=pytest.mark.real),
    pytest.param(None, 7 * DAY, id="7 days", marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]),
]
"""Volume without a cap, or how long: the cap is a third of the volume."""


def sized(volume: int | None, seconds: int | None) -> tuple[int, int]:
    """Seconds and cap."""
    length = seconds or round((volume or 0) / BYTES_A_READING / SENSORS)
    return length, round(length * SENSORS * BYTES_A_READING / 3)


@pytest.mark.parametrize(("volume", "length"), SIZES)
async def test_an_outage_degrades_what_is_not_anomalous(
    tmp_path: Path, volume: int | None, length: int | None
) -> None:
    seconds, cap = sized(volume, length)
    outage = await run(tmp_path / "outbox" / "outbox.db", seconds=seconds, share=0.05, max_bytes=cap)
    assert outage.most_bytes <= cap
    assert outage.raw[outage.anomalous()].all()
    assert (outage.raw ^ (outage.covered > 0)).all(), "a reading is nowhere, or in two places"
    usage = outage.usage
    assert usage is not None
    assert usage.thinned == (outage.covered > 0).sum() > 0
    assert usage.thinned_held == 0
    ages = [np.flatnonzero((outage.covered == width).any(axis=1)).mean() for width in (60, 10)]
    assert ages[0] < ages[1], "the oldest are not the coarsest"


@pytest.mark.parametrize(("volume", "length"), SIZES)
async def test_where_anomalies_alone_fill_it_the_oldest_of_them_are_thinned(
    tmp_path: Path, volume: int | None, length: int | None
) -> None:
    seconds, cap = sized(volume, length)
    outage = await run(tmp_path / "outbox" / "outbox.db", seconds=seconds, share=0.8, max_bytes=cap)
    assert outage.most_bytes <= cap
    assert (outage.raw ^ (outage.covered > 0)).all()
    usage = outage.usage
    assert usage is not None
    assert 0 < usage.thinned_held < usage.thinned
    raw = np.flatnonzero(outage.raw.all(axis=1))
    thinned = np.flatnonzero((outage.covered > 0).any(axis=1) & outage.anomalous())
    assert np.median(raw) > np.median(thinned)
    calm = ~is_anomalous(np.arange(seconds), 0.8)
    oldest = np.arange(seconds) < thinned.max() - 2 * MARGIN
    deep = calm & oldest & ~_near(outage.anomalous())
    assert not outage.raw[deep].any(), "ordinary readings are raw where anomalies were thinned"


def _near(anomalous: np.ndarray) -> np.ndarray:
    """Seconds within the margin of an anomaly, and one more of the grid's."""
    window = np.ones(2 * (MARGIN + 20) + 1)
    return np.convolve(anomalous, window, mode="same") > 0


async def test_what_was_degraded_drains_after_live_rows_and_is_no_loss_to_the_ledger(tmp_path: Path) -> None:
    seconds, cap = 24_000, 2 * MB
    path = tmp_path / "outbox" / "outbox.db"
    outage = await run(path, seconds=seconds, share=0.05, max_bytes=cap)
    clock = ManualClock()
    flight = Flight(clock, random.Random(1))
    order: list[int] = []
    data: dict[int, bytes] = {}
    async with (
        open_outbox(path, site="s1", edge="e1", clock=clock, max_bytes=cap) as outbox,
        open_store(f"sqlite:////{tmp_path / 'telemetry.db'}") as store,
    ):
        flight.add(await outbox.frames())
        flight.link_up()
        await outbox.append([Item("pump", Kind.READINGS, readings(seconds, 1))])
        flight.add(await outbox.cut(partial=True))
        fold = Fold()
        offset = 0
        while refs := flight.take():
            for ref in refs:
                data[ref.first] = await outbox.data(ref.first) or b""
                offset += 1
                topic = names.SCORES if ref.kind is Kind.SCORES else names.SENSOR_READINGS
                record = Stored(topic, "pump", data[ref.first], {}, "0", offset, clock.now_us())
                fold.add(record)
                await store.write([read_record(record)[0]])
            order += sent_order(refs, data)
            flight.free(await outbox.free([(ref.first, ref.last) for ref in refs]))
        report = EdgeReport.model_validate(await outbox.report())
        held = await Held.by(store, caught_up=True)
        ledger = judge(fold, {"e1": report}, held, clock.now_us())
        stored = sum([await store.count("pump")])
        buckets = [part for n in range(SENSORS) for part in await store.aggregates("pump", f"s{n}", 0, 2**62)]
    assert order[0] == seconds, "live rows come first"
    assert order[1] < DAY // 24, "and history flows beside them"
    assert ledger.findings == ()
    [source] = ledger.sources
    assert (source.missing, source.buffered) == (0, 0)
    assert source.degraded >= (outage.covered > 0).sum() > 0
    assert stored == outage.raw.sum() + SENSORS
    assert sum(int(part.rows.sum()) for part in buckets) == (outage.covered > 0).sum()
    assert source.conflicts == 0
    assert all(decode(frame)[0].epoch.hex() == report.epoch for frame in data.values())
