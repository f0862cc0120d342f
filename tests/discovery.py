"""A plant of three styles on a real broker: discovered, mapped, run at an edge, and its readings found in the outbox."""

import asyncio
import http.client
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import orjson
import pytest

from edge.agent import run
from edge.settings import EdgeSettings
from industrialmind.discover import Discovery, discover
from industrialmind.discover_settings import DiscoverSettings
from shared.errors import Misconfigured
from shared.frame_codec import decode, decode_body
from shared.frames import Kind, Readings
from shared.paho import MqttClient, open_mqtt
from shared.sparkplug.datatypes import DataType
from shared.sparkplug.payload import metric
from shared.sparkplug.topics import MessageType, NodeId
from shared.supervise import free_ports
from tests.sparkplug_node import FLOW, TEMP, SparkplugNode, now_ms

MACHINES: Final = ("press3", "press4", "mixer-7", "mixer-8", "node-1", "node-1-pump")
NODE: Final = NodeId("hall", "Node-1")
SENSORS: Final = {
    "flat": {(m, s) for m in ("press3", "press4") for s in ("temperature", "pressure", "speed-rpm")},
    "nested": {(m, s) for m in ("mixer-7", "mixer-8") for s in ("temp", "press", "shaft-rpm")},
    "sparkplug": {("node-1", "supply-temp"), ("node-1-pump", "flow")},
}
BIRTHS: Final = {("node-1", "supply-temp", "degC", 20.0), ("node-1-pump", "flow", "m3/h", 1.5)}
WAIT_S: Final = 20.0

Reading = tuple[str, str, str, float]


class Plant:
    """What it said of each machine: (machine, sensor, unit, value) to the time in µs, None where it said no time."""

    def __init__(self, client: MqttClient, node: SparkplugNode) -> None:
        self._client, self._node = client, node
        self.said: dict[Reading, int | None] = {}
        self._round = 0

    async def speak(self) -> dict[Reading, int | None]:
        """A round of each style; what it said."""
        self._round += 1
        n, at_ms = self._round, now_ms()
        said: dict[Reading, int | None] = {}
        for machine in ("press3", "press4"):
            for tag, unit, value in (
                ("temperature", "degC", 40.0 + n),
                ("pressure", "bar", 5.0 + n / 8),
                ("speed_rpm", "rpm", 1400.0 + n),
            ):
                await self._client.publish(f"factory/line1/{machine}/{tag}", orjson.dumps(value))
                said[machine, tag.replace("_", "-"), unit, value] = None
        for machine in ("mixer-7", "mixer-8"):
            values = {"temp": {"value": 61.5 + n, "unit": "°C"}, "press": {"value": 250 + n, "unit": "kPa"}}
            document = {"ts": at_ms, "serial": 99, "data": {**values, "shaft_rpm": 900 + n}}
            await self._client.publish(f"plant2/{machine}/telemetry", orjson.dumps(document))
            for sensor, unit, value in (
                ("temp", "degC", 61.5 + n),
                ("press", "kPa", 250.0 + n),
                ("shaft-rpm", "rpm", 900.0 + n),
            ):
                said[machine, sensor, unit, value] = at_ms * 1000
        for machine, sensor, unit, value, alias, device in (
            ("node-1", "supply-temp", "degC", 20.5 + n, TEMP, ""),
            ("node-1-pump", "flow", "m3/h", 1.5 + n, FLOW, "Pump"),
        ):
            at_ms = self._node._fresh()
            moved = metric(None, DataType.DOUBLE, value, alias=alias, timestamp=at_ms, typeless=True)
            if not device:
                moved = metric(None, DataType.FLOAT, value, alias=alias, timestamp=at_ms, typeless=True)
            kind = MessageType.DDATA if device else MessageType.NDATA
            await self._node._send(kind, moved, device=device)
            said[machine, sensor, unit, value] = at_ms * 1000
        self.said |= said
        return said

    async def speak_on(self) -> None:
        """Rounds for ever, for somebody who listens."""
        while True:
            await self.speak()
            await asyncio.sleep(0.1)


async def three_styles(port: int, username: str, password: str, folder: Path) -> None:
    """Discover three mappings, two of which run as they are and one after one edit; run an edge with each."""
    url = f"mqtt://127.0.0.1:{port}"
    async with (
        open_mqtt(url, client_id="plant", username=username, password=password) as client,
        SparkplugNode(port, NODE, host="none", username=username, password=password) as node,
    ):
        await node.birth()
        plant = Plant(client, node)
        speaking = asyncio.create_task(plant.speak_on())
        found = await asyncio.gather(
            *(_discover(url, username, password, topic) for topic in ("factory/#", "plant2/#", "spBv1.0/#"))
        )
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
        paths = [folder / name for name in ("flat.yaml", "nested.yaml", "sparkplug.yaml")]
        for each, path in zip(found, paths, strict=True):
            path.write_text(each.text)
        assert found[1].refused == 0
        assert all("no birth" in reason for topic in found[2].tried for reason in topic.reasons)
        assert found[1].proposal is not None
        assert found[1].proposal.machines == ["mixer-7", "mixer-8"]
        with pytest.raises(
            Misconfigured, match=r"flat\.yaml, line \d+: the unit of 'pressure' is not known yet"
        ):
            await _run(url, username, password, folder, paths[0], plant)
        assert found[0].text.count('"?"') == 1
        paths[0].write_text(found[0].text.replace('"?"', "bar"))
        for path in paths:
            await _run(url, username, password, folder, path, plant)


async def _discover(url: str, username: str, password: str, topic: str) -> Discovery:
    flags = {"broker": url, "username": username, "password": password, "seconds": 2.0, "topics": (topic,)}
    return await discover(DiscoverSettings.load(flags=flags | {"ask_births": True}, environ={}))


async def _run(url: str, username: str, password: str, folder: Path, mapping: Path, plant: Plant) -> None:
    """An edge with that mapping while the plant speaks: what it said from some time on is in the outbox, and nothing else."""
    mqtt = {"url": url, "username": username, "password": password}
    flags = {
        "site": "s1",
        "edge": "e1",
        "machines": MACHINES,
        "folder": str(folder / mapping.stem),
        "devices": mqtt | {"client_id": f"{mapping.stem}-devices"},
        "uplink": mqtt | {"client_id": f"{mapping.stem}-uplink"},
        "mapping": str(mapping),
        "token": "t",
    }
    stop, [port] = asyncio.Event(), free_ports(1)
    task = asyncio.create_task(run(EdgeSettings.load(flags=flags | {"port": port}, environ={}), stop))
    sensors = SENSORS[mapping.stem]
    began_us = time.time_ns() // 1000
    try:
        wanted = await _heard(task, port, sensors, plant)
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
    found = held(folder / mapping.stem / "outbox.db")
    assert wanted.keys() <= found.keys()
    for reading, times in found.items():
        if reading in BIRTHS:
            continue
        said = plant.said[reading]  # a value or a unit that nobody said would not be in it
        assert len(times) == 1
        if said is None:
            assert began_us <= times[0] <= time.time_ns() // 1000
        else:
            assert times[0] == said


async def _heard(
    task: "asyncio.Task[None]", port: int, sensors: set[tuple[str, str]], plant: Plant
) -> dict[Reading, int | None]:
    """Speak until the edge has committed something of each sensor; what was said from then on, once that is in, too."""
    deadline = time.monotonic() + WAIT_S
    while await _committed(task, port) < 2 * len(sensors):
        assert time.monotonic() < deadline, "the edge hears nothing"
        await plant.speak()
        await asyncio.sleep(0.1)
    before = await _settled(task, port, deadline)
    wanted: dict[Reading, int | None] = {}
    for _ in range(3):
        wanted |= {reading: at for reading, at in (await plant.speak()).items() if reading[:2] in sensors}
    while await _committed(task, port) < before + len(wanted):
        assert time.monotonic() < deadline, "some of it is not there"
        await asyncio.sleep(0.05)
    return wanted


async def _settled(task: "asyncio.Task[None]", port: int, deadline: float) -> int:
    """What the edge committed, once nothing more comes."""
    counts = [-1]
    while counts[-3:] != [counts[-1]] * 3:
        assert time.monotonic() < deadline, "the edge does not settle"
        await asyncio.sleep(0.05)
        counts.append(await _committed(task, port))
    return counts[-1]


async def _committed(task: "asyncio.Task[None]", port: int) -> int:
    """Readings that the agent committed so far."""
    await asyncio.wait([task], timeout=0.01)
    if task.done():
        task.result()  # an agent that can't start says why
    text = await asyncio.to_thread(_metrics, port)
    found = [line for line in text.splitlines() if line.startswith("im_edge_rows_committed_total ")]
    return round(float(found[0].split()[1])) if found else 0


def _metrics(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/metrics", headers={"Authorization": "Bearer t"})
        return connection.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        connection.close()


def held(outbox: Path) -> dict[Reading, list[int]]:
    """The readings in an outbox's file, with their event times."""
    found: dict[Reading, list[int]] = {}
    with closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as database:
        bodies = [
            (machine, decode_body(Kind.READINGS, body))
            for machine, body in database.execute("SELECT machine, body FROM waiting WHERE kind = 1")
        ]
        framed = [data for (data,) in database.execute("SELECT data FROM frames WHERE kind = 1")]
    bodies += [(header.machine, body) for header, body in map(decode, framed)]
    for machine, body in bodies:
        assert isinstance(body, Readings)
        for index, value, time_us in zip(
            body.sensor, body.value.tolist(), body.time_us.tolist(), strict=True
        ):
            found.setdefault((machine, body.sensor_names[index], body.units[index], value), []).append(
                time_us
            )
    return found
