"""Gateways killed at drawn moments under load: alone, and beside another that takes over."""

from pathlib import Path

import pytest

from tests.faults.backbone import Backbone
from tests.faults.rounds import rounds
from tests.faults.wiring import Shape

FRAMES = 'im_gateway_messages_total{lane="frames"}'


@pytest.mark.parametrize("faults", rounds(10, 200))
def test_a_gateway_killed_again_and_again_loses_nothing(tmp_path: Path, seed: int, faults: int) -> None:
    with Backbone(tmp_path, seed) as plant:
        for _ in range(faults):
            plant.run_for(plant.rng.uniform(0.0, 1.0))
            plant.restart("gateway-1")
            if plant.rng.random() < 0.7:  # else it may be killed while it starts
                plant.until_ready("gateway-1")
        plant.flow(300)
        plant.drain()
        plant.judge().assert_clean()


@pytest.mark.parametrize("faults", rounds(10, 200))
def test_of_two_gateways_the_other_takes_over(tmp_path: Path, seed: int, faults: int) -> None:
    with Backbone(tmp_path, seed, Shape(gateways=2, direct=2)) as plant:
        waits = []
        for _ in range(faults):
            plant.run_for(plant.rng.uniform(0.0, 1.0))
            victim, other = plant.rng.sample(plant.wiring.gateways, 2)
            plant.until_ready(other)
            plant.parts[victim].kill()
            waits.append(carries_more(plant, other))
            plant.parts[victim].start()
        plant.say(f"the other carried frames after {max(waits):.1f} s at most")
        plant.until_ready()
        plant.flow(300)
        plant.drain()
        plant.judge().assert_clean()


def carries_more(plant: Backbone, gateway: str) -> float:
    """Seconds until the gateway acknowledged more frames."""
    carried = plant.figures(gateway).get(FRAMES, 0.0)
    return plant.until(
        lambda: plant.figures(gateway).get(FRAMES, 0.0) > carried + 3, 60, f"{gateway} carries frames"
    )
