"""The network between edges, broker, gateway and log cut at drawn places, one way or both."""

from pathlib import Path

import pytest

from tests.faults.backbone import Backbone
from tests.faults.rounds import rounds
from tests.faults.tcp_proxy import Cut
from tests.faults.wiring import Shape


@pytest.mark.parametrize("faults", rounds(10, 200))
def test_a_network_that_is_cut_and_heals_loses_nothing(tmp_path: Path, seed: int, faults: int) -> None:
    with Backbone(tmp_path, seed, Shape(proxied=True)) as plant:
        for _ in range(faults):
            plant.run_for(plant.rng.uniform(0.2, 1.0))
            name = plant.rng.choice(sorted(plant.wiring.networks))
            network, how = plant.wiring.networks[name], plant.rng.choice(list(Cut))
            plant.say(f"{name}: {how.value}")
            network.cut(how)
            plant.run_for(plant.rng.uniform(0.5, 5.0))
            network.heal()
            network.delay(plant.rng.choice((0.0, 0.0, 0.1)))
        plant.flow(200)
        plant.drain()
        passed = {name: network.passed for name, network in plant.wiring.networks.items()}
        assert all(min(ways.values()) > 0 for ways in passed.values()), passed
        plant.judge().assert_clean()
