"""Gearbox of a belt conveyor: torque from belt resistance and material, churned oil, gear mesh."""

import numpy as np

from firmware_sim import units
from firmware_sim.model import Duty, Fault, Inputs, MachineType, Sensor, Signature
from firmware_sim.signals import Array, lag


def physics(x: Inputs) -> dict[str, Array]:
    """Main resistance ~ moved mass (DIN 22101): mass on the belt is feed / speed; churning loss ~ n²."""
    speed = x.load
    running = np.minimum(speed / 0.15, 1.0)
    throughput = x.feed * running
    belt_mass = throughput / np.maximum(speed, 0.3)
    torque = running * (180.0 + 40.0 * speed) + 260.0 * belt_mass
    loss = lag(0.45 * speed**2 + 0.55 * torque * speed / 480.0, 160.0, x.dt_s)
    return {
        "speed": 88.0 * speed,
        "mass-flow": 320.0 * throughput,
        "torque": torque,
        "motor-current": 6.0 * running + 26.0 * torque * speed / 480.0,
        "oil-temp": x.ambient + 17.0 * loss + 0.3 * x.wear,
        "oil-pressure": running * (1.4 + 1.1 * speed),
        "vibration": 0.3 * running + 0.9 * speed + torque / 600.0 + 0.12 * x.wear * running,
        "ambient-temp": x.ambient,
    }


GEARBOX = MachineType(
    name="conveyor-gearbox",
    title="Conveyor gearbox",
    sensors=(
        Sensor("speed", units.RPM, 0.2, floor=0.0),
        Sensor("mass-flow", units.TONNE_PER_HOUR, 2.5, floor=0.0),
        Sensor("torque", units.NEWTON_METRE, 3.0, floor=0.0),
        Sensor("motor-current", units.AMPERE, 0.2, floor=0.0),
        Sensor("oil-temp", units.DEGREE_CELSIUS, 0.25, noise_tau_s=5.0, fault_tau_s=60.0),
        Sensor("oil-pressure", units.BAR, 0.02, floor=0.0),
        Sensor("vibration", units.MILLIMETRE_PER_SECOND, 0.07, floor=0.0),
        Sensor("ambient-temp", units.DEGREE_CELSIUS, 0.15, noise_tau_s=5.0),
    ),
    load=Duty(levels=(0.85, 1.00, 0.92), dwells_s=(600, 540, 480), tau_s=10.0, wander=0.003),
    feed=Duty(levels=(0.60, 0.85, 1.00, 0.75), dwells_s=(300, 420, 360, 300), tau_s=15.0, wander=0.02),
    physics=physics,
    faults={
        Fault.BEARING_WEAR: Signature(
            gains={"vibration": 1.3, "oil-temp": 0.9, "motor-current": 0.3},
            first=("vibration", "oil-temp"),
            rough=0.15,
        ),
        Fault.OVERHEATING: Signature(
            gains={"oil-temp": 1.5, "oil-pressure": -0.6}, first=("oil-temp", "oil-pressure")
        ),
        Fault.LEAKAGE: Signature(
            gains={"oil-pressure": -1.4, "oil-temp": 0.7, "vibration": 0.3},
            first=("oil-pressure", "oil-temp"),
        ),
        Fault.BLOCKAGE: Signature(
            gains={"mass-flow": -1.2, "torque": 1.2, "motor-current": 1.0, "vibration": 0.4},
            first=("mass-flow", "torque", "motor-current"),
        ),
    },
    filter_change={"oil-pressure": 1.0, "oil-temp": -0.4},
    operating_sensor="speed",
    default_sensor="torque",
)
