"""Oil-flooded screw compressor: positive displacement against a regulated network pressure."""

import numpy as np

from firmware_sim import units
from firmware_sim.model import Duty, Fault, Inputs, MachineType, Sensor, Signature
from firmware_sim.signals import Array, lag


def physics(x: Inputs) -> dict[str, Array]:
    """Delivery ~ capacity; work ~ capacity x (p2/p1)^k; the oil carries the heat away.

    feed is the network's demand level: it moves the pressure that the regulator holds.
    """
    capacity = x.load
    running = np.minimum(capacity / 0.15, 1.0)
    network = 6.2 + 1.0 * x.feed
    pressure = network * running - 0.35 * capacity * running
    # Adiabatic work of compression with k = 0.286 (ISO 1217), absolute pressures.
    work = (pressure + 1.0) ** 0.286 - 1.0
    heat = lag(running * (0.35 + 0.65 * capacity) * work / 0.82, 100.0, x.dt_s)
    return {
        "capacity": 100.0 * capacity,
        "air-flow": 780.0 * capacity * (1.0 - 0.012 * pressure),
        "discharge-pressure": pressure,
        "motor-current": 14.0 * running + 92.0 * capacity * work,
        "oil-temp": x.ambient * 0.85 + 34.0 + 12.0 * heat,
        "separator-drop": 310.0 * capacity**2 + 2.0 * x.wear,
        "vibration": 0.5 * running + 1.9 * capacity + 0.12 * x.wear * running,
        "ambient-temp": x.ambient,
    }


COMPRESSOR = MachineType(
    name="screw-compressor",
    title="Screw compressor",
    sensors=(
        Sensor("capacity", units.PERCENT, 0.25, floor=0.0),
        Sensor("air-flow", units.CUBIC_METRE_PER_HOUR, 3.5, floor=0.0),
        Sensor("discharge-pressure", units.BAR, 0.03, floor=0.0),
        Sensor("motor-current", units.AMPERE, 0.35, floor=0.0),
        Sensor("oil-temp", units.DEGREE_CELSIUS, 0.3, noise_tau_s=5.0, fault_tau_s=45.0),
        Sensor("separator-drop", units.MILLIBAR, 2.5, floor=0.0),
        Sensor("vibration", units.MILLIMETRE_PER_SECOND, 0.08, floor=0.0),
        Sensor("ambient-temp", units.DEGREE_CELSIUS, 0.15, noise_tau_s=5.0),
    ),
    load=Duty(levels=(0.72, 0.86, 1.00, 0.79, 0.93), dwells_s=(240, 300, 240, 300, 300), tau_s=6.0),
    feed=Duty(levels=(0.95, 1.08, 1.02), dwells_s=(660, 540, 720), tau_s=20.0),
    physics=physics,
    faults={
        Fault.LEAKAGE: Signature(
            gains={"air-flow": 1.3, "discharge-pressure": -1.4},
            first=("air-flow", "discharge-pressure"),
        ),
        Fault.OVERHEATING: Signature(
            gains={"oil-temp": 1.5, "motor-current": 0.4}, first=("oil-temp",), load_power=0.5
        ),
        Fault.BEARING_WEAR: Signature(
            gains={"vibration": 1.4, "oil-temp": 0.6, "motor-current": 0.3},
            first=("vibration", "oil-temp"),
            rough=0.15,
        ),
        Fault.BLOCKAGE: Signature(
            gains={"separator-drop": 1.4, "discharge-pressure": -0.7, "oil-temp": 0.4},
            first=("separator-drop", "discharge-pressure"),
            load_power=1.0,
        ),
    },
    filter_change={"separator-drop": -1.0, "discharge-pressure": 0.4},
    operating_sensor="capacity",
    default_sensor="oil-temp",
)
