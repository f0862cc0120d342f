"""The edge agent on a disk that is full, on a real mosquitto: scores and local alarms go on, and every reading arrives once.

The broker sends 20 messages that are not acknowledged, mosquitto's default: that is all that the first connection gets.
"""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from deploy.servers.install import debian, run
from deploy.servers.mosquitto import Mosquitto
from edge.models import ModelFolder
from shared.events import AnomalyStarted
from shared.frames import Kind
from shared.paho import MqttClient, open_mqtt
from tests.parts import Part
from tests.unit.edge_models import SENSORS, UNITS, artifact, desired, plant
from tests.unit.test_edge_agent import Gateway

pytestmark = pytest.mark.real

WAIT_S = 40.0
START_MS = time.time_ns() // 1_000_000 - 3_600_000
DISK_BYTES = 8 << 20
FILE_BYTES = 512 << 10
USERS = ("e1-devices", "e1-uplink", "device", "panel", "gateway")


class SmallDisk:
    """A tmpfs with a file that takes all that is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        options = f"size={DISK_BYTES}"
        subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
        self._filler = folder / "filler"

    def fill(self, pid: int) -> None:
        del pid
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        assert os.statvfs(self.folder).f_bavail == 0

    def free(self, pid: int) -> None:
        del pid
        self._filler.unlink()

    def close(self) -> None:
        subprocess.run(["/bin/umount", "-l", str(self.folder)], check=True)


class SmallFiles:
    """Where nobody may mount: no file of the agent's grows any further."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def fill(self, pid: int) -> None:
        psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (FILE_BYTES, psutil.RLIM_INFINITY))

    def free(self, pid: int) -> None:
        psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))


Full = SmallDisk | SmallFiles


@pytest.fixture(params=["small disk", "small files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Full]:
    if request.param == "small files":
        yield SmallFiles(tmp_path / "disk")
        return
    try:
        small = SmallDisk(tmp_path / "disk")
    except subprocess.CalledProcessError:
        pytest.skip("nobody but root may mount a small disk; the other case runs")
    try:
        yield small
    finally:
        small.close()


class Plant:
    """A machine that sends all the time, a panel that listens, a gateway that confirms while it is told to."""

    def __init__(self, edge: Part, device: MqttClient, panel: MqttClient) -> None:
        self.edge, self._device, self._panel = edge, device, panel
        self.state: dict[str, Any] = {}
        self.alarms: list[list[dict[str, Any]]] = [[]]
        self.seconds = 0
        self.faulty = self.over = False

    async def feed(self) -> None:
        """A second of the machine's time each 20 ms, while the devices' messages are taken by the broker."""
        while not self.over:
            [row] = plant(self.seconds + 1, 3, fault_from=0 if self.faulty else None)[-1:]
            stamp = START_MS + self.seconds * 1000
            for sensor, unit, value in zip(SENSORS, UNITS, row.tolist(), strict=True):
                body = orjson.dumps({"ts": stamp, "value": value, "unit": unit})
                await self._device.publish(f"plant/s1/pump/{sensor}", body)
            self.seconds += 1
            await asyncio.sleep(0.02)  # what a device does

    async def look(self) -> None:
        while True:
            for message in await self._panel.receive(100):
                said = orjson.loads(message.payload)
                if message.topic.endswith("/state"):
                    self.state = said
                elif message.topic.endswith("/alarms"):
                    self.alarms.append(said["alarms"])

    async def until(self, holds: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, (
                f"waited in vain until {what}: {self.state} {self.edge.said()}"
            )
            await asyncio.sleep(0.02)

    def ready(self) -> int:
        return self.edge.get("/readyz")[0]


class BindingMosquitto(Mosquitto):
    """One that takes a client's id from its user, of whom there is one a connection."""

    def prepare(self) -> None:
        self.settings["use_username_as_clientid"] = "true"
        super().prepare()
        self._passwords.write_text("".join(f"{name}:{self.password}\n" for name in (*USERS, self.username)))
        run([debian("mosquitto", program="mosquitto_passwd"), "-U", str(self._passwords)])


def login(broker: Mosquitto, name: str) -> dict[str, Any]:
    user = name if isinstance(broker, BindingMosquitto) else broker.username
    return {"client_id": name, "username": user, "password": broker.password}


def edge_part(broker: Mosquitto, folder: Path, disk: Full) -> Part:
    models = ModelFolder(disk.folder / "models")
    models.save("pump", desired(artifact()), artifact())
    settings = {
        "site": "s1",
        "edge": "e1",
        "machines": ["pump"],
        "folder": str(disk.folder),
        "devices": {"url": broker.url, **login(broker, "e1-devices")},
        "uplink": {"url": broker.url, **login(broker, "e1-uplink")},
        "limits": {"pump": {"temperature": {"high": 46.0}}},
        "token": "metrics",
    }
    return Part(folder / "e1", "edge run", "edge", settings)


@asynccontextmanager
async def running(
    tmp_path: Path, disk: Full, kind: type[Mosquitto] = Mosquitto
) -> AsyncIterator[tuple[Plant, Gateway]]:
    with kind(tmp_path / "broker", settings={"max_inflight_messages": "20"}) as broker:
        edge = edge_part(broker, tmp_path, disk).start()
        try:
            async with (
                open_mqtt(broker.url, **login(broker, "device")) as device,
                open_mqtt(broker.url, **login(broker, "panel")) as panel,
                open_mqtt(broker.url, **login(broker, "gateway")) as far_client,
            ):
                await panel.subscribe("im/v1/s1/e1/local/#")
                await far_client.subscribe("im/v1/s1/e1/frames", "im/v1/s1/e1/urgent")
                far, machine = Gateway(far_client), Plant(edge, device, panel)
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(each()) for each in (far.run, machine.look)]
                    await asyncio.to_thread(edge.wait)
                    yield machine, far
                    for task in tasks:
                        task.cancel()
        finally:
            edge.stop()


def identities(far: Gateway) -> list[tuple[str, int]]:
    """Sensor and event time of each reading that arrived."""
    return [
        (body.sensor_names[sensor], time_us)
        for body in far.bodies(Kind.READINGS)
        for sensor, time_us in zip(body.sensor.tolist(), body.time_us.tolist(), strict=True)
    ]


async def test_scores_and_local_alarms_go_on_while_the_disk_is_full(tmp_path: Path, disk: Full) -> None:
    async with running(tmp_path, disk) as (machine, far):
        feeding = asyncio.create_task(machine.feed())
        await machine.until(lambda: machine.state.get("score") is not None, "windows are scored")
        assert machine.state["kept"]
        far.acking = False
        disk.fill(machine.edge.pid)
        await machine.until(
            lambda: machine.ready() == HTTPStatus.SERVICE_UNAVAILABLE, "the outbox takes nothing"
        )
        await machine.until(lambda: not machine.state["kept"], "the copies watch")
        assert machine.edge.figures("metrics")["im_edge_lookout"] == 1
        assert machine.edge.figures("metrics")["im_edge_outbox_refused"] == 1
        committed = machine.edge.figures("metrics")["im_edge_rows_committed_total"]
        seen = machine.seconds
        await machine.until(lambda: machine.seconds > seen + 12, "the copies' windows are full")
        window = machine.state["window"]
        machine.faulty = True
        await machine.until(
            lambda: {each["rule"] for each in machine.alarms[-1]} == {"anomaly", "limit/temperature/high"},
            "both alarms are told",
        )
        local, begun = machine.alarms[-1], len(machine.alarms) - 1
        assert not machine.state["kept"]
        assert machine.state["window"] > window
        assert machine.ready() == HTTPStatus.SERVICE_UNAVAILABLE
        assert machine.edge.figures("metrics")["im_edge_rows_committed_total"] == committed
        disk.free(machine.edge.pid)
        far.acking = True
        await machine.until(lambda: machine.ready() == HTTPStatus.OK, "the outbox takes again")
        await machine.until(lambda: machine.state["kept"], "the scoring proper has caught up")
        machine.over = True
        await feeding
        await machine.until(lambda: len(far.rows()) == 3 * machine.seconds, "every reading is there")
        assert machine.edge.figures("metrics")["im_edge_lookout"] == 0
        found = identities(far)
        assert len(set(found)) == len(found) == 3 * machine.seconds
        assert all(machine.alarms[begun:]), "an alarm that is on was taken back"
        stamps = [t for body in far.bodies(Kind.SCORES) for t in body.time_us.tolist()]
        assert len(stamps) == len(set(stamps)), "a window was scored twice"
        assert sorted(stamps) == list(range(min(stamps), max(stamps) + 1, 1_000_000)), "a window has no score"
        started = [event for event in far.events() if isinstance(event, AnomalyStarted)]
        assert [event.correlation_id for event in started] == [
            each["id"] for each in local if each["rule"] == "anomaly"
        ]


async def test_a_broker_that_binds_ids_to_users_keeps_the_session(tmp_path: Path) -> None:
    """There a second connection would be the first one's, and a clean one would wipe what waits for it."""
    disk = SmallFiles(tmp_path / "disk")
    async with running(tmp_path, disk, BindingMosquitto) as (machine, far):
        feeding = asyncio.create_task(machine.feed())
        await machine.until(lambda: machine.state.get("score") is not None, "windows are scored")
        far.acking = False
        disk.fill(machine.edge.pid)
        await machine.until(lambda: "binds the client id" in machine.edge.said(), "it was tried")
        sent = machine.seconds
        await machine.until(lambda: machine.seconds > sent + 50, "more waits")
        disk.free(machine.edge.pid)
        far.acking = True
        await machine.until(lambda: machine.ready() == HTTPStatus.OK, "the outbox takes again")
        machine.over = True
        await feeding
        await machine.until(
            lambda: len(set(identities(far))) == 3 * machine.seconds, "every reading is there"
        )
        assert machine.edge.said(None).count("binds the client id") == 1
