"""Fixtures that several suites share."""

from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from industrialmind.login import link_into
from industrialmind.plant import DEMO_PLANT
from shared import supervise
from tests.e2e.plant_process import PlantProcess, running_plant
from tests.servers import NatsServer

# `make nightly` runs the properties under the second profile. Nobody's machine is so idle that a deadline means much.
settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile("nightly", max_examples=2000, deadline=None)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where tests leave what they saw, and what decides about faults."""
    parser.addoption("--screenshots", type=Path, help="folder for screenshots (else they are not kept)")
    parser.addoption("--seed", type=int, default=1, help="seed of the fault suites (they print theirs)")
    parser.addoption("--write-docs", action="store_true", help="write tables that tests measure into docs/")


def pytest_configure(config: pytest.Config) -> None:
    """Each worker draws ports of its own: what one found free is else taken by another before its server listens."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        share = supervise.PORTS // worker["workercount"]
        number = int(worker["workerid"].removeprefix("gw"))
        patch = pytest.MonkeyPatch()
        patch.setattr(supervise, "LOWEST_PORT", supervise.LOWEST_PORT + number * share)
        patch.setattr(supervise, "PORTS", share)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Modules that start processes begin first, whatever order was drawn: else the last of them runs beside idle workers."""
    yield
    weights = Counter(
        item.path
        for item in items
        if "nats_server" in getattr(item, "fixturenames", ()) or item.get_closest_marker("e2e")
    )
    items.sort(key=lambda item: -weights[item.path])


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A fresh nats-server with JetStream and MQTT (up in about 0.1 s), credentials `admin:secret`."""
    server = NatsServer(tmp_path / "nats").start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlantProcess]:
    """The demonstration: one stack for every suite that only looks at it or heals what it breaks.

    Three hours of history, models by one trainer, and a fault right after them.
    """
    root = tmp_path_factory.mktemp("demo") / "data"
    with running_plant(root, "--backfill-hours", "3", "--fault-after", "1") as running:
        running.wait_ready()
        yield running


@pytest.fixture
def login_url(plant: PlantProcess) -> str:
    """A fresh link into the plant's control room, once the data API is back from what a test before did to it."""
    plant.until(lambda: len(plant.get("/v1/machines")["machines"]) == len(DEMO_PLANT.machines))
    return link_into(plant.data)


@pytest.fixture
def ui_url(plant: PlantProcess) -> str:
    """The address of the plant's control room."""
    return f"http://127.0.0.1:{plant.ports[3]}"
