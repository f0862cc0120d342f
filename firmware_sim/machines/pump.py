"""Centrifugal pump at variable speed: the affinity laws (flow ~ n, head ~ n², power ~ n³)."""

import numpy as np

from firmware_sim import units
from firmware_sim.model import Duty, Fault, Inputs, MachineType, Sensor, Signature
from firmware_sim.signals import Array, lag


def physics(x: Inputs) -> dict[str, Array]:
    """Operating point where the pump's curve H = 5.9 n² - 1.3 q² meets the demand; feed 1 is rated flow."""
    speed = x.load
    relative_flow = speed * (0.45 + 0.55 * x.feed)
    idle = np.minimum(speed / 0.2, 1.0)
    return {
        "speed": 2950.0 * speed,
        "flow": 420.0 * relative_flow,
        "discharge-pressure": 0.4 + 5.9 * speed**2 - 1.3 * relative_flow**2,
        "motor-current": 5.0 * idle + 6.0 * speed**3 + 12.0 * speed**2 * relative_flow,
        "vibration": 0.15 * idle + 1.5 * speed**2 + 0.09 * x.wear * speed,
        "bearing-temp": x.ambient + 18.0 * lag(speed**2, 150.0, x.dt_s) + 0.3 * x.wear,
        "ambient-temp": x.ambient,
    }


PUMP = MachineType(
    name="centrifugal-pump",
    title="Centrifugal pump",
    sensors=(
        Sensor("speed", units.RPM, 4.0, floor=0.0),
        Sensor("flow", units.LITRE_PER_MINUTE, 2.0, floor=0.0),
        Sensor("discharge-pressure", units.BAR, 0.03, floor=0.0),
        Sensor("motor-current", units.AMPERE, 0.12, floor=0.0),
        Sensor("vibration", units.MILLIMETRE_PER_SECOND, 0.06, floor=0.0),
        Sensor("bearing-temp", units.DEGREE_CELSIUS, 0.25, noise_tau_s=5.0, fault_tau_s=60.0),
        Sensor("ambient-temp", units.DEGREE_CELSIUS, 0.15, noise_tau_s=5.0),
    ),
    load=Duty(levels=(0.80, 0.90, 1.00, 0.85), dwells_s=(300, 360, 300, 420), tau_s=8.0),
    feed=Duty(levels=(0.95, 1.05, 1.00), dwells_s=(540, 480, 600), tau_s=12.0),
    physics=physics,
    faults={
        Fault.CAVITATION: Signature(
            gains={"vibration": 1.2, "flow": -0.9, "discharge-pressure": -0.9, "motor-current": -0.5},
            first=("vibration", "flow", "discharge-pressure"),
            load_power=1.0,
            rough=0.4,
        ),
        Fault.BEARING_WEAR: Signature(
            gains={"vibration": 1.2, "bearing-temp": 1.0, "motor-current": 0.3},
            first=("vibration", "bearing-temp"),
            rough=0.15,
        ),
        Fault.IMBALANCE: Signature(gains={"vibration": 1.5}, first=("vibration",), load_power=2.0),
        Fault.LEAKAGE: Signature(
            gains={"flow": -1.2, "discharge-pressure": -1.0, "motor-current": 0.4},
            first=("flow", "discharge-pressure"),
        ),
        Fault.BLOCKAGE: Signature(
            gains={"flow": -1.3, "discharge-pressure": 1.0, "motor-current": -0.7, "vibration": 0.4},
            first=("flow", "discharge-pressure", "motor-current"),
        ),
    },
    filter_change={"flow": 1.0, "discharge-pressure": -0.6, "motor-current": 0.4},
    operating_sensor="speed",
    default_sensor="discharge-pressure",
)
