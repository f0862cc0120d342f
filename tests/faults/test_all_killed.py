"""Every process of the way killed in a drawn order under load."""

from pathlib import Path

import pytest

from tests.faults.backbone import Backbone
from tests.faults.rounds import rounds


@pytest.mark.parametrize("faults", rounds(10, 200))
def test_any_process_may_die_at_any_moment(tmp_path: Path, seed: int, faults: int) -> None:
    with Backbone(tmp_path, seed) as plant:
        victims = [*plant.wiring.edges, *plant.wiring.gateways, "ingest", "ingest", "nats", "kafka"]
        for _ in range(faults):
            plant.run_for(plant.rng.uniform(0.0, 1.5))
            victim = plant.rng.choice(victims)
            plant.say(f"kill -9 {victim}")
            match victim:
                case "nats":
                    plant.wiring.nats.kill()
                    plant.wiring.nats.start()
                case "kafka":
                    plant.wiring.kafka.kill()
                    plant.wiring.kafka.start()
                case part:
                    plant.restart(part)
        plant.flow(200)
        plant.drain()
        plant.judge().assert_clean()
