"""Machining spindle with through-coolant: cutting power, friction heat, rotating vibration."""

import numpy as np

from firmware_sim import units
from firmware_sim.model import Duty, Fault, Inputs, MachineType, Sensor, Signature
from firmware_sim.signals import Array, lag


def physics(x: Inputs) -> dict[str, Array]:
    """Cutting power ~ torque x speed (feed is the chip load), bearing friction ~ n^1.5 (Palmgren)."""
    speed = x.load
    running = np.minimum(speed / 0.15, 1.0)
    cutting = x.feed * speed
    friction = speed**1.5
    heat = lag(0.6 * friction + 0.4 * cutting, 60.0, x.dt_s)
    return {
        "speed": 12_000.0 * speed,
        "motor-power": 0.8 * friction + 7.5 * cutting,
        "torque": running * (1.2 + 6.0 * x.feed),
        "vibration": 0.1 * running + 0.7 * speed**2 + 0.45 * x.feed * running + 0.07 * x.wear * speed,
        "bearing-temp": x.ambient + 4.0 * heat + 0.3 * x.wear,
        "coolant-flow": running * (22.0 + 4.0 * x.feed),
        "coolant-pressure": running * (18.0 + 5.0 * x.feed + 1.2 * x.feed**2),
        "ambient-temp": x.ambient,
    }


SPINDLE = MachineType(
    name="machining-spindle",
    title="Machining spindle",
    sensors=(
        Sensor("speed", units.RPM, 12.0, floor=0.0),
        Sensor("motor-power", units.KILOWATT, 0.05, floor=0.0),
        Sensor("torque", units.NEWTON_METRE, 0.05, floor=0.0),
        Sensor("vibration", units.MILLIMETRE_PER_SECOND, 0.04, floor=0.0),
        Sensor("bearing-temp", units.DEGREE_CELSIUS, 0.25, noise_tau_s=5.0, fault_tau_s=45.0),
        Sensor("coolant-flow", units.LITRE_PER_MINUTE, 0.2, floor=0.0),
        Sensor("coolant-pressure", units.BAR, 0.15, floor=0.0),
        Sensor("ambient-temp", units.DEGREE_CELSIUS, 0.15, noise_tau_s=5.0),
    ),
    load=Duty(levels=(0.70, 0.85, 1.00, 0.78), dwells_s=(210, 240, 180, 240), tau_s=4.0, wander=0.003),
    feed=Duty(levels=(0.75, 1.00, 0.87), dwells_s=(270, 330, 300), tau_s=5.0, wander=0.01),
    physics=physics,
    faults={
        Fault.BEARING_WEAR: Signature(
            gains={"vibration": 1.3, "bearing-temp": 1.0, "motor-power": 0.4},
            first=("vibration", "bearing-temp"),
            load_power=0.5,
            rough=0.15,
        ),
        Fault.IMBALANCE: Signature(gains={"vibration": 1.7}, first=("vibration",), load_power=2.0),
        Fault.OVERHEATING: Signature(
            gains={"bearing-temp": 1.5, "motor-power": 0.3}, first=("bearing-temp",), load_power=0.5
        ),
        Fault.BLOCKAGE: Signature(
            gains={"coolant-flow": -1.3, "coolant-pressure": 1.1, "bearing-temp": 0.5},
            first=("coolant-flow", "coolant-pressure"),
        ),
        Fault.LEAKAGE: Signature(
            gains={"coolant-pressure": -1.3, "coolant-flow": -0.9, "bearing-temp": 0.3},
            first=("coolant-pressure", "coolant-flow"),
        ),
    },
    filter_change={"coolant-flow": 1.0, "coolant-pressure": -0.7},
    operating_sensor="speed",
    default_sensor="bearing-temp",
)
