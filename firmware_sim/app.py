"""`sim run`: simulated machines publishing live over MQTT, with history behind and faults on demand."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson
import structlog

from firmware_sim.control import Clear, Continue, Control, Emit, Inject, emit_to_stdout, parse
from firmware_sim.episodes import Episode
from firmware_sim.machine import Machine
from firmware_sim.machines import machine_type
from firmware_sim.publishing import (
    BATCH_READINGS,
    Pipeline,
    Publisher,
    batches,
    device_client,
    milliseconds,
    reading,
)
from firmware_sim.settings import SimSettings
from firmware_sim.wave_blocks import SENSOR, block
from shared.clock import MICROSECONDS, Clock, SystemClock
from shared.errors import Misconfigured, Rejected
from shared.names import DeviceTopic, WaveTopic, check_id
from shared.service import run_loops, wait_or_stop

log = structlog.get_logger()

LIVE_IN_FLIGHT: Final = 200
HISTORY_IN_FLIGHT: Final = 4  # so that history never stands in the way of live readings
# Up to so many overdue rows go one by one in order of time; more go as batches a sensor.
_OVERDUE_ROWS: Final = 60
_CATCH_UP_S: Final = 0.25
_GRACE_S: Final = 3.0


def parse_machines(specs: tuple[str, ...]) -> dict[str, str]:
    """Machine id to type from `ID:TYPE`. Raises Misconfigured."""
    machines: dict[str, str] = {}
    for spec in specs:
        machine, _, kind = spec.partition(":")
        machine_type(kind)
        try:
            check_id(machine, "machine")
        except Rejected as error:
            raise Misconfigured(error.reason, hint="name machines like pump-01:centrifugal-pump") from error
        if machine in machines:
            raise Misconfigured(f"machine {machine!r} is there twice", hint="give each an id of its own")
        machines[machine] = kind
    if not machines:
        raise Misconfigured(
            "no machine to simulate", hint="name at least one, such as pump-01:centrifugal-pump"
        )
    return machines


async def run(
    settings: SimSettings,
    stop: asyncio.Event,
    control: Control | None = None,
    *,
    emit: Emit = emit_to_stdout,
    clock: Clock | None = None,
) -> None:
    """Publish until `stop`. Raises Misconfigured for settings that can't work.

    Live readings start at once; history (oldest first, in batches) goes on behind them, and both meet without a gap
    and without a doubled timestamp. With `speed` above 1 there is one stream that starts in the past and catches up.
    """
    async with device_client(settings) as client:
        plant = Plant(settings, client, emit, clock or SystemClock())

        async def listen() -> None:
            if control is not None:
                async for line in control:
                    plant.obey(line)
            await stop.wait()

        async def history() -> None:
            if settings.backfill_hours and settings.speed == 1:
                await plant.backfill(stop)
            await stop.wait()

        await run_loops(
            stop,
            grace=_GRACE_S,
            live=lambda: plant.live(stop),
            waves=lambda: plant.waves(stop),
            history=history,
            control=listen,
        )


@dataclass(frozen=True, slots=True)
class _Stream:
    """Simulated time: `first_us` at wall time `started_us`, `speed` times as fast, never past the wall."""

    first_us: int
    started_us: int
    speed: float

    def at(self, now_us: int) -> int:
        return min(now_us, self.first_us + int((now_us - self.started_us) * self.speed))


class Plant:
    """All simulated machines of one process, on one grid of time."""

    def __init__(self, settings: SimSettings, publisher: Publisher, emit: Emit, clock: Clock) -> None:
        self._settings = settings
        self._publisher = publisher
        self._emit = emit
        self._clock = clock
        self._kinds = parse_machines(settings.machines)
        self._site = check_site(settings.site)
        self._interval_us = round(settings.interval_s * MICROSECONDS)
        self._machines = self._make()
        now_us = clock.now_us()
        back_us = round(settings.backfill_hours * 3600 * MICROSECONDS)
        self._stream = _Stream(now_us - back_us if settings.speed > 1 else now_us, now_us, settings.speed)
        self._next = self._first = -(-self._stream.first_us // self._interval_us)
        self._oldest = -(-(now_us - back_us) // self._interval_us)

    def _make(self) -> Mapping[str, Machine]:
        return {
            machine: Machine(
                machine_type(kind), machine, seed=self._settings.seed, interval_us=self._interval_us
            )
            for machine, kind in self._kinds.items()
        }

    async def live(self, stop: asyncio.Event) -> None:
        """Publish every row as it becomes due. After an outage the overdue rows come first, none is left out."""
        caught_up = False
        async with Pipeline(self._publisher, LIVE_IN_FLIGHT) as pipeline:
            while not stop.is_set():
                now_us = self._clock.now_us()
                due = self._stream.at(now_us) // self._interval_us - self._next + 1
                behind = self._stream.at(now_us) < now_us
                if due <= 0:
                    wait_s = (self._next * self._interval_us - now_us) / MICROSECONDS
                    await wait_or_stop(stop, _CATCH_UP_S if behind else max(wait_s, 0.0))
                    continue
                count = min(due, BATCH_READINGS)
                first, self._next = self._next, self._next + count
                if behind or count > _OVERDUE_ROWS:
                    await self._send_batches(pipeline, self._machines, first, count)
                else:
                    for row in range(first, first + count):
                        await self._send_row(pipeline, row, overdue=row < first + due - 1)
                await pipeline.drain()
                if not caught_up and self._next > self._clock.now_us() // self._interval_us - 1:
                    caught_up = True
                    self._emit({"event": "live", "at": milliseconds((self._next - 1) * self._interval_us)})

    async def waves(self, stop: asyncio.Event) -> None:
        """Publish a waveform block of each machine every `wave_s` seconds of wall time; it ends a moment ago."""
        every_us = round(self._settings.wave_s * MICROSECONDS)
        count, rate_hz = self._settings.wave_samples, self._settings.wave_rate_hz
        while every_us and not stop.is_set():
            now_us = self._clock.now_us()
            if await wait_or_stop(stop, (every_us - now_us % every_us) / MICROSECONDS):
                break
            first_us = self._clock.now_us() - round(count / rate_hz * MICROSECONDS)
            for name, machine in self._machines.items():
                data = await asyncio.to_thread(block, machine, first_us, count=count, rate_hz=rate_hz)
                await self._publisher.publish(str(WaveTopic(self._site, name, SENSOR)), data)
        await stop.wait()

    async def backfill(self, stop: asyncio.Event) -> None:
        """Publish what lies between `backfill_hours` ago and the first live row."""
        machines = (
            self._make()
        )  # its own machines: they are computed in a thread, and no fault is in the past
        rows = 0
        async with Pipeline(self._publisher, HISTORY_IN_FLIGHT) as pipeline:
            for first in range(self._oldest, self._first, BATCH_READINGS):
                if stop.is_set():
                    return
                count = min(BATCH_READINGS, self._first - first)
                await asyncio.to_thread(_warm, machines, first, count)
                rows += await self._send_batches(pipeline, machines, first, count)
        self._emit({"event": "backfilled", "rows": rows})

    def obey(self, line: bytes) -> None:
        """Carry out one control line; one that can't be carried out is logged and changes nothing."""
        try:
            match parse(line):
                case Inject() as told:
                    self._inject(told)
                case Clear(machine):
                    at_us = self._next * self._interval_us
                    self._machine(machine).clear(at_us)
                    self._emit({"event": "cleared", "machine": machine, "at": milliseconds(at_us)})
                case Continue():
                    _ignored(line, "there is no replay to continue here")
        except Rejected as error:
            _ignored(line, error.reason)

    def _inject(self, told: Inject) -> None:
        machine = self._machine(told.machine)
        onset_us = self._next * self._interval_us
        end_us = None if told.duration_s is None else onset_us + round(told.duration_s * MICROSECONDS)
        machine.inject(Episode(told.name, told.severity, onset_us, end_us, told.ramp_s, told.sensor))
        self._emit(
            {
                "event": "fault",
                "machine": told.machine,
                "fault": told.name,
                "severity": told.severity,
                "sensors": list(machine.kind.first_sensors(told.name, told.sensor)),
                "at": milliseconds(onset_us),
            }
        )

    def _machine(self, name: str) -> Machine:
        if (machine := self._machines.get(name)) is not None:
            return machine
        raise Rejected(f"no machine {name[:60]!r}; there are {', '.join(self._machines)}")

    def _topic(self, machine: str, sensor: str) -> str:
        return str(DeviceTopic(self._site, machine, sensor))

    async def _send_row(self, pipeline: Pipeline, row: int, *, overdue: bool) -> None:
        """One message a reading. An overdue one is a batch of one: nobody may measure a clock by it."""
        time_us = row * self._interval_us
        for name, machine in self._machines.items():
            skews = machine.skews_us(time_us)
            values = machine.values(row, 1)[0].tolist()
            for sensor, value in zip(machine.kind.sensors, values, strict=True):
                if value != value:  # noqa: PLR0124 - NaN: the sensor sent nothing
                    continue
                one = reading(time_us - skews.get(sensor.name, 0), value, sensor.unit)
                await pipeline.send(self._topic(name, sensor.name), orjson.dumps([one] if overdue else one))

    async def _send_batches(
        self, pipeline: Pipeline, machines: Mapping[str, Machine], first: int, count: int
    ) -> int:
        """Rows first … first + count - 1 of all machines; returns how many readings that is."""
        sent = 0
        for name, machine in machines.items():
            values = machine.values(first, count)
            times_us = machine.times_us(first, count).tolist()
            skews = [machine.skews_us(time_us) for time_us in times_us] if machine.episodes else []
            for column, sensor in enumerate(machine.kind.sensors):
                stamps = times_us
                if any(sensor.name in late for late in skews):
                    late_us = (late.get(sensor.name, 0) for late in skews)
                    stamps = [t - late for t, late in zip(times_us, late_us, strict=True)]
                for readings, payload in batches(stamps, values[:, column].tolist(), sensor.unit):
                    await pipeline.send(self._topic(name, sensor.name), payload)
                    sent += readings
        return sent


def check_site(site: str) -> str:
    """The site if it is an id. Raises Misconfigured."""
    try:
        return check_id(site, "site")
    except Rejected as error:
        raise Misconfigured(error.reason, hint="name the site like plant-1") from error


def _ignored(line: bytes, problem: str) -> None:
    log.warning("control line ignored", problem=problem, line=line[:200].decode(errors="replace"))


def _warm(machines: Mapping[str, Machine], first: int, count: int) -> None:
    for machine in machines.values():
        machine.values(first, count)
