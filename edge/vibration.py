"""Waveform blocks at the edge: taken from the devices' broker, turned into readings and events, kept raw where wanted.

A block is acknowledged once its figures are committed in the outbox and, if the raw block is kept, it stands on disk. Figures
go the way of all readings: commit, view, scores, uplink. At most `MAX_WAITING` blocks wait; then the intake waits with them.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from edge.intake import view_key
from edge.outbox import Outbox
from edge.vibration_point import PointState, Told, VibrationPoint
from edge.vibration_settings import Point, Vibration
from edge.vibration_speed import Speeds
from edge.vibration_store import WaveStore
from edge.vibration_zones import Boundaries, read_limits
from shared import commands
from shared.clock import Clock
from shared.dead_letter import DeadLetter
from shared.errors import Misconfigured, Rejected, Unavailable
from shared.frames import Kind, Readings, Records
from shared.machine_view import MachineView
from shared.names import WaveTopic
from shared.packing import Item
from shared.paho import MqttMessage
from shared.wave import KeptWave, Wave, Why, decode_wave

log = structlog.get_logger()

MAX_WAITING: Final = 16
MAX_POINTS: Final = 64
"""Vibration sensors a machine, at most; blocks of others are dead letters."""
NEWEST_US: Final = 600_000_000
"""At an alarm the newest block is kept if it is no older than this, and the next one in any case."""
_LOOK_SECONDS: Final = 0.5

T = TypeVar("T")
Key = tuple[str, str]
Condition = Callable[[str, int], str | None]
"""Names a machine's steady state at a time; empty where it is not steady, None where nobody taught its states."""


@dataclass(frozen=True, slots=True)
class _Block:
    wave: Wave
    payload: bytes
    arrival_us: int


class VibrationLoop:
    """All vibration sensors of an edge."""

    def __init__(
        self,
        settings: Vibration,
        outbox: Outbox,
        views: Mapping[str, MachineView],
        clock: Clock,
        registry: CollectorRegistry,
        *,
        site: str,
        edge: str,
        folder: Path,
        ack: Callable[[Sequence[MqttMessage]], None],
        committed: Callable[[str, Readings], None],
        rows_waiting: Callable[[], None],
        room: Callable[[], bool],
        condition: Condition,
    ) -> None:
        self._settings, self._outbox, self._views, self._clock = settings, outbox, views, clock
        self._site, self._edge = site, edge
        self._ack, self._committed, self._rows_waiting = ack, committed, rows_waiting
        self._room, self._condition = room, condition
        self._limits = _limits_of(settings)
        self._store = WaveStore(folder, quota_bytes=settings.quota_bytes)
        self._disk = asyncio.Lock()
        self._alarms: dict[str, frozenset[str]] = {}
        self._raised: set[str] = set()
        self._queue: asyncio.Queue[MqttMessage] = asyncio.Queue(MAX_WAITING)
        self._points: dict[Key, VibrationPoint] = {}
        self._newest: dict[Key, _Block] = {}
        self._wanted: dict[Key, Why] = {}
        self._speeds = {machine: Speeds(_speed_sensors(settings, machine)) for machine in views}
        self._taken = Counter("im_edge_waves", "Waveform blocks taken", registry=registry)
        self._rejects = Counter(
            "im_edge_wave_rejects", "Waveform blocks that became dead letters", registry=registry
        )
        self._let_go = Counter(
            "im_edge_waves_let_go", "Raw blocks not kept, or given up, for the quota", registry=registry
        )
        self._kept = Gauge("im_edge_waves_kept_bytes", "Raw blocks on disk, not sent yet", registry=registry)
        self._seconds = Histogram(
            "im_edge_wave_seconds",
            "From a block's turn to its figures",
            registry=registry,
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
        )

    async def put(self, messages: Sequence[MqttMessage]) -> None:
        """Blocks as they arrived; waits while `MAX_WAITING` wait."""
        for message in messages:
            await self._queue.put(message)

    def seen(self, machine: str, readings: Readings) -> None:
        """Readings of devices, for the speeds among them."""
        self._speeds[machine].take(readings)

    def alarms(self, machine: str, ids: frozenset[str]) -> None:
        """What is on at the machine. For one that is new each sensor's newest block is kept, and its next one."""
        if ids - self._alarms.get(machine, frozenset()):
            self._raised.add(machine)
        self._alarms[machine] = ids

    async def _keep_raised(self) -> None:
        now_us = self._clock.now_us()
        raised, self._raised = self._raised, set()
        for key, block in list(self._newest.items()):
            if key[0] in raised:
                self._wanted[key] = Why.ALARM
                if block.wave.time_us >= now_us - NEWEST_US:
                    await self._keep(key, block, Why.ALARM)

    async def request(self, wanted: commands.Waveform) -> str:
        """Carry out the cloud's command: keep the next block. Raises Rejected."""
        if wanted.machine not in self._views:
            raise Rejected(f"{wanted.machine} is not a machine of this edge")
        keys = [key for key in self._points if key[0] == wanted.machine and wanted.sensor in {"", key[1]}]
        if not keys:
            raise Rejected(f"no waveform has come from {wanted.sensor or 'any sensor'} of {wanted.machine}")
        for key in keys:
            self._wanted[key] = max(self._wanted.get(key, Why.REQUEST), Why.REQUEST)
        return "the next block of " + ", ".join(sensor for _, sensor in sorted(keys)) + " is kept and sent"

    def report(self, machine: str) -> dict[str, Any]:
        """What is known of the machine's vibration sensors, for the state report."""
        return {key[1]: point.report() for key, point in self._points.items() if key[0] == machine}

    async def run(self) -> None:
        """Take blocks for ever."""
        while True:
            message = await self._queue.get()
            try:
                await self._take(message)
            except Rejected as error:
                await self._refuse(message, error.reason)
            self._ack([message])
            self._rows_waiting()

    async def send(self) -> None:
        """Move kept blocks into the outbox for ever, one by one, while the uplink has room."""
        moved = await self._outbox.state(_MOVED)
        if moved:
            self._store.done(moved.decode())
        while True:
            await self._keep_raised()
            found = await self._on_disk(self._store.next) if self._room() else None
            if found is None:
                await self._clock.sleep(_LOOK_SECONDS)
                continue
            kept, data = found
            item = Item(kept.machine, Kind.WAVE, Records((data,)))
            await self._commit([item], {_MOVED: kept.name.encode()})
            await self._on_disk(partial(self._store.done, kept.name))
            self._kept.set(self._store.used)
            self._rows_waiting()
            await self._clock.sleep(self._settings.send_seconds)

    async def _take(self, message: MqttMessage) -> None:
        """Figures and events of one block, committed; the raw block on disk before that if it is to be kept."""
        now_us = self._clock.now_us()
        topic = WaveTopic.parse(message.topic)
        if topic.site != self._site or topic.machine not in self._views:
            raise Rejected(f"{topic.machine} of {topic.site} is not this edge's machine")
        wave = decode_wave(message.payload, now_us=now_us)
        key = (topic.machine, topic.sensor)
        point = await self._point(key)
        started = self._clock.monotonic()
        first = point.first_of_day(wave)
        speed = self._speeds[topic.machine].during(wave, self._told(key))
        condition = self._condition(topic.machine, wave.time_us)
        if condition is None:  # nobody taught the machine's states: a speed that holds is all that is known
            condition = "" if speed.hz is None else f"speed {_band(speed.hz)}"
        told = await asyncio.to_thread(point.take, wave, speed, condition, now_us)
        self._seconds.observe(self._clock.monotonic() - started)
        block = self._newest[key] = _Block(wave, message.payload, now_us)
        why = self._wanted.pop(key, Why.DAY if first else None)
        if told.alarm:
            why = Why.ALARM
        if why is not None:
            await self._keep(key, block, why)
        await self._tell(key, point, told)

    async def _tell(self, key: Key, point: VibrationPoint, told: Told) -> None:
        machine, sensor = key
        view, state = self._views[machine], {_state_key(machine, sensor): point.state.encode()}
        before = view.shape
        view.take(told.readings)
        if view.shape != before:
            state[view_key(machine)] = view.to_json()
        items = [Item(machine, Kind.READINGS, told.readings)]
        if told.events:
            records = Records(tuple(event.to_json() for event in told.events))
            items.append(Item(machine, Kind.EVENT, records, urgent=True))
            log.info(
                "vibration", machine=machine, sensor=sensor, events=[event.type for event in told.events]
            )
        await self._commit(items, state)
        self._taken.inc()
        self._committed(machine, told.readings)

    async def _refuse(self, message: MqttMessage, reason: str) -> None:
        letter = DeadLetter.of(
            reason, message.topic, message.payload, source=self._edge, received_us=self._clock.now_us()
        )
        parts = message.topic.split("/")
        machine = parts[2] if parts[2:] and parts[2] in self._views else ""
        await self._commit([Item(machine, Kind.REJECT, Records((letter.encode(),)))], {})
        self._rejects.inc()

    async def _point(self, key: Key) -> VibrationPoint:
        """The sensor's state, as it was before a restart. Raises Rejected for one sensor too many."""
        found = self._points.get(key)
        if found is None:
            machine, sensor = key
            if sum(other == machine for other, _ in self._points) >= MAX_POINTS:
                raise Rejected(f"{machine} has {MAX_POINTS} vibration sensors already")
            state = PointState.decode(await self._outbox.state(_state_key(machine, sensor)))
            point = self._told(key)
            limits = self._limits.get(point.machine_class)
            found = self._points[key] = VibrationPoint(self._edge, machine, sensor, point, limits, state)
        return found

    def _told(self, key: Key) -> Point:
        """What a person entered for the sensor."""
        return self._settings.points.get(key[0], {}).get(key[1], _NOTHING)

    async def _keep(self, key: Key, block: _Block, why: Why) -> None:
        """On disk, however long the disk is full; then its message waits, and with it the device."""
        kept = KeptWave(key[1], why, block.arrival_us, block.payload)
        before = self._store.let_go
        keep = partial(self._store.keep, key[0], block.wave.time_us, kept)
        await self._until(lambda: self._on_disk(keep))
        self._let_go.inc(self._store.let_go - before)
        self._kept.set(self._store.used)

    async def _on_disk(self, work: Callable[[], T]) -> T:
        async with self._disk:
            return await asyncio.to_thread(work)

    async def _commit(self, items: list[Item], state: Mapping[str, bytes]) -> None:
        await self._until(lambda: self._outbox.append(items, state))

    async def _until(self, work: Callable[[], Any]) -> None:
        while True:
            try:
                await work()
            except Unavailable as error:
                log.warning("a waveform waits", reason=str(error))
                await self._clock.sleep(error.retry_after)
            else:
                return


_MOVED: Final = "wave-moved"
_NOTHING: Final = Point()


def _state_key(machine: str, sensor: str) -> str:
    return f"wave/{machine}/{sensor}"


def _band(hz: float) -> str:
    """Speeds within some ten per cent are one operating condition."""
    width = 1.1
    low = 1.0
    while low * width <= hz:
        low *= width
    return f"{low * 60:.0f} rpm"


def _speed_sensors(settings: Vibration, machine: str) -> frozenset[str]:
    points = settings.points.get(machine, {}).values()
    return frozenset(point.speed_sensor for point in points if point.speed_sensor)


def _limits_of(settings: Vibration) -> Mapping[str, Boundaries]:
    """The table of classes, with all that points name in it. Raises Misconfigured."""
    table = read_limits(settings.limits_file)
    for machine, points in settings.points.items():
        for sensor, point in points.items():
            if point.machine_class and point.machine_class not in table:
                raise Misconfigured(
                    f"no vibration class {point.machine_class!r} for {machine}/{sensor}",
                    hint=f"there are {', '.join(table)}",
                )
    return table
