"""A whole agent and a real broker: a block that a device publishes comes out as figures, an event and a WAVE frame."""

import time
from pathlib import Path

from firmware_sim.machine import Machine
from firmware_sim.machines import machine_type
from firmware_sim.wave_blocks import BEARING, block
from shared.frames import Kind
from shared.wave import KeptWave, Why, decode_wave
from tests.servers import NatsServer
from tests.unit.test_edge_agent import agent, control, device, gateway, reported, settings, until


async def test_a_block_becomes_readings_a_verdict_and_a_frame(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    point = {
        "speed_rpm": 1480.0,
        "machine_class": "group-2-rigid",
        "bearing": {
            "elements": BEARING.elements,
            "element_mm": BEARING.element_mm,
            "pitch_mm": BEARING.pitch_mm,
        },
    }
    chosen = settings(nats_server, tmp_path, vibration={"points": {"pump": {"de": point}}})
    data = block(
        Machine(machine_type("screw-compressor"), "pump", seed=1, interval_us=1_000_000),
        time.time_ns() // 1000 - 1_000_000,
        count=8192,
        rate_hz=12_800.0,
    )
    async with (
        control(nats_server) as plane,
        gateway(nats_server) as far,
        agent(chosen),
        device(nats_server) as client,
    ):
        await reported(plane, lambda x: x["listening"], "the agent listens")
        await client.publish("plant/s1/pump/de/wave", data)
        await client.publish("plant/s1/pump/de/wave", data[:100])
        await until(lambda: far.bodies(Kind.WAVE), "the raw block arrives")
        await until(lambda: far.bodies(Kind.REJECT), "the broken one is a dead letter")
        [record] = far.bodies(Kind.WAVE)[0].record
        kept = KeptWave.decode(record)
        assert (kept.sensor, kept.why, kept.block) == ("de", Why.DAY, data)
        names = {name for body in far.bodies(Kind.READINGS) for name in body.sensor_names}
        assert {"de-velocity-rms", "de-kurtosis", "de-1x", "de-bpfo"} <= names
        await until(lambda: "vibration.zone-changed" in {x.type for x in far.events()}, "the zone is told")
        found = await reported(plane, lambda x: x["machines"]["pump"]["vibration"], "the verdict is told")
        said = found["machines"]["pump"]["vibration"]["de"]
        assert said["verdict"] == "none"
        assert said["time_us"] == decode_wave(data).time_us
