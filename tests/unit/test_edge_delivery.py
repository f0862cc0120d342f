"""Models that the machine can't feed are refused with both sides named; what runs keeps running."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import orjson

from edge.delivery import SETTLE_SECONDS, Delivery
from edge.models import ModelFolder
from edge.outbox import Outbox, open_outbox
from shared.clock import ManualClock
from shared.errors import NotFound, Unavailable
from shared.events import ModelRefused, parse_event
from shared.frame_codec import decode
from shared.frames import Readings, Records
from shared.loaded import TRIAL_BYTES, Desired, Load, LoadedModel, load_model, load_tried
from shared.machine_view import MachineView
from tests.unit.edge_models import SECOND, SENSORS, START, UNITS, artifact, desired, greedy, plant, rows

Change = tuple[str, bytes | None]


class MemorySource:
    """A control plane with nothing behind it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = 0
        self._changes: asyncio.Queue[Change | None] = asyncio.Queue()

    def desire(self, machine: str, value: bytes | None) -> None:
        self._changes.put_nowait((machine, value))

    async def watch_desired(self, edge: str) -> AsyncIterator[Change | None]:
        assert edge == "e1"
        yield None
        while True:
            yield await self._changes.get()

    async def get_model(self, name: str) -> bytes:
        if self.away:
            self.away -= 1
            raise Unavailable("the server is away")
        if name not in self.objects:
            raise NotFound(name)
        return self.objects[name]


class Bench:
    """A delivery with its surroundings."""

    def __init__(self, outbox: Outbox, folder: Path, load: Load) -> None:
        self.source, self.clock, self.view, self.outbox = MemorySource(), ManualClock(), MachineView(), outbox
        self.installed: list[LoadedModel] = []
        self.tried: list[LoadedModel | None] = []
        self.refusals: dict[str, str] = {}
        self.delivery = Delivery(
            self.source,
            ModelFolder(folder),
            outbox,
            {"pump": self.view},
            self.clock,
            edge="e1",
            running={},
            refusals=self.refusals,
            load=load,
            install=lambda _, model: self.installed.append(model),
            try_out=lambda _, model: self.tried.append(model),
            on_change=lambda: None,
        )

    def want(self, data: bytes, version: int = 1) -> None:
        wanted = desired(data, version)
        self.source.objects[wanted.object_name] = data
        self.source.desire("pump", orjson.dumps(wanted.to_dict()))

    async def settle(self, seconds: float = 1.0) -> None:
        """Let time pass and threads finish."""
        await self.clock.advance(seconds)
        for _ in range(30):
            await asyncio.sleep(0.005)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let time pass until it holds."""
        async with asyncio.timeout(30):
            while not holds():
                await self.settle()

    async def refused(self) -> list[ModelRefused]:
        events = []
        for ref in await self.outbox.frames():
            _, body = decode(await self.outbox.data(ref.first) or b"")
            assert isinstance(body, Records)
            events += [parse_event(record) for record in body.record]
        return [event for event in events if isinstance(event, ModelRefused)]


@asynccontextmanager
async def bench(folder: Path, load: Load = load_model) -> AsyncIterator[Bench]:
    async with open_outbox(folder / "o.db", site="s1", edge="e1", clock=ManualClock()) as outbox:
        made = Bench(outbox, folder / "models", load)
        tasks = [asyncio.create_task(made.delivery.watch()), asyncio.create_task(made.delivery.run())]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


def slowly(seconds: int) -> Readings:
    """All sensors, one row every so many seconds."""
    count = 20
    times = START + np.repeat(np.arange(count) * seconds, len(SENSORS)) * SECOND
    sensor = np.tile(np.arange(len(SENSORS)), count)
    return Readings(SENSORS, UNITS, sensor, times, times, np.zeros(len(times)), (times * 0).astype(np.uint8))


async def test_a_machine_that_was_not_seen_yet_is_waited_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        made.want(artifact())
        await made.settle(60)
        assert (made.installed, made.refusals) == ([], {})
        made.view.take(rows(plant(10, 1)))
        await made.settle()
        assert len(made.installed) == 1
        assert ModelFolder(tmp_path / "models").load("pump")[0] is not None


async def test_missing_sensors_are_named_and_looked_at_again_when_they_appear(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        table = rows(plant(10, 1))
        flow = table.sensor == 0
        made.view.take(
            Readings(
                SENSORS[:1],
                UNITS[:1],
                table.sensor[flow],
                table.time_us[flow],
                table.arrival_us[flow],
                table.value[flow],
                table.quality[flow],
            )
        )
        made.want(artifact())
        await made.settle()
        assert made.refusals == {}
        await made.settle(SETTLE_SECONDS)
        await made.settle()
        (event,) = await made.refused()
        assert "power, temperature" in event.reason
        assert "the machine has flow" in event.reason
        made.view.take(rows(plant(10, 2), 20))
        await made.settle()
        await made.settle()
        assert len(made.installed) == 1
        assert made.refusals == {}


async def test_a_machine_too_slow_or_in_other_units_is_refused_with_both_named(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        made.view.take(slowly(2))
        made.want(artifact())
        await made.settle()
        (event,) = await made.refused()
        assert "every 1 s" in event.reason
        assert "every 2 s" in event.reason
        made.view.take(rows(plant(60, 2), 100, units=("l/s", "kW", "degC")))
        await made.settle()
        await made.settle()
        assert "l/min" in made.refusals["pump"]
        assert "l/s" in made.refusals["pump"]
        assert made.installed == []


async def test_a_server_away_is_asked_again_and_odd_wishes_change_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        made.view.take(rows(plant(10, 1)))
        made.source.away = 2
        made.source.desire("press", b"{}")
        made.source.desire("pump", None)
        made.want(artifact())
        await made.settle()
        assert made.installed == []
        await made.settle(5)
        await made.settle(5)
        assert len(made.installed) == 1
        made.want(artifact(), version=1)
        await made.settle(5)
        assert len(made.installed) == 1


async def test_a_model_that_takes_all_memory_takes_a_childs_and_is_refused(tmp_path: Path) -> None:
    modest = greedy(artifact(), 10)
    assert load_model(desired(modest), modest)
    async with bench(tmp_path, load_tried) as made:
        made.view.take(rows(plant(10, 1)))
        made.want(greedy(artifact(), TRIAL_BYTES // 4 + 1))
        await made.until(lambda: bool(made.refusals))
        made.want(artifact(), version=2)
        await made.until(lambda: bool(made.installed))
        (told,) = await made.refused()
        assert "graph failed" in told.reason
        assert (made.installed[0].desired.version, made.refusals) == (2, {})
        made.want(greedy(artifact(), TRIAL_BYTES // 4 + 2), version=3)
        await made.until(lambda: bool(made.refusals))
        made.want(artifact(), version=2)  # runs on all the while
        await made.until(lambda: not made.refusals)
        assert len(made.installed) == 1


async def test_a_model_on_trial_is_delivered_beside_the_champion_and_taken_away(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path / "models")
    champion, trial = artifact(), artifact(seed=9)
    both = desired(champion).to_dict() | {"shadow": desired(trial, 2).to_dict()}
    async with bench(tmp_path) as made:
        made.view.take(rows(plant(10, 1)))
        made.source.objects |= {desired(each).object_name: each for each in (champion, trial)}
        made.source.desire("pump", orjson.dumps(both))
        await made.settle()
        assert [model.desired.version for model in made.installed] == [1]
        assert [model and model.desired.version for model in made.tried] == [2]
        loaded, _ = folder.load("pump.shadow")
        assert loaded is not None
        made.source.desire("pump", orjson.dumps(both | {"shadow": {"model": "x"}}))
        await made.settle()
        assert len(made.tried) == 1
        made.source.desire("pump", orjson.dumps(desired(champion).to_dict()))
        await made.settle()
        assert made.tried[-1] is None
        assert len(made.installed) == 1
        assert folder.load("pump.shadow") == (None, [])
        assert [path.stem for path in (tmp_path / "models").glob("*.model")] == [desired(champion).sha256]


async def test_what_ran_before_comes_back_and_a_trial_is_promoted_with_nobody_asked(tmp_path: Path) -> None:
    old, new, tried = artifact(), artifact(seed=9), artifact(seed=5)
    loads: list[int] = []

    def counted(wanted: Desired, data: bytes) -> LoadedModel:
        loads.append(wanted.version)
        return load_model(wanted, data)

    async with bench(tmp_path, counted) as made:
        made.view.take(rows(plant(10, 1)))
        made.want(old)
        await made.until(lambda: len(made.installed) == 1)
        made.want(new, 2)
        await made.until(lambda: len(made.installed) == 2)
        made.source.objects.clear()
        back = desired(old).to_dict()
        made.source.desire("pump", orjson.dumps(back))
        await made.until(lambda: len(made.installed) == 3)
        made.source.objects[desired(tried).object_name] = tried
        made.source.desire("pump", orjson.dumps(back | {"shadow": desired(tried, 3).to_dict()}))
        await made.until(lambda: len(made.tried) == 1)
        made.source.objects.clear()
        made.source.desire("pump", orjson.dumps(desired(tried, 3).to_dict()))
        await made.until(lambda: len(made.installed) == 4)
        assert [model.desired.version for model in made.installed] == [1, 2, 1, 3]
        assert made.tried[-1] is None
        assert loads == [1, 2, 3]
        assert (made.refusals, await made.refused()) == ({}, [])
    loaded, _ = ModelFolder(tmp_path / "models").load("pump")
    assert loaded is not None
    assert loaded.desired.version == 3


async def test_a_kept_model_that_rotted_is_fetched_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        made.view.take(rows(plant(10, 1)))
        made.want(artifact())
        await made.until(lambda: len(made.installed) == 1)
        made.want(artifact(seed=9), 2)
        await made.until(lambda: len(made.installed) == 2)
        blob = tmp_path / "models" / f"{desired(artifact()).sha256}.model"
        blob.write_bytes(blob.read_bytes()[:-1])
        made.want(artifact())
        await made.until(lambda: len(made.installed) == 3)
        assert blob.read_bytes() == artifact()
