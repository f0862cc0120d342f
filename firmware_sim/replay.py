"""`sim replay`: a recording as a live machine `replay-{id}`, with the recording's own times."""

import asyncio
import math
from dataclasses import dataclass
from typing import Final

import orjson
import structlog

from firmware_sim.app import check_site
from firmware_sim.control import Continue, Control, Emit, emit_to_stdout, parse
from firmware_sim.publishing import (
    BATCH_READINGS,
    Pipeline,
    Publisher,
    batches,
    device_client,
    milliseconds,
    reading,
)
from firmware_sim.readings import Recording
from firmware_sim.recording import read_mapping, read_recording
from firmware_sim.settings import ReplaySettings
from shared.clock import MICROSECONDS, Clock, SystemClock
from shared.errors import Misconfigured, Rejected
from shared.names import REPLAYED, DeviceTopic, check_id, slug
from shared.service import wait_or_stop

__all__ = ["Recording", "machine_of", "read_mapping", "read_recording", "run_replay"]

log = structlog.get_logger()

_IN_FLIGHT: Final = 200
_FIT_IN_FLIGHT: Final = 16
_AHEAD_US: Final = 600 * MICROSECONDS


def machine_of(settings: ReplaySettings) -> str:
    """The machine id of a replay: always `replay-…`. Raises Misconfigured for a name that can't be one."""
    wanted = settings.machine or slug(settings.file.stem)
    name = wanted if wanted.startswith(REPLAYED) else REPLAYED + wanted
    if not settings.machine:
        name = name[:40].strip("-")
    try:
        return check_id(name, "machine")
    except Rejected as error:
        raise Misconfigured(error.reason, hint="give --machine a short id") from error


async def run_replay(
    settings: ReplaySettings,
    stop: asyncio.Event,
    control: Control | None = None,
    *,
    emit: Emit = emit_to_stdout,
    clock: Clock | None = None,
) -> None:
    """Replay the file to its end, or until `stop`.

    The first `fit_rows` go as batches; then a control line `{"continue": true}` is awaited. The rest goes row by
    row, in order of time, at `speed` times the recording's own pace.

    Raises:
        Misconfigured: No such file, or settings that don't fit it.
        Rejected: The file can't be a recording.
    """
    machine = machine_of(settings)
    recording = await asyncio.to_thread(
        read_recording,
        settings.file,
        interval_s=settings.interval_s,
        mapping=settings.mapping,
        keep_columns=settings.keep_columns,
    )
    for note in recording.notes:
        log.warning("recording", file=settings.file.name, note=note)
    clock = clock or SystemClock()
    if int(recording.times_us[-1]) > clock.now_us() + _AHEAD_US:
        raise Rejected(f"{settings.file.name} has times in the future; readings from there are refused")
    async with device_client(settings) as client:
        topics = tuple(str(DeviceTopic(check_site(settings.site), machine, s)) for s in recording.sensors)
        replay = _Replay(recording, topics, client, clock, stop)
        fit = min(settings.fit_rows, len(recording.times_us))
        if fit:
            sent = await replay.send_fit(fit)
            last_ts = milliseconds(int(recording.times_us[fit - 1]))
            emit(
                {
                    "event": "fit-part-sent",
                    "machine": machine,
                    "rows": fit,
                    "readings": sent,
                    "last_ts": last_ts,
                }
            )
            await _told_to_continue(control, stop)
        sent = await replay.stream(fit, settings.speed)
        if not stop.is_set():
            rows = len(recording.times_us) - fit
            last_ts = milliseconds(int(recording.times_us[-1]))
            emit(
                {"event": "replayed", "machine": machine, "rows": rows, "readings": sent, "last_ts": last_ts}
            )


@dataclass(frozen=True, slots=True)
class _Replay:
    recording: Recording
    topics: tuple[str, ...]
    publisher: Publisher
    clock: Clock
    stop: asyncio.Event

    async def send_fit(self, rows: int) -> int:
        """The first rows as batches; returns how many readings were confirmed."""
        sent = 0
        async with Pipeline(self.publisher, _FIT_IN_FLIGHT) as pipeline:
            for first in range(0, rows, BATCH_READINGS):
                part = slice(first, min(first + BATCH_READINGS, rows))
                times_us = self.recording.times_us[part].tolist()
                for column, topic in enumerate(self.topics):
                    values = self.recording.values[part, column].tolist()
                    for readings, payload in batches(times_us, values, self.recording.units[column]):
                        await pipeline.send(topic, payload)
                        sent += readings
        return sent

    async def stream(self, first: int, speed: float) -> int:
        """The other rows one by one; returns how many readings were confirmed."""
        sent = 0
        times_us = self.recording.times_us[first:].tolist()
        started = self.clock.monotonic()
        async with Pipeline(self.publisher, _IN_FLIGHT) as pipeline:
            for row, time_us in enumerate(times_us, start=first):
                if speed:
                    due = started + (time_us - times_us[0]) / MICROSECONDS / speed
                    await wait_or_stop(self.stop, max(due - self.clock.monotonic(), 0.0))
                if self.stop.is_set():
                    break
                for column, value in enumerate(self.recording.values[row].tolist()):
                    if not math.isnan(value):
                        one = reading(time_us, value, self.recording.units[column])
                        await pipeline.send(self.topics[column], orjson.dumps(one))
                        sent += 1
        return sent


async def _told_to_continue(control: Control | None, stop: asyncio.Event) -> None:
    """Return on `{"continue": true}`, when nobody can say it any more, or on `stop`."""

    async def listen() -> None:
        if control is None:
            return
        async for line in control:
            try:
                told = parse(line)
            except Rejected as error:
                log.warning("control line ignored", problem=error.reason)
                continue
            if isinstance(told, Continue):
                return
            log.warning("control line ignored", problem="a recording takes no faults")

    listening = asyncio.create_task(listen())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            listening.result()
    finally:
        listening.cancel()
        stopping.cancel()
        await asyncio.gather(listening, stopping, return_exceptions=True)
