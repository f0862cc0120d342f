"""The edge agent: the wiring of its parts and nothing else.

Devices → intake → outbox → uplink → gateway; beside it scoring, the models' delivery and the reports. It works on
with no uplink and no control plane; each connection comes back by itself.
"""

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from edge.birth import Birth
from edge.commands import Commands
from edge.delivery import Delivery
from edge.flight import Flight
from edge.heartbeat import Heartbeat
from edge.input_limits import InputLimits
from edge.intake import Intake, view_key
from edge.local import LocalBroker, Will, farewell, presence
from edge.lookout import Lookout
from edge.models import SHADOW, ModelFolder
from edge.outbox import Outbox, open_outbox
from edge.outbox_copy import copy_on_request
from edge.reading import MessageReader
from edge.reload import Again, Reload
from edge.renewal import Renewal
from edge.report import Reporter
from edge.scorer import ScoringLoop, obey_maintenance
from edge.scoring import MachineScoring
from edge.settings import EdgeSettings, Mqtt
from edge.uplink import Uplink
from edge.vibration_wiring import VibrationWiring
from shared.clock import Clock, SystemClock
from shared.health import Health, serve_health
from shared.loaded import load_tried
from shared.machine_view import MachineView
from shared.nats import ControlPlane, Timeouts, open_control
from shared.paho import MqttClient, open_mqtt
from shared.service import run_loops, until_stop
from shared.systemd import keep_watchdog

log = structlog.get_logger()

Loop = Callable[[], Awaitable[None]]

_SWITCH_SECONDS: Final = 0.0005
"""How long one thread keeps the others waiting: Python's own 5 ms are half the way from a message to its score."""


async def run(settings: EdgeSettings, stop: asyncio.Event, again: Again | None = None) -> None:
    """Run the agent until `stop`. Raises Misconfigured at start; what a connection lacks is retried for ever."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    clock, registry, health = SystemClock(), CollectorRegistry(), Health()
    async with AsyncExitStack() as stack:
        outbox = await stack.enter_async_context(
            open_outbox(
                settings.outbox_path,
                site=settings.site,
                edge=settings.edge,
                clock=clock,
                max_bytes=settings.buffer.max_bytes,
                anomaly_seconds=settings.buffer.anomaly_seconds,
            )
        )
        await stack.enter_async_context(
            serve_health(
                health,
                registry,
                host=settings.host,
                port=settings.port,
                token=settings.token.get_secret_value(),
            )
        )
        devices = await stack.enter_async_context(
            _mqtt(settings, settings.devices, will=_will(settings, clock))
        )
        uplink = await stack.enter_async_context(_mqtt(settings, settings.uplink))
        control = await stack.enter_async_context(_control(settings))
        commands = Commands(outbox, clock, registry, edge=settings.edge)
        commands.handle("restart", lambda _: _restart(stop))
        reload = Reload(settings, None if again is None else again.read, outbox, clock)
        agent = await build(
            settings, outbox, devices, uplink, control, clock, registry, health, commands, reload
        )
        if again is not None:
            agent["settings"] = partial(reload.reread, again.hangup)
        health.started = True
        log.info(
            "edge agent started", edge=settings.edge, epoch=outbox.epoch.hex(), machines=settings.machines
        )
        await run_loops(
            stop,
            grace=settings.grace_seconds,
            watchdog=lambda: keep_watchdog(stop, lambda: "; ".join(health.problems()) or "working"),
            **{name: until_stop(stop, loop) for name, loop in agent.items()},
        )
        if settings.local_topics:
            await farewell(devices, settings.site, settings.edge, clock)


async def build(
    settings: EdgeSettings,
    outbox: Outbox,
    devices: MqttClient,
    uplink_client: MqttClient,
    control: ControlPlane | None,
    clock: Clock,
    registry: CollectorRegistry,
    health: Health,
    commands: Commands,
    reload: Reload,
) -> dict[str, Loop]:
    """The agent's loops, wired, with what the disk remembers already at work.

    What obeys a command of the cloud registers its handler at `commands` here, what takes a setting over at `reload`.
    """
    edge = settings.edge
    views = {
        machine: MachineView.from_json(await outbox.state(view_key(machine))) for machine in settings.machines
    }
    scoring = {
        machine: MachineScoring(
            edge,
            machine,
            settings.limits.get(machine, {}),
            await outbox.state(machine),
            settings.operating.get(machine),
        )
        for machine in settings.machines
    }
    refusals: dict[str, str] = {}
    limits, reader = _inputs(settings)
    shown = dict(scoring)
    reporter = Reporter(
        outbox,
        views,
        shown,
        refusals,
        clock,
        registry,
        edge=edge,
        version=version("industrialmind"),
        seconds=settings.report_seconds,
        listening=lambda: intake.listening,
        vibration=lambda machine: vibration.loop.report(machine),  # noqa: PLW0108 - it is made below
        left_out=limits.left_out,
    )
    local = LocalBroker(devices, shown, clock, registry, site=settings.site, edge=edge)
    flight = Flight(clock, random.Random(), drain_rows=settings.buffer.drain_rows)  # noqa: S311 - jitter
    uplink = Uplink(uplink_client, outbox, flight, clock, registry, site=settings.site, edge=edge)
    scorer = ScoringLoop(
        outbox,
        scoring,
        clock,
        registry,
        limit=settings.scoring_queue,
        on_change=reporter.change,
        rows_waiting=uplink.rows_waiting,
        tell=lambda machine: vibration.tell(local, machine),
        budget_s=settings.scoring_budget_seconds,
        cpu_share=settings.scoring_cpu_share,
    )
    vibration = VibrationWiring(
        settings,
        outbox,
        views,
        scoring,
        clock,
        registry,
        devices=devices,
        link=uplink_client,
        flight=flight,
        uplink=uplink,
        scorer=scorer,
    )
    intake = Intake(
        devices,
        outbox,
        views,
        clock,
        registry,
        site=settings.site,
        edge=edge,
        batch=settings.receive_batch,
        arrived=vibration.arrived,
        rows_waiting=uplink.rows_waiting,
        waves=vibration.loop.put,
        reader=reader,
    )
    renewal = Renewal(settings.tls, clock, registry, edge=edge)
    folder = ModelFolder(settings.folder / "models")
    running = await _resume(folder, scoring, refusals, clock)
    await uplink.start()
    loops: dict[str, Loop] = {
        "intake": intake.run,
        "cut": uplink.cut,
        "send": uplink.send,
        "acks": uplink.take_acks,
        "link": uplink.watch_link,
        "scoring": scorer.run,
        "waves": vibration.loop.run,
        "waves kept": vibration.loop.send,
        "report": lambda: reporter.run(control),
    }
    if settings.local_topics:
        loops["local"] = local.run
        lookout = Lookout(
            partial(_mqtt, settings, settings.devices),
            devices,
            intake,
            reader,
            scorer,
            scoring,
            shown,
            local,
            clock,
            registry,
            on_change=reporter.change,
        )
        loops["lookout"] = lookout.run
        health.add_check("lookout", lambda: lookout.trouble)
    _reloading(reload, commands, reporter, intake, scorer)
    await reload.resume()
    if control is not None:
        delivery = Delivery(
            control,
            folder,
            outbox,
            views,
            clock,
            edge=edge,
            running=running,
            refusals=refusals,
            load=load_tried,
            install=scorer.install,
            try_out=scorer.try_out,
            on_change=reporter.change,
        )
        loops |= {"desired": delivery.watch, "delivery": delivery.run}
        await commands.resume()
        loops |= {"commands": partial(commands.watch, control), "answers": partial(commands.tell, control)}
        loops["certificate"] = partial(renewal.watch, control)
    health.add_check("outbox", lambda: intake.blocked or outbox.trouble)
    health.add_check("devices", lambda: _trouble(devices, intake))
    birth = Birth(settings, outbox, clock)
    commands.handle("rebirth", lambda _: birth.again(reporter.change))
    commands.handle("maintenance", partial(obey_maintenance, scorer, clock))
    commands.handle("waveform", vibration.loop.request)
    loops["birth"] = birth.run
    heartbeat = Heartbeat(settings.folder, health, reporter, renewal, reload, clock)
    loops["heartbeat"] = heartbeat.run
    loops["copies"] = lambda: copy_on_request(outbox, settings.outbox_path, clock)
    return loops


def _inputs(settings: EdgeSettings) -> tuple[InputLimits, MessageReader]:
    """The sensors' limits, and what reads the devices' messages. Raises Misconfigured."""
    limits = InputLimits()
    for machine, sensors in settings.inputs.items():
        for sensor, each in sensors.items():
            limits.set(machine, sensor, each)
    if settings.mapping is None:
        return limits, MessageReader(settings.site, settings.machines, limits, edge=settings.edge)
    from edge.mapping.inputs import open_mapping  # noqa: PLC0415 - YAML and Sparkplug: 3 MB, where there is one

    plain = f"plant/{settings.site}/"
    mapped = open_mapping(settings.mapping, settings.machines, limits, edge=settings.edge, taken=plain)
    return limits, MessageReader(settings.site, settings.machines, limits, mapped, edge=settings.edge)


def _trouble(devices: MqttClient, intake: Intake) -> str:
    """Why no device is heard, for readiness; empty when the subscription stands."""
    if not devices.connected.is_set():
        return devices.last_error or "not connected yet"
    return "" if intake.listening else "not subscribed yet"


async def _resume(
    folder: ModelFolder, scoring: dict[str, MachineScoring], refusals: dict[str, str], clock: Clock
) -> dict[str, str]:
    """Put the models on disk to work, with no network; machine to the version that runs."""
    running = {}
    for machine, each in scoring.items():
        model, problems = await asyncio.to_thread(folder.load, machine)
        for problem in problems:
            log.warning("a model on disk is passed over", machine=machine, problem=problem)
            refusals[machine] = problem
        if model is not None:
            each.install(model, clock.now_us(), again=True)
            running[machine] = model.desired.sha256
        trial, _ = await asyncio.to_thread(folder.load, machine + SHADOW)
        if trial is not None:
            each.try_out(trial, clock.now_us())
            running[machine + SHADOW] = trial.desired.sha256
    return running


def _reloading(
    reload: Reload, commands: Commands, reporter: Reporter, intake: Intake, scorer: ScoringLoop
) -> None:
    """What may change while the agent runs, and the commands that change it."""
    reload.on("report_seconds", lambda new: reporter.every(new.report_seconds))
    reload.on("receive_batch", lambda new: intake.take_at_most(new.receive_batch))
    reload.on("scoring_queue", lambda new: scorer.queue_at_most(new.scoring_queue))
    commands.handle("settings", lambda wanted: reload.command(wanted.values))
    commands.handle("interval", lambda wanted: reload.command({"report_seconds": wanted.seconds}))


async def _restart(stop: asyncio.Event) -> str:
    """End in order; whoever supervises the agent starts it again."""
    stop.set()
    return "restarting"


def _will(settings: EdgeSettings, clock: Clock) -> Callable[[], Will] | None:
    """What the devices' broker says when this agent is gone without a word."""
    if not settings.local_topics:
        return None
    return partial(presence, settings.site, settings.edge, clock, online=False)


def _mqtt(
    settings: EdgeSettings,
    broker: Mqtt,
    *,
    will: Callable[[], Will] | None = None,
    suffix: str = "",
    clean: bool = False,
) -> contextlib.AbstractAsyncContextManager[MqttClient]:
    return open_mqtt(
        broker.url,
        client_id=broker.client_id + suffix,
        clean=clean,
        username=broker.username,
        password=broker.password.get_secret_value(),
        connect_seconds=settings.connect_seconds,
        will=will,
        tls=(broker.tls or settings.tls).open(),
    )


@asynccontextmanager
async def _control(settings: EdgeSettings) -> AsyncIterator[ControlPlane | None]:
    if not settings.nats_url:
        yield None
        return
    credentials = settings.credentials.get_secret_value() or settings.edge
    timeouts = Timeouts(connect=settings.connect_seconds)
    tls = settings.tls.open()
    async with open_control(
        settings.nats_url, credentials=credentials, timeouts=timeouts, wait=False, tls=tls
    ) as control:
        yield control
