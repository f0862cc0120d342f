"""The log's disk full under load: it refuses or ends; after there is room again everything is there."""

from pathlib import Path

import psutil
import pytest

from tests.faults.backbone import Backbone
from tests.faults.rounds import rounds

ROOM = 20_000
"""Bytes that the largest file of the topic may still grow."""


@pytest.mark.parametrize("faults", rounds(3, 20))
def test_kafka_with_a_full_disk(tmp_path: Path, seed: int, faults: int) -> None:
    with Backbone(tmp_path, seed) as plant:
        kafka = plant.wiring.kafka
        for _ in range(faults):
            plant.flow(100)
            # A file that may not grow is what a full disk is to a writer: the write fails.
            limit = _largest(kafka.folder / "data") + plant.rng.randint(1, ROOM)
            psutil.Process(kafka.pid).rlimit(psutil.RLIMIT_FSIZE, (limit, limit))
            plant.until(lambda: not kafka.running, 60, "Kafka ends when its disk is full")
            plant.until(lambda: not plant.is_ready("gateway-1"), 60, "the gateway says so")
            assert plant.is_ready(*plant.wiring.edges)
            kafka.kill()
            kafka.start()
            plant.until_ready()
        plant.flow(100)
        plant.drain()
        plant.judge().assert_clean()


def _largest(data: Path) -> int:
    return max(path.stat().st_size for path in data.glob("sensor-readings-*/*.log"))
