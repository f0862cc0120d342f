"""Waveform blocks through the edge: committed, judged, kept raw, sent; what can't be told says why; rubbish is a letter."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from edge.outbox import Outbox, open_outbox
from edge.vibration import MAX_POINTS, VibrationLoop
from edge.vibration_settings import Vibration as Settings
from firmware_sim.waves import Damage, Geometry, Vibration, waveform
from shared import commands
from shared.clock import ManualClock
from shared.dead_letter import DeadLetter
from shared.errors import Misconfigured, Rejected
from shared.events import parse_event
from shared.frame_codec import decode
from shared.frames import Kind, Readings
from shared.machine_view import MachineView
from shared.names import derived, is_id
from shared.paho import MqttMessage
from shared.wave import KeptWave, Sync, Wave, Why, decode_wave, encode_wave

GEOMETRY = Geometry(9, 7.94, 39.04)
RATE, COUNT = 12_800.0, 12_800
POINT = {
    "machine_class": "group-2-rigid",
    "speed_sensor": "speed",
    "bearing": {"elements": 9, "element_mm": 7.94, "pitch_mm": 39.04},
}
SETTINGS = {"points": {"pump": {"de": POINT}}, "send_seconds": 0.0}
BLOCK_US = 60_000_000
FIGURES = [
    "velocity-rms",
    "acc-rms",
    "acc-peak",
    "crest",
    "kurtosis",
    "1x",
    "2x",
    "3x",
    "bpfo",
    "bpfi",
    "bsf",
    "ftf",
]


def signal(seed: int, damage: Damage = Damage.NONE, velocity: float = 1.0) -> "np.ndarray[Any, Any]":
    first = velocity / 1000 * np.sqrt(2) * 2 * np.pi * 25.0
    made = Vibration(25.0, GEOMETRY, damage, noise=0.4, orders=(first,))
    return waveform(made, np.random.default_rng(seed), count=COUNT, rate_hz=RATE)


def block(time_us: int, values: "np.ndarray[Any, Any]", sync: Sync = Sync.SYNCHRONISED) -> bytes:
    samples = np.rint(values / 0.005).astype(np.int16)
    return encode_wave(Wave(samples, RATE, 0.005, "m/s2", time_us, sync))


class Edge:
    """The loop beside a real outbox, fed by hand."""

    def __init__(self, outbox: Outbox, clock: ManualClock, folder: Path, settings: dict[str, Any]) -> None:
        self.outbox, self.clock = outbox, clock
        self.acked: list[int] = []
        self.scored: list[Readings] = []
        self.room = False
        self.condition: str | None = None
        self.views = {"pump": MachineView()}
        self.loop = VibrationLoop(
            Settings.model_validate(settings),
            outbox,
            self.views,
            clock,
            CollectorRegistry(),
            site="s1",
            edge="e1",
            folder=folder / "waves",
            ack=lambda messages: self.acked.extend(each.mid for each in messages),
            committed=lambda _, rows: self.scored.append(rows),
            rows_waiting=lambda: None,
            room=lambda: self.room,
            condition=lambda *_: self.condition,
        )
        self._mid = 0

    def speed(self, rpm: float, time_us: int, unit: str = "rpm") -> None:
        one = np.array([0])
        self.loop.seen(
            "pump",
            Readings(
                ("speed",),
                (unit,),
                one,
                one + time_us,
                one + time_us,
                one + float(rpm),
                np.zeros(1, np.uint8),
            ),
        )

    async def give(self, payload: bytes, topic: str = "plant/s1/pump/de/wave") -> None:
        """A message, until it is acknowledged."""
        self._mid += 1
        message = MqttMessage(topic, payload, retain=False, dup=False, qos=1, mid=self._mid, connection=1)
        await self.loop.put([message])
        await until(lambda: self._mid in self.acked)

    async def block(
        self, values: "np.ndarray[Any, Any]", *, rpm: float = 1500.0, sync: Sync = Sync.SYNCHRONISED
    ) -> None:
        """A block a minute later, with the speed beside it."""
        await self.clock.advance(BLOCK_US / 1e6)
        time_us = self.clock.now_us() - 1_000_000
        if rpm:
            self.speed(rpm, time_us)
        await self.give(block(time_us, values, sync))

    async def bodies(self, kind: Kind) -> list[Any]:
        await self.outbox.cut(partial=True)
        found = []
        for ref in await self.outbox.frames():
            data = await self.outbox.data(ref.first)
            assert data is not None
            header, body = decode(data)
            if header.kind is kind:
                found.append(body)
        return found

    async def events(self) -> list[Any]:
        return [parse_event(record) for body in await self.bodies(Kind.EVENT) for record in body.record]

    async def kept(self) -> list[KeptWave]:
        return [KeptWave.decode(record) for body in await self.bodies(Kind.WAVE) for record in body.record]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def edge(folder: Path, **settings: Any) -> AsyncIterator[Edge]:  # noqa: ANN401
    clock = ManualClock()
    async with open_outbox(folder / "o.db", site="s1", edge="e1", clock=clock) as outbox:
        made = Edge(outbox, clock, folder, SETTINGS | settings)
        tasks = [asyncio.create_task(made.loop.run()), asyncio.create_task(made.loop.send())]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def test_figures_are_readings_of_derived_sensors_and_go_on_to_scoring(tmp_path: Path) -> None:
    async with edge(tmp_path) as e:
        await e.block(signal(1, velocity=2.0))
        [rows] = await e.bodies(Kind.READINGS)
        found = dict(zip(rows.sensor_names, zip(rows.value.tolist(), rows.units, strict=True), strict=True))
        assert set(found) == {f"de-{figure}" for figure in FIGURES}
        assert found["de-velocity-rms"] == (pytest.approx(2.0, rel=0.1), "mm/s")
        assert found["de-1x"] == (pytest.approx(2.0, rel=0.1), "mm/s")
        assert found["de-acc-rms"][1] == "m/s2"
        assert e.scored[0].sensor_names == rows.sensor_names
        assert e.views["pump"].units()["de-velocity-rms"] == "mm/s"
        assert e.loop.report("pump")["de"]["verdict"] == "none"


async def test_an_outer_race_fault_is_named_once_and_cleared_after_three_clean_blocks(tmp_path: Path) -> None:
    async with edge(tmp_path) as e:
        e.condition = "steady(0)"
        await e.block(signal(1))
        for seed in (2, 3):
            await e.block(signal(seed, Damage.OUTER))
        for seed in (4, 5, 6, 7):
            await e.block(signal(seed))
        told = [(x.type, getattr(x, "part", "")) for x in await e.events() if x.type.startswith("bearing")]
        assert told == [("bearing.suspected", "outer-race"), ("bearing.cleared", "outer-race")]
        assert e.loop.report("pump")["de"]["part"] == ""


@pytest.mark.parametrize(
    ("rpm", "sync", "reason"),
    [
        (1500.0, Sync.FREE, "runs free"),
        (1500.0, Sync.UNKNOWN, "not known to be synchronised"),
        (0.0, Sync.SYNCHRONISED, "no reading of speed"),
    ],
)
async def test_a_misaligned_clock_or_a_missing_speed_can_t_tell(
    tmp_path: Path, rpm: float, sync: Sync, reason: str
) -> None:
    async with edge(tmp_path) as e:
        await e.block(signal(2, Damage.OUTER), rpm=rpm, sync=sync)
        said = e.loop.report("pump")["de"]
        assert said["verdict"] == "can't tell"
        assert reason in said["reason"]
        assert [x for x in await e.events() if x.type.startswith("bearing")] == []
        [rows] = await e.bodies(Kind.READINGS)
        assert "de-velocity-rms" in rows.sensor_names
        assert "de-bpfo" not in rows.sensor_names


async def test_a_clock_ahead_a_changing_speed_and_a_standing_machine_can_t_tell(tmp_path: Path) -> None:
    async with edge(tmp_path) as e:
        now_us = e.clock.now_us()
        e.speed(1500.0, now_us + 60_000_000)
        await e.give(block(now_us + 60_000_000, signal(2, Damage.OUTER)))
        assert "ahead" in e.loop.report("pump")["de"]["reason"]
        await e.clock.advance(120)
        time_us = e.clock.now_us() - 1_000_000
        e.speed(1500.0, time_us)
        e.speed(1540.0, time_us + 900_000)
        await e.give(block(time_us, signal(2, Damage.OUTER)))
        assert "the speed changed by 3%" in e.loop.report("pump")["de"]["reason"]
        await e.clock.advance(60)
        e.speed(0.0, e.clock.now_us())
        e.speed(30.0, e.clock.now_us(), unit="degC")
        await e.give(block(e.clock.now_us() - 1_000_000, signal(2)))
        assert e.loop.report("pump")["de"]["reason"] == "the machine stands"


async def test_without_geometry_speed_or_class_nothing_is_judged(tmp_path: Path) -> None:
    async with edge(tmp_path, points={}) as e:
        await e.block(signal(2, Damage.OUTER, velocity=9.0))
        said = e.loop.report("pump")["de"]
        assert (said["verdict"], said["reason"], said["zone"]) == ("can't tell", "no bearing was entered", "")
        assert await e.events() == []


async def test_zones_in_steady_state_only_and_a_step_is_told_once(tmp_path: Path) -> None:
    async with edge(tmp_path) as e:
        e.condition = ""
        await e.block(signal(1, velocity=3.5))
        assert e.loop.report("pump")["de"]["zone"] == ""
        e.condition = "steady(1)"
        for seed in range(5):
            await e.block(signal(seed, velocity=1.0))
        for seed in range(3):
            await e.block(signal(seed, velocity=3.5))
        await e.block(signal(9, velocity=3.5), rpm=500.0)  # below 600 rpm the band does not do
        told = [x for x in await e.events() if x.type.startswith("vibration")]
        assert [(x.type, getattr(x, "zone", "")) for x in told] == [
            ("vibration.zone-changed", "A"),
            ("vibration.zone-changed", "C"),
            ("vibration.stepped", ""),
        ]
        assert told[2].allowed == pytest.approx(0.7)
        assert told[2].baseline == pytest.approx(1.0, rel=0.1)
        e.condition = None  # states that nobody taught: a speed that holds is the condition
        await e.block(signal(9, velocity=5.5))
        assert (await e.events())[-1].zone == "D"


async def test_raw_blocks_one_a_day_at_alarms_and_on_request(tmp_path: Path) -> None:
    async with edge(tmp_path) as e:
        await e.block(signal(1))
        await e.block(signal(2))
        e.loop.alarms("pump", frozenset({"a1"}))
        await e.clock.advance(1)
        await until(lambda: e.loop._store.blocks == 2)
        await e.block(signal(3))  # the next one after the alarm
        await e.block(signal(4))
        with pytest.raises(Rejected, match="no waveform has come"):
            await e.loop.request(commands.Waveform(machine="pump", sensor="nde"))
        with pytest.raises(Rejected, match="not a machine"):
            await e.loop.request(commands.Waveform(machine="fan"))
        assert "the next block of de" in await e.loop.request(commands.Waveform(machine="pump"))
        await e.block(signal(5))
        await e.clock.jump(86_400)
        await e.block(signal(6))
        assert await e.kept() == []  # the uplink has no room yet
        e.room = True
        for _ in range(8):
            await e.clock.advance(1)
            await asyncio.sleep(0.02)
        await until(lambda: e.loop._store.blocks == 0)
        kept = await e.kept()
        assert [each.why for each in kept] == [Why.ALARM, Why.ALARM, Why.REQUEST, Why.DAY, Why.DAY]
        assert {each.sensor for each in kept} == {"de"}
        assert len({decode_wave(each.block).time_us for each in kept}) == 5


async def test_rubbish_is_a_dead_letter_and_acknowledged(tmp_path: Path) -> None:
    async with edge(tmp_path) as e:
        good = block(e.clock.now_us(), signal(1))
        await e.give(b"rubbish")
        await e.give(good[:-1])
        await e.give(good, "plant/s1/pump/DE/wave")
        await e.give(good, "plant/s1/fan/de/wave")
        letters = [
            DeadLetter.decode(record) for body in await e.bodies(Kind.REJECT) for record in body.record
        ]
        assert [letter.reason.split(":")[0] for letter in letters] == [
            "not a waveform",
            "12800 samples do not fill 25599 bytes",
            "sensor 'DE' is not an id",
            "fan of s1 is not this edge's machine",
        ]
        assert await e.bodies(Kind.READINGS) == []
        for number in range(MAX_POINTS):
            await e.give(good, f"plant/s1/pump/s{number}/wave")
        await e.give(good, "plant/s1/pump/one-more/wave")
        assert len(e.loop.report("pump")) == MAX_POINTS


async def test_a_block_that_comes_twice_or_late_is_judged_once(tmp_path: Path) -> None:
    async with edge(tmp_path) as e:
        await e.block(signal(1))
        time_us = e.clock.now_us() - 1_000_000
        faulty = block(time_us, signal(2, Damage.OUTER))
        await e.give(faulty)
        await e.give(block(time_us - 30_000_000, signal(2, Damage.OUTER)))
        assert [x for x in await e.events() if x.type == "bearing.suspected"] == []


async def test_what_was_judged_survives_a_restart(tmp_path: Path) -> None:
    async with edge(tmp_path) as e:
        e.condition = "steady(0)"
        await e.block(signal(2, Damage.OUTER, velocity=3.5))
        before = e.loop.report("pump")["de"]
        assert (before["part"], before["zone"]) == ("outer-race", "C")
        assert e.loop._store.blocks == 1
    async with edge(tmp_path) as e:
        e.condition = "steady(0)"
        await e.clock.advance(3600)
        await e.block(signal(3, Damage.OUTER, velocity=3.5))
        assert [x.type for x in await e.events()].count("bearing.suspected") == 1
        assert e.loop._store.blocks == 1
        e.room = True
        await e.clock.advance(1)
        await until(lambda: e.loop._store.blocks == 0)
        assert [each.why for each in await e.kept()] == [Why.ALARM]


async def test_a_block_moved_before_a_crash_is_not_sent_again(tmp_path: Path) -> None:
    async with edge(tmp_path) as e:
        await e.block(signal(2))
        [path] = (tmp_path / "waves").iterdir()
        name, data = path.name, path.read_bytes()
        e.room = True
        await e.clock.advance(1)
        await until(lambda: not path.exists())
    path.write_bytes(data)  # as if the process had died between the commit and the removal
    async with edge(tmp_path) as e:
        e.room = True
        await until(lambda: not path.exists())
        assert len(await e.kept()) == 1, name


def test_a_class_that_no_table_has_is_refused_at_the_start(tmp_path: Path) -> None:
    async def start() -> None:
        async with edge(tmp_path, points={"pump": {"de": POINT | {"machine_class": "group-9"}}}):
            pass

    with pytest.raises(Misconfigured, match="group-9"):
        asyncio.run(start())


@pytest.mark.parametrize(
    "point",
    [
        {"speed_sensor": "speed", "speed_rpm": 1500.0},
        {"band_hz": [2000.0, 1000.0]},
        {"bearing": {"elements": 9, "element_mm": 40.0, "pitch_mm": 39.0}},
        {"speed_sensor": "Not An Id"},
    ],
)
def test_points_that_can_t_be_are_refused(point: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Settings.model_validate({"points": {"pump": {"de": point}}})


def test_derived_ids_stay_ids_and_differ() -> None:
    assert derived("de", "velocity-rms") == "de-velocity-rms"
    long = [f"{'bearing-at-the-drive-end-of-the-motor-x'[:39]}{digit}" for digit in "12"]
    made = {derived(each, "velocity-rms") for each in long}
    assert len(made) == 2
    assert all(is_id(each) for each in made)
