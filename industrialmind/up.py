"""`industrialmind up`: the whole plant on one machine, one process a service, until Ctrl-C."""

import asyncio
import os
import platform
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil

from cloud.training.mlflow.settings import USER
from firmware_sim.recording import read_recording
from industrialmind.children import Ports, Processes, ReplayOptions
from industrialmind.client import Client
from industrialmind.embedded import EmbeddedNats
from industrialmind.plant import DEMO_PLANT, DEMO_SITE, DataDir, Machine, Plant, write_private
from industrialmind.story import SimulatorLines, Story, tell_demo, tell_replay
from industrialmind.trainer_job import trainer_lock
from industrialmind.trainer_jobs import TrainerJobs
from shared.clock import Clock, SystemClock
from shared.errors import Misconfigured, NotFound
from shared.jetstream import ensure_topics
from shared.names import slug
from shared.nats import open_control
from shared.service import run_loops
from shared.supervise import Supervisor

REPLAY_TYPE = "recording"


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The command's options."""

    data: Path
    ports: Ports
    replay: ReplayOptions | None = None
    backfill_hours: float = 6.0
    fault_after: float | None = 60.0
    json: bool = False
    log_url: str = ""
    waves_s: float = 0.0


async def run_up(options: UpOptions, stop: asyncio.Event) -> None:
    """Start everything, tell the story, drain on `stop`. Raises Misconfigured."""
    data = DataDir(options.data)
    with data.locked():
        check_ports(options.ports)
        plant, active = choose_plant(data, options.replay.file if options.replay else None, options.log_url)
        if options.replay:
            await check_recording(options.replay)
        write_private(data.plant_file, plant.to_json().decode())
        supervisor = Supervisor()
        try:
            await _run(options, data, plant, active, supervisor, stop)
        finally:
            say("draining ...")
            await supervisor.stop()
            data.run_file.unlink(missing_ok=True)
            say("stopped; everything is on disk")


async def _run(
    options: UpOptions,
    data: DataDir,
    plant: Plant,
    active: tuple[Machine, ...],
    supervisor: Supervisor,
    stop: asyncio.Event,
) -> None:
    ports = options.ports
    nats = EmbeddedNats(data.root, plant.edges(), nats_port=ports.nats, mqtt_port=ports.mqtt)
    nats.write_config()
    processes = Processes(data, plant, nats, ports, waves_s=0.0 if options.replay else options.waves_s)
    await supervisor.start(processes.broker())
    await nats.wait_ready()
    await prepare(nats, plant)
    await supervisor.start(processes.gateway())
    await supervisor.start(processes.ingest())
    await supervisor.start(processes.cloud())
    await supervisor.start(processes.control_room())
    for machine in active:
        await supervisor.start(processes.edge(machine))
    await supervisor.start(processes.inference())  # nothing on the way to live waits for it
    api, room = f"http://127.0.0.1:{ports.api}", f"http://127.0.0.1:{ports.ui}"
    scores = f"http://127.0.0.1:{ports.inference}"
    urls = {"api": api, "inference": scores, "ui": room, "nats": nats.nats_url, "mqtt": nats.mqtt_url}
    if ports.mlflow is not None:
        urls["mlflow"] = await start_mlflow(processes, supervisor, ports.mlflow)
    write_private(data.run_file, orjson.dumps({"pid": os.getpid(), **urls}).decode())
    async with AsyncExitStack() as stack:
        client = stack.enter_context(Client(api, data.token("cli")))
        clock = SystemClock()
        jobs = TrainerJobs(supervisor, processes, clock, stop, say)
        began = command_given(clock)
        story = Story(client, supervisor, processes, active, clock, stop, say, began, room, jobs)

        async def told() -> None:
            await tell_story(options, story, urls)
            await stop.wait()

        await run_loops(stop, story=told, trainer=jobs.run)


async def tell_story(options: UpOptions, story: Story, urls: Mapping[str, str]) -> None:
    """Say the way in, start the devices once every edge listens, and go on with the demonstration or the replay."""
    data, lines = story.processes.data, SimulatorLines()
    backfill = options.backfill_hours if not has_history(data) else 0.0
    link = await story.way_in()
    if link is None or not await story.listening():
        return
    if options.replay is None:
        devices = story.processes.simulator(backfill, lines.on_line)
    else:
        devices = story.processes.replay(story.machines[0], options.replay, lines.on_line)
    await story.supervisor.start(devices)
    say(f"data API at {urls['api']}; the plant's files are in {data.root}")
    if options.json:
        ready = {"event": "ready", "pid": os.getpid(), **urls, "login_link": link}
        sys.stdout.write(orjson.dumps(ready).decode() + "\n")
        sys.stdout.flush()
    if options.replay is None:
        marker = history_marker(data) if backfill > 0 else None
        await tell_demo(story, lines, history=marker, fault_after=options.fault_after)
    else:
        await tell_replay(story, lines)


async def start_mlflow(processes: Processes, supervisor: Supervisor, port: int) -> str:
    """Start MLflow's server, once no trainer writes into its database any more; returns its URL."""
    data = processes.data
    async with trainer_lock(data, lambda: say("a trainer of an earlier run still works: waiting ...")):
        await supervisor.start(processes.mlflow(port))
    url = f"http://127.0.0.1:{port}"
    say(f"MLflow at {url}: user {USER}, password in {data.secrets / 'mlflow.token'}")
    return url


async def prepare(nats: EmbeddedNats, plant: Plant) -> None:
    """Topics, buckets and assignments, as the administrator; running it again changes nothing."""
    admin = nats.credentials("admin").userinfo
    await ensure_topics(nats.nats_url, credentials=admin)
    if plant.log:
        from shared.kafka import ensure_topics as ensure_kafka_topics  # noqa: PLC0415 - only the chosen driver loads

        url, credentials = plant.log_access("", "")
        await ensure_kafka_topics(url, credentials=credentials)
    async with open_control(nats.nats_url, credentials=admin) as control:
        await control.ensure_buckets([machine.edge for machine in plant.machines])
        for machine in plant.machines:
            await control.assign(plant.site, machine.id, machine.edge)


def choose_plant(data: DataDir, replay: Path | None, log_url: str = "") -> tuple[Plant, tuple[Machine, ...]]:
    """The plant kept in DATA with this run's machines added, and the machines that run now.

    Raises Misconfigured if DATA was filled from another event log: its stores know places in that one.
    """
    active = DEMO_PLANT.machines if replay is None else (replay_machine(replay),)
    try:
        known = data.plant()
    except NotFound:
        known = Plant(DEMO_SITE, (), log_url)
    if log_url and log_url != known.log:
        raise Misconfigured(
            f"{data.root} belongs to {known.log or 'the embedded event log'}, not to the one of --log-url",
            hint="give another folder with --data, or leave --log-url out to go on with this plant's log",
        )
    added = tuple(machine for machine in active if machine not in known.machines)
    return Plant(known.site, (*known.machines, *added), known.log), active


def replay_machine(path: Path) -> Machine:
    """The machine under which a recording is replayed: `replay-` and the file's name with its folder's."""
    if not path.is_file():
        raise Misconfigured(f"no recording at {path}", hint="give --replay the path of a CSV file")
    name = slug(f"{path.resolve().parent.name}-{path.stem}")
    return Machine(f"replay-{name}"[:35].rstrip("-"), REPLAY_TYPE)


async def check_recording(options: ReplayOptions) -> None:
    """Say what a replay will leave out. Raises Misconfigured, Rejected for what it would end on."""
    recording = await asyncio.to_thread(
        read_recording,
        options.file,
        interval_s=options.interval_s,
        mapping=options.mapping,
        keep_columns=options.keep_columns,
    )
    for note in recording.notes:
        say(f"{options.file.name}: {note}")


def command_given(clock: Clock) -> float:
    """When this process started, on `clock`'s monotonic time: what a user waited includes the interpreter's start."""
    process = psutil.Process()
    if (
        platform.system() == "Linux"
    ):  # the boot's wall time is known to a second only, the time since it to a tick
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        return clock.monotonic() - (since_boot - (process.create_time() - psutil.boot_time()))
    return clock.monotonic() - (time.time() - process.create_time())


def check_ports(ports: Ports) -> None:
    """Raises Misconfigured naming each port that another program holds."""
    taken = [
        f"{port} ({name})"
        for name, port in (
            ("NATS", ports.nats),
            ("MQTT", ports.mqtt),
            ("data API", ports.api),
            ("control room", ports.ui),
            ("inference API", ports.inference),
            ("MLflow", ports.mlflow),
        )
        if port is not None and not port_free(port)
    ]
    if taken:
        raise Misconfigured(
            f"taken by another program: port {', '.join(taken)}",
            hint="stop that program, or move with --nats-port, --mqtt-port, --api-port, --ui-port, --inference-port,"
            " --mlflow-port",
        )


def port_free(port: int) -> bool:
    """Whether this machine's loopback port can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def history_marker(data: DataDir) -> Path:
    """A file that says the simulated history has been stored."""
    return data.root / "history-stored"


def has_history(data: DataDir) -> bool:
    """Whether a start before this one stored the history."""
    return history_marker(data).exists()


def say(text: str) -> None:
    """Progress for people, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
