"""Going back on Kafka: a rebuild from several partitions, and a replay onto a prefix."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cloud.ingest.rebuild import events_whole, read_into
from cloud.ledger.app import Ledger, Metrics
from cloud.ledger.audit import audit
from cloud.ledger.logic import TOPICS
from cloud.ledger.report import EdgeReport
from cloud.telemetry.port import open_store
from deploy.servers.kafka import Kafka
from industrialmind.replay import Wanted, replay
from industrialmind.replay_topics import drop_replay_topics, ensure_replay_topics, list_replay_topics
from shared import names
from shared.clock import SystemClock
from shared.eventlog import Record, open_event_log
from shared.kafka import ensure_topics
from tests.unit.test_ledger_logic import frame

pytestmark = pytest.mark.real

MACHINES = 8
FRAMES = 12


async def no_reports() -> dict[str, EdgeReport]:
    return {}


async def test_partitions_are_rebuilt_judged_and_replayed(tmp_path: Path) -> None:
    with Kafka(tmp_path / "kafka") as kafka:
        await ensure_topics(kafka.url, topics=(*TOPICS, names.MODELS), partitions=4)
        async with open_event_log(kafka.url) as log, open_store(f"sqlite:///{tmp_path}/t.db") as store:
            for number in range(FRAMES):
                for machine in range(MACHINES):
                    first = number * 3 + 1
                    made = frame(first, first + 2, offset=1, edge=f"edge-{machine}", at=machine * 1000)
                    await log.append(names.SENSOR_READINGS, f"m{machine}", [Record(made.value)])
            end = await log.end(names.SENSOR_READINGS)
            assert len(end) > 1
            assert await read_into(log, store) == MACHINES * FRAMES
            assert await read_into(log, store) == 0
            assert dict((await store.positions())[names.SENSOR_READINGS]) == dict(end)
            assert await events_whole(log)
            report = await audit(log, store, {}, folder=tmp_path, catch_up_seconds=0)
            assert (report.findings, report.rows_in_log) == ((), MACHINES * FRAMES * 3)
            ledger = Ledger(
                log,
                store,
                no_reports,
                None,
                Metrics(CollectorRegistry()),
                SystemClock(),
                catch_up_seconds=5,
            )
            await ledger.rebuild(lambda _done, _total: None)
            assert ledger.fold.whole
            assert [one.stored for one in (await ledger.report()).sources] == [FRAMES * 3] * MACHINES

            topics = [names.prefixed("night", topic) for topic in (names.SENSOR_READINGS, names.SCORES)]
            for _ in range(2):
                await ensure_replay_topics(kafka.url, "", topics, max_bytes=1 << 20, max_age_s=3600)
            wanted = Wanted(0, 2**60, 0.0, (names.SENSOR_READINGS, names.SCORES), ("m1", "m2"), "night")
            assert await replay(log, wanted, SystemClock()) == 2 * FRAMES
            for key in ("m1", "m2"):
                live = [r.value async for r in log.read(names.SENSOR_READINGS) if r.key == key]
                copies = [r async for r in log.read("night.sensor-readings") if r.key == key]
                assert [r.value for r in copies] == live
                assert all(names.HEADER_REPLAYED in r.headers for r in copies)
            assert await log.end(names.SENSOR_READINGS) == end
            assert await list_replay_topics(kafka.url, "") == {
                "night.scores": 0,
                "night.sensor-readings": 2 * FRAMES,
            }
            await drop_replay_topics(kafka.url, "", topics)
            await drop_replay_topics(kafka.url, "", topics)
            assert await list_replay_topics(kafka.url, "") == {}
