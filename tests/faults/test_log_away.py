"""Kafka stopped under load: nothing is acknowledged meanwhile, and everything is there after."""

from pathlib import Path

import pytest

from tests.faults.backbone import Backbone
from tests.faults.rounds import rounds

AWAY_S = 60.0


@pytest.mark.parametrize("faults", rounds(1, 50))
def test_kafka_away_for_a_minute_and_then_killed_again(tmp_path: Path, seed: int, faults: int) -> None:
    with Backbone(tmp_path, seed) as plant:
        kafka = plant.wiring.kafka
        plant.flow(200)
        kafka.kill()
        plant.run_for(AWAY_S)
        assert not plant.is_ready("gateway-1"), "a gateway whose log is away says that it is ready"
        assert not plant.is_ready("ingest"), "ingest says that it is ready while its log is away"
        assert plant.is_ready(*plant.wiring.edges), "an edge depends on the log"
        kafka.start()
        plant.until_ready()
        for _ in range(faults):
            plant.run_for(plant.rng.uniform(0.0, 5.0))
            end = plant.rng.choice((kafka.stop, kafka.kill))
            end()
            plant.run_for(plant.rng.uniform(0.0, 5.0))
            kafka.start()
        plant.flow(200)
        plant.drain()
        plant.judge().assert_clean()
