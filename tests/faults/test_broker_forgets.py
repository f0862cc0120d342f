"""The uplink's broker killed under load without persistence: frames are all there; of direct JSON, what it held is lost."""

from pathlib import Path

import pytest

from tests.faults.backbone import Backbone
from tests.faults.rounds import rounds
from tests.faults.wiring import Shape

DIRECT = 'im_gateway_messages_total{lane="direct"}'


@pytest.mark.parametrize("faults", rounds(10, 200))
def test_a_broker_without_persistence_loses_no_frame_and_at_most_what_it_held(
    tmp_path: Path, seed: int, faults: int
) -> None:
    with Backbone(tmp_path, seed, Shape(persistent=False)) as plant:
        device = plant.load.devices["d1"]
        held: list[tuple[int, int, int]] = []
        for _ in range(faults):
            plant.run_for(plant.rng.uniform(0.2, 1.5))
            carried = plant.figures("gateway-1").get(DIRECT, 0.0)
            plant.wiring.broker.kill()
            held.append((len(device.confirmed), int(carried), device.in_flight))
            plant.run_for(plant.rng.uniform(0.0, 0.5))
            plant.wiring.broker.start()
            plant.until_ready()
        plant.flow(200)
        plant.drain()
        verdict = plant.judge()
        verdict.assert_clean(direct_bound=verdict.lost["d1"])
        before = lost_before = again = 0
        for confirmed, carried_, in_flight in held:
            lost = sum(
                any(row in verdict.missing for row in rows) for rows in device.confirmed[before:confirmed]
            )
            # What the broker had confirmed and the gateway had not: a message whose PUBACK the crash cut off comes twice.
            bound = confirmed - carried_ - lost_before + again
            plant.say(f"the broker held {bound} messages of d1 when it was killed; {lost} are lost")
            assert lost <= bound
            before, lost_before, again = confirmed, lost_before + lost, again + in_flight
        late = [row for rows in device.confirmed[before:] for row in rows if row in verdict.missing]
        assert not late, "lost with no restart"
