"""Extraction fan on a duct: the fan laws, air density that falls with temperature, a damper."""

import numpy as np

from firmware_sim import units
from firmware_sim.model import Duty, Fault, Inputs, MachineType, Sensor, Signature
from firmware_sim.signals import Array, lag


def physics(x: Inputs) -> dict[str, Array]:
    """Volume ~ n, pressure ~ density x n², power ~ density x n³; feed 1 is an open damper (ISO 5801)."""
    speed = x.load
    running = np.minimum(speed / 0.15, 1.0)
    density = 293.15 / (273.15 + x.ambient)
    volume = speed * (0.5 + 0.5 * x.feed)
    pressure = density * (1.55 * speed**2 - 0.55 * volume**2)
    power = density * speed**2 * (0.35 * speed + 0.65 * volume)
    return {
        "speed": 1480.0 * speed,
        "damper": 100.0 * x.feed,
        "air-flow": 9200.0 * volume,
        "static-pressure": 1150.0 * pressure,
        "motor-current": 3.5 * running + 19.0 * power,
        "vibration": 0.2 * running + 1.6 * speed**2 + 0.1 * x.wear * speed,
        "bearing-temp": x.ambient + 7.0 * lag(speed**1.5, 90.0, x.dt_s) + 0.3 * x.wear,
        "ambient-temp": x.ambient,
    }


FAN = MachineType(
    name="extraction-fan",
    title="Extraction fan",
    sensors=(
        Sensor("speed", units.RPM, 2.0, floor=0.0),
        Sensor("damper", units.PERCENT, 0.25),
        Sensor("air-flow", units.CUBIC_METRE_PER_HOUR, 60.0, floor=0.0),
        Sensor("static-pressure", units.PASCAL, 8.0, floor=0.0),
        Sensor("motor-current", units.AMPERE, 0.15, floor=0.0),
        Sensor("vibration", units.MILLIMETRE_PER_SECOND, 0.06, floor=0.0),
        Sensor("bearing-temp", units.DEGREE_CELSIUS, 0.25, noise_tau_s=5.0, fault_tau_s=60.0),
        Sensor("ambient-temp", units.DEGREE_CELSIUS, 0.15, noise_tau_s=5.0),
    ),
    load=Duty(levels=(0.85, 0.95, 1.00, 0.90), dwells_s=(420, 480, 420, 360), tau_s=12.0, wander=0.004),
    feed=Duty(levels=(1.00, 0.90, 0.95), dwells_s=(780, 600, 660), tau_s=15.0, wander=0.008),
    physics=physics,
    faults={
        Fault.IMBALANCE: Signature(
            gains={"vibration": 1.6, "bearing-temp": 0.3}, first=("vibration",), load_power=2.0
        ),
        Fault.BEARING_WEAR: Signature(
            gains={"vibration": 1.2, "bearing-temp": 1.1, "motor-current": 0.3},
            first=("vibration", "bearing-temp"),
            rough=0.15,
        ),
        Fault.OVERHEATING: Signature(
            gains={"bearing-temp": 1.5, "motor-current": 0.5}, first=("bearing-temp", "motor-current")
        ),
        Fault.BLOCKAGE: Signature(
            gains={"air-flow": -1.6, "static-pressure": 0.6, "motor-current": -0.4},
            first=("air-flow", "static-pressure", "motor-current"),
            load_power=0.5,
        ),
        Fault.LEAKAGE: Signature(
            gains={"static-pressure": -1.6, "air-flow": 0.5, "motor-current": 0.3},
            first=("static-pressure", "air-flow", "motor-current"),
            load_power=0.5,
        ),
    },
    filter_change={"air-flow": 1.0, "static-pressure": -0.7, "motor-current": 0.4},
    operating_sensor="speed",
    default_sensor="static-pressure",
)
