"""Waveform blocks of the simulator: deterministic, as loud as the machine says, struck when its bearing is worn."""

import asyncio

import numpy as np
import pytest

from edge.vibration_bearing import Bearing, Part, diagnose
from edge.vibration_features import features
from firmware_sim.app import Plant
from firmware_sim.episodes import Episode
from firmware_sim.machine import Machine
from firmware_sim.machines import machine_type
from firmware_sim.settings import DEFAULT_MACHINES, SimSettings
from firmware_sim.wave_blocks import BEARING, SENSOR, block
from firmware_sim.waves import Damage, Geometry, Vibration, waveform
from shared.clock import SystemClock
from shared.names import WaveTopic, is_wave_topic
from shared.wave import Sync, decode_wave

T0 = 1_760_000_000_000_000
RATE = 12_800.0


def machine(kind: str = "centrifugal-pump") -> Machine:
    return Machine(machine_type(kind), "m-01", seed=1, interval_us=1_000_000)


def test_a_block_is_the_same_at_every_call_and_as_loud_as_the_reading() -> None:
    pump = machine()
    data = block(pump, T0, count=12_800, rate_hz=RATE)
    assert data == block(machine(), T0, count=12_800, rate_hz=RATE)
    assert data != block(pump, T0 + 1, count=12_800, rate_hz=RATE)
    wave = decode_wave(data)
    assert (wave.time_us, wave.sync, len(wave.samples)) == (T0, Sync.SYNCHRONISED, 12_800)
    row = dict(zip(pump.kind.sensor_names, pump.values(pump.index_at(T0), 1)[0].tolist(), strict=True))
    found = features(wave.acceleration(), RATE, row["speed"] / 60)
    assert found.orders[0] == pytest.approx(row["vibration"], rel=0.1)


def test_a_worn_bearing_strikes_at_its_outer_race_and_a_healthy_one_does_not() -> None:
    bearing = Bearing(BEARING.elements, BEARING.element_mm, BEARING.pitch_mm)
    pump = machine()
    speed = pump.values(pump.index_at(T0), 1)[0][pump.kind.sensor_names.index("speed")] / 60
    healthy = decode_wave(block(pump, T0, count=12_800, rate_hz=RATE))
    assert diagnose(healthy.acceleration(), RATE, speed, bearing).part is None
    pump.inject(Episode("bearing-wear", 1.0, T0 - 60_000_000))
    worn = decode_wave(block(pump, T0, count=12_800, rate_hz=RATE))
    assert diagnose(worn.acceleration(), RATE, speed, bearing).part is Part.OUTER


@pytest.mark.parametrize("spec", DEFAULT_MACHINES)
def test_every_machine_makes_blocks(spec: str) -> None:
    made = machine(spec.split(":")[1])
    assert np.abs(decode_wave(block(made, T0, count=1024, rate_hz=RATE)).acceleration()).max() > 0


@pytest.mark.parametrize("damage", [each for each in Damage if each is not Damage.NONE])
def test_strikes_have_the_power_that_was_asked_for(damage: Damage) -> None:
    geometry = Geometry(9, 7.94, 39.04)
    quiet = Vibration(25.0, geometry, damage, snr_db=6.0, noise=1e-9, orders=())
    loud = waveform(quiet, np.random.default_rng(1), count=25_600, rate_hz=25_600.0)
    assert 10 * np.log10(np.mean(loud**2) / 1e-18) == pytest.approx(10 * np.log10(10**0.6 + 1), abs=0.2)


class Kept:
    """A broker that keeps what is published."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.arrived = asyncio.Event()

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        assert qos == 1
        self.messages.append((topic, payload))
        self.arrived.set()


@pytest.mark.parametrize("every", [0.0, 0.1])
async def test_blocks_are_published_as_often_as_asked_and_never_unasked(every: float) -> None:
    broker, stop = Kept(), asyncio.Event()
    settings = SimSettings(
        machines=("pump-01:centrifugal-pump", "fan-01:extraction-fan"), wave_s=every, wave_samples=640
    )
    plant = Plant(settings, broker, lambda _: None, SystemClock())
    task = asyncio.create_task(plant.waves(stop))
    if every:
        async with asyncio.timeout(20):
            while len(broker.messages) < 4:
                broker.arrived.clear()
                await broker.arrived.wait()
    stop.set()
    await task
    topics = {topic for topic, _ in broker.messages}
    assert topics == ({str(WaveTopic("demo", m, SENSOR)) for m in ("pump-01", "fan-01")} if every else set())
    assert all(is_wave_topic(topic) and WaveTopic.parse(topic).sensor == SENSOR for topic in topics)
    for _, payload in broker.messages:
        assert decode_wave(payload).end_us <= SystemClock().now_us()
