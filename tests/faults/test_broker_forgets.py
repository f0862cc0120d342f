"""The uplink's broker killed under load without persistence: frames are all there; of direct JSON, what it held is lost."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.backbone import READY_S, Backbone
from tests.faults.load import Device
from tests.faults.rounds import rounds
from tests.faults.wiring import Shape

DIRECT = 'im_gateway_messages_total{lane="direct"}'


@dataclass(frozen=True)
class Restart:
    """Counts of d1's messages: carried by the gateway before the kill; confirmed to the device at the kill and when
    the gateway carried again; in flight at the kill."""

    carried: int
    killed_at: int
    back_at: int
    in_flight: int


@pytest.mark.parametrize("faults", rounds(10, 200))
def test_a_broker_without_persistence_loses_no_frame_and_at_most_what_it_held(
    tmp_path: Path, seed: int, faults: int
) -> None:
    with Backbone(tmp_path, seed, Shape(persistent=False)) as plant:
        device = plant.load.devices["d1"]
        restarts = []
        for _ in range(faults):
            plant.run_for(plant.rng.uniform(0.2, 1.5))
            restarts.append(killed(plant, device))
        plant.flow(200)
        plant.drain()
        verdict = plant.judge()
        verdict.assert_clean(direct_bound=verdict.lost["d1"])
        lost = [any(row in verdict.missing for row in rows) for rows in device.confirmed]
        before = again = 0
        for one in restarts:
            # Confirmed and not carried, and what came before the gateway subscribed anew. A message whose PUBACK the
            # crash cut off may be carried twice, which hides as many that are lost.
            held = one.killed_at - one.carried - sum(lost[:before]) + again
            missed = one.back_at - one.killed_at
            gone = sum(lost[before : one.back_at])
            plant.say(
                f"of d1 the broker held at most {held} messages when it was killed, and confirmed {missed} before the"
                f" gateway was back: {gone} of these are lost"
            )
            assert gone <= held + missed
            before, again = one.back_at, again + one.in_flight
        assert not any(lost[before:]), "lost with no restart"


def killed(plant: Backbone, device: Device) -> Restart:
    """Kill the broker and start it; returns once the gateway carries direct messages again."""
    carried = carried_direct(plant)
    plant.wiring.broker.kill()
    killed_at, in_flight = len(device.confirmed), device.in_flight
    plant.run_for(plant.rng.uniform(0.0, 0.5))
    plant.wiring.broker.start()
    plant.until_ready("gateway-1")
    held_back = carried_direct(plant)
    plant.until(
        lambda: carried_direct(plant) > held_back, READY_S, "the gateway carries direct messages again"
    )
    back_at = len(device.confirmed)
    return Restart(carried, killed_at, back_at, in_flight)


def carried_direct(plant: Backbone) -> int:
    """Direct messages that the gateway has brought into the log."""
    return int(plant.figures("gateway-1").get(DIRECT, 0.0))
