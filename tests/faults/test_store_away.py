"""Stores stopped, frozen and killed under load: no answer of the data API is wrong, and no row is lost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.servers.process import Server
from tests.faults.answers import PATIENCE_S, Answers, Asker
from tests.faults.backbone import Backbone
from tests.faults.orders import Orders
from tests.faults.readiness import NOBODY, Readiness
from tests.faults.rounds import rounds
from tests.faults.wiring import TOKEN, Shape

WAYS = ("stop", "kill", "pause")
NOTICED_S = 10.0
"""By then a part must say that what it needs is away, however that went: it asks each second and waits two, on an idle machine."""
AWAY_S = 1.0
"""How long it is away after that."""
BACK_S = 60.0


@dataclass
class Watched:
    """The backbone with askers at its API and an eye on what its parts say."""

    plant: Backbone
    readiness: Readiness
    askers: list[Asker | Orders]

    def answers(self) -> list[Answers]:
        """Of all askers, who end."""
        return [asker.stop() for asker in self.askers]

    def assert_answered(self) -> None:
        """None of what came so far is wrong."""
        for asker in self.askers:
            assert not asker.answers.wrong, asker.answers.wrong[:5]

    def go(self, server: Server, way: str, unready: tuple[str, ...], ready: tuple[str, ...]) -> None:
        """Take a server away and bring it back: the parts in `unready` must say so, those in `ready` must not mind."""
        begun = time.monotonic()
        getattr(server, way)()
        self.plant.until(
            lambda: all(self.readiness.now(name) != 200 for name in unready),
            NOTICED_S,
            f"{unready} say that {server.name} is away ({way})",
        )
        noticed = time.monotonic()
        self.plant.run_for(AWAY_S)
        ended = time.monotonic()
        if way == "pause":
            server.resume()
        else:
            server.start()
        for name in unready:
            said = self.readiness.said(name, noticed, ended)
            assert said, f"nobody looked at {name}"
            assert said <= {503, NOBODY}, f"{name} says it is ready without {server.name} ({way}): {said}"
        took = self.plant.until(
            lambda: all(self.readiness.now(name) == 200 for name in self.readiness.names),
            BACK_S,
            "ready again",
        )
        for name in ready:
            said = self.readiness.said(name, begun, time.monotonic())
            assert said == {200}, f"{name} minds that {server.name} is away ({way}): {said}"
        self.plant.say(f"{server.name}: {way}, ready {took:.1f} s after its return")
        self.flow()

    def flow(self) -> None:
        """Until brokers confirmed more, and askers were answered more."""
        right = [asker.answers.right for asker in self.askers]
        self.plant.flow(50)
        self.plant.until(
            lambda: all(
                asker.answers.right > before + 5 for asker, before in zip(self.askers, right, strict=True)
            ),
            BACK_S,
            "more right answers",
        )
        self.assert_answered()


@contextmanager
def watched(folder: Path, seed: int, shape: Shape) -> Iterator[Watched]:
    """The backbone under load and questions; at the end all is held against the truth."""
    with Backbone(folder, seed, shape) as plant:
        url = plant.parts["api"].url
        readiness = Readiness(plant.background, {name: plant.parts[name].url for name in ("ingest", "api")})
        askers: list[Asker | Orders] = [
            Asker(plant.background, url, TOKEN, plant.load.devices, f"{seed} {n}", ask_again=share)
            for n, share in enumerate((0.2, 0.9))
        ]
        if shape.stores:
            askers.append(Orders(plant.background, url, TOKEN, "m1"))
        seen = Watched(plant, readiness, askers)
        plant.flow(100)
        yield seen
        plant.flow(50)
        plant.drain()
        for answers in seen.answers():
            plant.say(str(answers))
            assert not answers.wrong, answers
            assert answers.right, answers
            assert answers.slowest < PATIENCE_S, answers
        readiness.stop()
        plant.judge().assert_clean()


@pytest.mark.parametrize("faults", rounds(1, 30))
def test_the_data_api_killed_under_load_answers_nothing_wrong(tmp_path: Path, seed: int, faults: int) -> None:
    with watched(tmp_path, seed, Shape(edges=1, direct=0, api=True)) as seen:
        for _ in range(faults):
            seen.plant.restart("api")
            seen.plant.until_ready("api")
            seen.flow()
            seen.plant.parts["ingest"].pause()
            seen.plant.run_for(1.0)
            seen.plant.parts["ingest"].resume()
            seen.flow()


NEEDED_BY = {"influxdb": ("ingest", "api"), "postgresql": ("ingest", "api"), "redis": ()}
"""Who can't work without which store. Without Redis everything is as right and as ready as with it."""


@pytest.mark.parametrize("faults", rounds(1, 30))
def test_each_store_stopped_killed_and_frozen_under_load(tmp_path: Path, seed: int, faults: int) -> None:
    with watched(tmp_path, seed, Shape(edges=2, direct=0, api=True, stores=True)) as seen:
        wiring = seen.plant.wiring
        for _ in range(faults):
            for way in WAYS:
                for server in (wiring.redis, wiring.influxdb, wiring.postgresql):
                    unready = NEEDED_BY[server.name]
                    ready = tuple(name for name in seen.readiness.names if name not in unready)
                    seen.go(server, way, unready, ready)
