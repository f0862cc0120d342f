"""The live stream over real sockets: a log in a real nats-server, the application in uvicorn."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from cloud.api import live as module
from cloud.api import stream
from cloud.telemetry.port import open_store
from shared.clock import SystemClock
from shared.errors import Unavailable
from shared.eventlog import EventLog, Record, open_event_log
from shared.frame_codec import encode
from shared.frames import Aggregates, Body, Header, Kind, Readings, Scores
from shared.jetstream import ensure_topics
from shared.names import MACHINE_EVENTS, SCORES, SENSOR_READINGS
from shared.nats import open_control
from shared.supervise import free_ports
from shared.uvicorn import serve
from tests.servers import NatsServer
from tests.unit.api_parts import Api
from tests.unit.front_door import anomaly_started

CLOCK = SystemClock()
ROOM = {"Authorization": "Bearer room"}


@dataclass
class Plant:
    """The parts of a test."""

    api: Api
    log: EventLog
    server: NatsServer
    port: int
    stop: asyncio.Event

    def connect(self, query: str = "", **headers: str) -> connect:
        """A WebSocket with the control room's token."""
        url = f"ws://127.0.0.1:{self.port}/v1/live{query}"
        return connect(url, additional_headers={**ROOM, **headers}, proxy=None, compression=None)

    async def send(self, machine: str = "pump-1", *, time_us: int | None = None, rows: int = 1) -> int:
        """Rows a second apart that end now, in the log; returns the last one's time."""
        last = CLOCK.now_us() if time_us is None else time_us
        times = last - np.arange(rows)[::-1] * 1_000_000
        body = Readings(
            ("flow",), ("l/min",), np.zeros(rows, np.int64), times, times, np.linspace(0.0, 1.0, rows),
            np.zeros(rows, np.uint8),
        )  # fmt: skip
        await self.append(SENSOR_READINGS, machine, Kind.READINGS, body)
        return last

    async def append(self, topic: str, machine: str, kind: Kind, body: Body) -> None:
        frame = encode(Header("s1", f"edge-{machine}", machine, kind, b"e" * 16, 1, len(body)), body)
        await self.log.append(topic, machine, [Record(frame)])


@pytest.fixture
async def plant(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Plant]:
    url, credentials = nats_server.url, nats_server.credentials
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(f"sqlite:///{tmp_path}/t.db"))
        control = await stack.enter_async_context(open_control(url, credentials=credentials))
        await ensure_topics(url, credentials=credentials, max_file_store=1 << 28)
        await control.ensure_buckets(["edge-pump-1", "edge-fan-1"])
        for machine in ("pump-1", "fan-1"):
            await control.assign("s1", machine, f"edge-{machine}")
        log = await stack.enter_async_context(open_event_log(url, credentials=credentials))
        api = Api(store, control, clock=CLOCK)
        [port] = free_ports(1)
        made = Plant(api, log, nats_server, port, asyncio.Event())
        tailing = asyncio.create_task(api.live.run(log))
        following = asyncio.create_task(api.reported.follow())
        serving = asyncio.create_task(
            serve(api.app, "127.0.0.1", port, made.stop, section="api", what="the test")
        )
        try:
            await api.until(lambda: len(api.reported.assignments) == 2)
            await heard(made)
            yield made
        finally:
            tailing.cancel()
            following.cancel()
            await asyncio.gather(tailing, following, return_exceptions=True)
            made.stop.set()
            await serving


async def heard(plant: Plant) -> None:
    """Return once the tails stand at the log's end and uvicorn answers."""
    part = plant.api.live.journal
    await plant.send("before")
    while not part.of("before").rows:
        await asyncio.sleep(0.02)
        await plant.send("before")
    async with httpx.AsyncClient() as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(f"http://127.0.0.1:{plant.port}/livez")).status_code == 200:
                    return
            await asyncio.sleep(0.01)


async def message(socket: ClientConnection) -> Any:  # noqa: ANN401 - JSON
    async with asyncio.timeout(10):
        return orjson.loads(await socket.recv())


async def update(socket: ClientConnection, has: str) -> Any:  # noqa: ANN401 - JSON
    """The next update with something in this part."""
    while True:
        found = await message(socket)
        if found["type"] == "update" and found[has]:
            return found


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "evil.example"}, 421),
    ],
)
async def test_a_websocket_is_checked_before_it_is_accepted(
    plant: Plant, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with plant.connect(**headers):
            pass
    assert refused.value.response.status_code == status
    assert orjson.loads(refused.value.response.body or b"")["status"] == status


async def test_a_reading_is_told_soon_and_its_machine_is_young(plant: Plant) -> None:
    async with plant.connect("?machine=pump-1&machine=fan-1") as socket:
        first = await message(socket)
        assert first["type"] == "snapshot"
        assert [m["machine"] for m in first["machines"]] == ["fan-1", "pump-1"]
        began = CLOCK.monotonic()
        sent = await plant.send()
        told = await update(socket, "readings")
        assert CLOCK.monotonic() - began < 2.0  # usually 0.2
        assert told["readings"] == {"pump-1": {"flow": [[sent, 0.0, 0]]}}
        [pump] = told["machines"]
        assert pump["last"][0]["value"] == 0.0
        assert pump["data_age_seconds"] < 2.0
        assert "skipped" not in told
        # A backfill is history: the next news is the live row after it.
        for hour in range(1, 4):
            await plant.send(time_us=sent - hour * 3_600_000_000, rows=900)
        newer = await plant.send()
        assert (await update(socket, "readings"))["readings"] == {"pump-1": {"flow": [[newer, 0.0, 0]]}}


async def test_scores_events_and_states_are_told_too(plant: Plant) -> None:
    async with plant.connect("?machine=pump-1") as socket:
        await message(socket)
        now = CLOCK.now_us()
        score = Scores(
            "m", "ab" * 32, 2.0, ("flow",), np.array([now]), np.array([0.5], np.float32), np.zeros(1, np.uint8),
            np.ones((1, 1), np.float32), np.ones((1, 1)),
        )  # fmt: skip
        await plant.append(SCORES, "pump-1", Kind.SCORES, score)
        assert (await update(socket, "scores"))["scores"] == {"pump-1": [[now, 0.5, 2.0]]}
        started = anomaly_started()
        for machine in ("fan-1", "pump-1"):
            position = await plant.log.append(MACHINE_EVENTS, machine, [Record(started.to_json())])
        told = await update(socket, "events")
        assert [e["id"] for e in told["events"]] == [started.id]
        assert told["position"] == position
        report = {"machines": {"pump-1": {"state": "normal", "arrival_us": now, "last": {}}}}
        await plant.api.control.report("edge-pump-1", "state", orjson.dumps(report))
        while (told := await update(socket, "machines"))["machines"][0]["state"] != "normal":
            pass
        assert told["readings"] == {}


async def test_what_can_not_be_read_is_passed_over(plant: Plant) -> None:
    async with plant.connect() as socket:
        await message(socket)
        await plant.log.append(SENSOR_READINGS, "pump-1", [Record(b"no frame")])
        await plant.log.append(MACHINE_EVENTS, "pump-1", [Record(b"no event")])
        zero = np.zeros(1)
        bucket = Aggregates(
            ("flow",), ("l/min",), 10, np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1, np.int64),
            zero, zero, zero,
        )  # fmt: skip
        await plant.append(SENSOR_READINGS, "pump-1", Kind.AGGREGATE, bucket)
        sent = await plant.send()
        assert (await update(socket, "readings"))["readings"]["pump-1"]["flow"][0][0] == sent


async def test_the_stream_goes_on_after_the_log_was_killed(plant: Plant) -> None:
    async with plant.connect() as socket:
        await message(socket)
        plant.server.kill()
        plant.server.start()
        sent = 0
        while not sent:
            with contextlib.suppress(Unavailable):
                sent = await plant.send()
            await asyncio.sleep(0.02)
        while (await update(socket, "readings"))["readings"]["pump-1"]["flow"][-1][0] != sent:
            pass  # one whose confirmation was lost


async def test_messages_are_few_and_a_flood_is_coalesced(plant: Plant) -> None:
    async with plant.connect("?machine=pump-1") as socket:
        await message(socket)
        began = CLOCK.monotonic()
        points = skipped = messages = 0
        now = CLOCK.now_us()
        for number in range(40):
            await plant.send(time_us=now + number * 20_000_000, rows=20)
        while points + skipped < 800:
            told = await update(socket, "readings")
            [flow] = told["readings"]["pump-1"].values()
            assert len(flow) <= 50
            points, skipped, messages = points + len(flow), skipped + told.get("skipped", 0), messages + 1
        assert points + skipped == 800
        assert messages <= 2 + (CLOCK.monotonic() - began) / module.INTERVAL_SECONDS


async def test_a_client_that_takes_nothing_holds_up_nobody(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SEND_SECONDS", 0.5)
    with plant.api.live.join() as stuck:
        messages = stuck.messages()
        await anext(messages)
        async with plant.connect("?machine=pump-1") as socket:
            await message(socket)
            for _ in range(3):
                sent = await plant.send(rows=1)
                assert (await update(socket, "readings"))["readings"]["pump-1"]["flow"][-1][0] == sent
            await plant.send(time_us=sent + 200_000_000, rows=100)
            await update(socket, "readings")
        late = orjson.loads(await anext(messages))
    assert len(late["readings"]["pump-1"]["flow"]) == 50
    assert late["skipped"] == 53 or late["skipped"] == 54


async def test_server_sent_events_are_the_same_messages(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "COMMENT_SECONDS", 0.0)
    url = f"http://127.0.0.1:{plant.port}/v1/stream"
    async with (
        httpx.AsyncClient(headers=ROOM) as http,
        http.stream("GET", url, params={"machine": "pump-1"}) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        lines = (line async for line in response.aiter_lines() if line)
        assert orjson.loads((await anext(lines)).removeprefix("data: "))["type"] == "snapshot"
        assert await anext(lines) == ": still here"
        sent = await plant.send()
        async for line in lines:
            if line.startswith("data: ") and orjson.loads(line[6:])["type"] == "update":
                assert orjson.loads(line[6:])["readings"] == {"pump-1": {"flow": [[sent, 0.0, 0]]}}
                break


async def test_clients_are_bounded_and_their_streams_end_with_the_service(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plant.api.live, "_max_clients", 1)
    async with plant.connect() as socket:
        await message(socket)
        with pytest.raises(InvalidStatus) as refused:
            async with plant.connect():
                pass
        assert refused.value.response.status_code == 503
        response = await plant.api.http.get("/v1/stream")
        assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
        plant.api.live.close()
        async with asyncio.timeout(5):
            await socket.wait_closed()
        assert socket.close_code == 1001
    await plant.api.until(lambda: plant.api.live.clients == 0)


async def test_silence_is_told_by_heartbeats_and_makes_a_machine_stale(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.3)
    plant.api.live.fleet._stale_after = 0.5
    async with plant.connect("?machine=pump-1") as socket:
        await message(socket)
        await plant.send()
        assert (await update(socket, "readings"))["machines"][0]["state"] != "stale"
        kinds = []
        while True:
            told = await message(socket)
            kinds.append(told["type"])
            if told["type"] == "update":
                break
        assert told["machines"][0]["state"] == "stale"
        assert "heartbeat" in kinds
