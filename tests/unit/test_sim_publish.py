"""Simulated machines and recordings over a real broker, told what to do by JSON lines."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from firmware_sim.app import parse_machines, run
from firmware_sim.control import Clear, Continue, Inject, emit_to_stdout, parse, stdin_lines
from firmware_sim.machine import Machine
from firmware_sim.machines import machine_type
from firmware_sim.publishing import Pipeline, milliseconds
from firmware_sim.replay import machine_of, read_recording, run_replay
from firmware_sim.settings import ReplaySettings, SimSettings
from industrialmind.embedded import server_binary
from shared.errors import Misconfigured, Rejected, Unavailable
from shared.paho import open_mqtt

Event = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """A nats-server with MQTT that can be killed and started again on its store."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'listen: 127.0.0.1:{free_port()}\nserver_name: t\njetstream {{ store_dir: "{folder}/store" }}\n'
            f"mqtt {{ listen: 127.0.0.1:{self.port} }}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [server_binary(), "-c", str(self._config)], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(tmp_path_factory.mktemp("broker"))
    made.start()
    yield made
    made.kill()


class Seen:
    """What arrived at the broker: values and whether they came in batches, by topic and time in µs."""

    def __init__(self) -> None:
        self.values: dict[str, dict[int, float]] = defaultdict(dict)
        self.single: dict[str, dict[int, bool]] = defaultdict(dict)
        self.order: list[int] = []
        self.units: dict[str, str] = {}
        self.doubled = 0

    def take(self, topic: str, payload: bytes) -> None:
        told = json.loads(payload)
        assert not isinstance(told, list) or len(told) <= 500
        for one in told if isinstance(told, list) else [told]:
            time_us = round(one["ts"] * 1000)
            self.doubled += time_us in self.values[topic]
            self.values[topic][time_us] = one["value"]
            self.single[topic][time_us] = not isinstance(told, list)
            self.units[topic] = one["unit"]
            self.order.append(time_us)
            assert one["quality"] == "good"

    def count(self) -> int:
        return sum(len(times) for times in self.values.values())


@asynccontextmanager
async def listening(broker: Broker, site: str) -> AsyncIterator[Seen]:
    seen = Seen()
    async with open_mqtt(broker.url, client_id=f"listener-{site}", clean=False) as client:
        await client.subscribe(f"plant/{site}/#")

        async def listen() -> None:
            while True:
                messages = await client.receive(100)
                for message in messages:
                    seen.take(message.topic, message.payload)
                client.ack(messages)

        task = asyncio.create_task(listen())
        yield seen
        if task.done():
            task.result()
        task.cancel()


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Poll until `holds`; the parts under test run on the wall clock and a real broker."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


class Said:
    """The events of a run."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def first(self, kind: str) -> Event | None:
        return next((event for event in self.events if event["event"] == kind), None)


class Lines:
    """Control lines that a test hands in while the run goes on."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def say(self, told: object) -> None:
        self._queue.put_nowait(told if isinstance(told, bytes) else json.dumps(told).encode())

    def end(self) -> None:
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (line := await self._queue.get()) is not None:
            yield line


def sim(broker: Broker, site: str, **others: object) -> SimSettings:
    made: dict[str, Any] = {"machines": ("p-1:pump", "f-1:fan"), "interval_s": 0.2, "seed": 4, **others}
    return SimSettings(mqtt_url=broker.url, site=site, **made)


def truth(settings: SimSettings, machine: str, kind: str, times_us: list[int]) -> np.ndarray[Any, Any]:
    interval_us = round(settings.interval_s * 1e6)
    made = Machine(machine_type(kind), machine, seed=settings.seed, interval_us=interval_us)
    return np.array([made.values(time_us // interval_us, 1)[0] for time_us in times_us])


async def test_live_comes_first_and_history_joins_without_a_gap(shared_broker: Broker) -> None:
    settings = sim(shared_broker, "live", backfill_hours=0.2)
    stop, said = asyncio.Event(), Said()
    async with listening(shared_broker, "live") as seen:
        running = asyncio.create_task(run(settings, stop, emit=said))
        await until(lambda: said.first("backfilled") is not None and said.first("live") is not None)
        rows = 0.2 * 3600 / 0.2 * 15
        assert said.first("backfilled") == {"event": "backfilled", "rows": rows}
        await until(lambda: seen.count() >= rows + 15 * 3)
        stop.set()
        await running
        assert said.events[0]["event"] == "live"
    assert seen.doubled == 0
    assert len(seen.values) == 15
    for topic, values in seen.values.items():
        times = sorted(values)
        assert set(np.diff(times)) == {200_000}, topic
        assert not seen.single[topic][times[0]]
        assert any(seen.single[topic].values())
    for column, sensor in enumerate(machine_type("pump").sensors):
        topic = f"plant/live/p-1/{sensor.name}"
        times = sorted(seen.values[topic])[::400]
        wanted = truth(settings, "p-1", "pump", times)[:, column]
        assert [seen.values[topic][t] for t in times] == wanted.tolist()
        assert seen.units[topic] == sensor.unit


async def test_control_lines_make_and_clear_faults(shared_broker: Broker) -> None:
    settings = sim(shared_broker, "faults", machines=("p-1:pump",))
    stop, said, lines = asyncio.Event(), Said(), Lines()
    async with listening(shared_broker, "faults") as seen:
        with capture_logs() as logs:
            running = asyncio.create_task(run(settings, stop, aiter(lines), emit=said))
            await until(lambda: said.first("live") is not None)
            for wrong in (
                b"{",
                {"machine": "p-1", "fault": "gremlins"},
                {"machine": "p-9", "fault": "leakage"},
                {"machine": "p-1", "fault": "overheating"},
                {"clear": "p-9"},
                {"continue": True},
            ):
                lines.say(wrong)
            lines.say({"machine": "p-1", "fault": "leakage", "severity": 50, "ramp_s": 0, "duration_s": None})
            lines.say(
                {"machine": "p-1", "fault": "clock-skew", "severity": 1, "sensor": "speed", "duration_s": 60}
            )
            await until(lambda: len([e for e in said.events if e["event"] == "fault"]) == 2)
            told = said.first("fault")
            assert told is not None
            assert told["machine"] == "p-1"
            assert told["sensors"] == ["flow", "discharge-pressure"]
            onset_us = round(told["at"] * 1000)
            await until(lambda: any(t > onset_us + 500_000 for t in seen.values["plant/faults/p-1/flow"]))
            lines.say({"clear": "p-1"})
            await until(lambda: said.first("cleared") is not None)
            lines.end()
            stop.set()
            await running
    assert len([entry for entry in logs if entry["event"] == "control line ignored"]) == 6
    flow = seen.values["plant/faults/p-1/flow"]
    before = [t for t in flow if t < onset_us]
    assert [flow[t] for t in before] == truth(settings, "p-1", "pump", before)[:, 1].tolist()
    after = max(flow)
    assert flow[after] < truth(settings, "p-1", "pump", [after])[0, 1] - 10
    skewed = [t for t in seen.values["plant/faults/p-1/speed"] if t % 200_000]
    assert skewed
    assert seen.doubled == 0


async def test_an_outage_of_the_broker_loses_nothing(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.start()
    stop, said = asyncio.Event(), Said()
    try:
        async with listening(broker, "outage") as seen:
            running = asyncio.create_task(run(sim(broker, "outage"), stop, emit=said))
            await until(lambda: seen.count() > 30)
            broker.kill()
            down_us = time.time_ns() // 1000
            await until(lambda: time.time_ns() // 1000 > down_us + 700_000)
            broker.start()
            await until(lambda: len(seen.values) > 0 and max(seen.order) > down_us + 1_500_000)
            stop.set()
            await running
            for topic, values in seen.values.items():
                assert set(np.diff(sorted(values))) == {200_000}, topic
    finally:
        broker.kill()


async def test_a_speed_up_starts_in_the_past_and_never_passes_now(shared_broker: Broker) -> None:
    settings = sim(shared_broker, "fast", machines=("p-1:pump",), backfill_hours=0.05, speed=300.0)
    stop, said = asyncio.Event(), Said()
    async with listening(shared_broker, "fast") as seen:
        running = asyncio.create_task(run(settings, stop, emit=said))
        await until(lambda: said.first("live") is not None)
        await until(lambda: seen.count() >= 7 * 900)
        stop.set()
        await running
    assert max(seen.order) <= time.time_ns() // 1000
    for values in seen.values.values():
        assert set(np.diff(sorted(values))) == {200_000}
    assert [event["event"] for event in said.events] == ["live"]


def write_recording(path: Path) -> Path:
    lines = ["time;Volume Flow;temp;anomaly"]
    lines += [f"2024-03-01T10:00:{i:02d}.{i:06d};{i * 1.1};{'' if i % 7 == 3 else i};0" for i in range(40)]
    path.write_text("\n".join(lines) + "\n")
    return path


async def test_a_replay_sends_its_fit_part_waits_and_sends_the_rest(
    shared_broker: Broker, tmp_path: Path
) -> None:
    path = write_recording(tmp_path / "Valve 7.csv")
    settings = ReplaySettings(mqtt_url=shared_broker.url, site="replay", file=path, speed=0, fit_rows=25)
    stop, said, lines = asyncio.Event(), Said(), Lines()
    recording = read_recording(path)
    async with listening(shared_broker, "replay") as seen:
        with capture_logs() as logs:
            running = asyncio.create_task(run_replay(settings, stop, aiter(lines), emit=said))
            await until(lambda: said.first("fit-part-sent") is not None)
            for told in (b"?", {"machine": "x", "fault": "leakage"}):
                lines.say(told)
            await until(lambda: len([e for e in logs if e["event"] == "control line ignored"]) == 2)
            assert said.events == [
                {
                    "event": "fit-part-sent",
                    "machine": "replay-valve-7",
                    "rows": 25,
                    "readings": int(np.count_nonzero(~np.isnan(recording.values[:25]))),
                    "last_ts": milliseconds(int(recording.times_us[24])),
                }
            ]
            lines.say({"continue": True})
            await running
        await until(lambda: seen.count() == recording.readings)
    assert any("looks like a label" in entry.get("note", "") for entry in logs)
    assert said.events[-1]["event"] == "replayed"
    assert said.events[-1]["rows"] == 15
    assert seen.order[-30:] == sorted(seen.order[-30:])
    for column, sensor in enumerate(recording.sensors):
        got = seen.values[f"plant/replay/replay-valve-7/{sensor}"]
        rows = ~np.isnan(recording.values[:, column])
        wanted = recording.values[rows, column].tolist()
        assert got == dict(zip(recording.times_us[rows].tolist(), wanted, strict=True))
    assert seen.doubled == 0


async def test_a_replay_keeps_its_pace_and_stops_when_told(shared_broker: Broker, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r.csv")
    settings = ReplaySettings(mqtt_url=shared_broker.url, site="pace", file=path, speed=10.0)
    stop, said = asyncio.Event(), Said()
    async with listening(shared_broker, "pace") as seen:
        running = asyncio.create_task(run_replay(settings, stop, emit=said))
        began = time.monotonic()
        await until(lambda: len(seen.values["plant/pace/replay-r/volume-flow"]) >= 6)
        assert time.monotonic() - began > 0.4
        stop.set()
        await running
    assert said.events == []
    assert seen.count() < 70


async def test_a_stop_ends_a_replay_that_waits(shared_broker: Broker, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r.csv")
    settings = ReplaySettings(mqtt_url=shared_broker.url, site="wait", file=path, fit_rows=100)
    stop, said = asyncio.Event(), Said()
    running = asyncio.create_task(run_replay(settings, stop, aiter(Lines()), emit=said))
    await until(lambda: said.first("fit-part-sent") is not None)
    stop.set()
    await running
    assert said.first("replayed") is None


async def test_a_recording_from_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("time,a\n2099-01-01,1\n")
    with pytest.raises(Rejected, match="future"):
        await run_replay(ReplaySettings(file=path), asyncio.Event())


@pytest.mark.parametrize(
    ("file", "machine", "wanted"),
    [
        ("a/Valve 7.csv", "", "replay-valve-7"),
        ("a/x.csv", "pump", "replay-pump"),
        ("a/replay-x.csv", "", "replay-x"),
        (f"{'y' * 60}.csv", "", "replay-" + "y" * 33),
    ],
)
def test_a_replayed_machine_is_always_called_so(file: str, machine: str, wanted: str) -> None:
    assert machine_of(ReplaySettings(file=Path(file), machine=machine)) == wanted


def test_a_machine_that_cannot_be_an_id_is_refused() -> None:
    with pytest.raises(Misconfigured, match="not an id"):
        machine_of(ReplaySettings(file=Path("x.csv"), machine="Pump 1"))


@pytest.mark.parametrize(
    ("specs", "problem"),
    [
        (("p-1:toaster",), "no machine type"),
        (("p-1",), "no machine type"),
        (("P 1:pump",), "not an id"),
        (("p:pump", "p:fan"), "twice"),
        ((), "no machine"),
    ],
)
def test_machines_that_cannot_be_are_refused(specs: tuple[str, ...], problem: str) -> None:
    with pytest.raises(Misconfigured, match=problem):
        parse_machines(specs)


async def test_a_site_that_cannot_be_is_refused() -> None:
    with pytest.raises(Misconfigured, match="site"):
        await run(SimSettings(site="Plant 1"), asyncio.Event())


def test_control_lines_are_read() -> None:
    assert parse(b'{"continue": true}') == Continue()
    assert parse(b'{"clear": "p"}') == Clear("p")
    line = b'{"machine":"p","fault":"stuck","severity":6,"ramp_s":null,"duration_s":5,"sensor":"flow"}'
    assert parse(line) == Inject("p", "stuck", severity=6, duration_s=5, sensor="flow")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"nonsense", "not JSON"),
        (b"[]", "expected"),
        (b'{"machine":"p"}', "expected"),
        (b'{"clear":"p","x":1}', "expected"),
        (b'{"continue":false}', "expected"),
        (b'{"machine":"p","fault":"nope"}', "there are cavitation"),
        (b'{"machine":"p","fault":"stuck","size":1}', "unknown field 'size'"),
        (b'{"machine":"p","fault":"stuck","severity":"big"}', "severity is not a number"),
        (b'{"machine":"p","fault":"stuck","ramp_s":true}', "ramp_s is not a number"),
        (b'{"machine":"p","fault":"stuck","sensor":3}', "sensor is not a name"),
    ],
)
def test_other_lines_are_refused(line: bytes, problem: str) -> None:
    with pytest.raises(Rejected, match=problem):
        parse(line)


async def test_lines_are_read_to_the_end_and_long_ones_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\n\ntwo\nthree\n" + b"x" * 70_000 + b"\nlast")
    descriptor = os.open(path, os.O_RDONLY)
    got = [line async for line in stdin_lines(descriptor)]
    os.close(descriptor)
    assert got[:3] == [b"one", b"two", b"three"]
    assert got[-1] == b"last"
    assert sum(len(line) for line in got[3:-1]) == 70_000


def test_events_go_to_stdout_as_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    emit_to_stdout({"event": "live"})
    assert capfdbinary.readouterr().out == b'{"event":"live"}\n'


class Refusing:
    """A publisher whose client has been closed."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        del topic, payload, qos
        raise Unavailable("closed")


async def test_a_pipeline_tells_that_a_publish_failed() -> None:
    async with Pipeline(Refusing(), 1) as pipeline:
        await pipeline.send("t", b"1")
        with pytest.raises(Unavailable):
            await pipeline.drain()
        await pipeline.send("t", b"2")
        with pytest.raises(Unavailable):
            await pipeline.send("t", b"3")
