"""One simulated machine: its readings as a pure function of (type, id, seed, interval, episodes, time)."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_sim.episodes import Context, Episode, apply_faults, apply_sensor_faults, drive
from firmware_sim.model import Duty, Inputs, MachineType, SensorFault
from firmware_sim.signals import DAY_S, Array, correlated, generator, lag, schedule, unit_interval
from shared.clock import MICROSECONDS

BLOCK_S: Final = 14_400.0
# Ten of the slowest time constants (160 s thermal, 600 s look-alike pulses are closed form): what a block
# remembers of its start is below a thousandth of a sigma.
WARM_UP_S: Final = 3_600.0
OVERHAUL_S: Final = 180 * DAY_S
_DECIMALS: Final = 4
_BLOCKS_KEPT: Final = 4


class Machine:
    """Readings of one machine on the grid `index * interval_us` since the epoch.

    The same type, id, seed, interval and episodes give the same values at the same times, however
    they are asked for. Not safe for use from several threads.
    """

    def __init__(
        self,
        kind: MachineType,
        machine_id: str,
        *,
        seed: int,
        interval_us: int,
        episodes: Iterable[Episode] = (),
    ) -> None:
        self.kind = kind
        self.id = machine_id
        self.seed = seed
        self.interval_us = interval_us
        self._episodes: tuple[Episode, ...] = ()
        self._dt_s = interval_us / MICROSECONDS
        self._rows = max(1, round(BLOCK_S / self._dt_s))
        self._warm = min(self._rows, round(WARM_UP_S / self._dt_s))
        self._blocks: OrderedDict[int, Array] = OrderedDict()
        for episode in episodes:
            self.inject(episode)

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """What happened and happens to this machine, in order of injection."""
        return self._episodes

    def inject(self, episode: Episode) -> None:
        """Let `episode` happen. Raises Rejected if this type of machine can't have it."""
        episode.check(self.kind)
        self._change((*self._episodes, episode))

    def clear(self, at_us: int) -> None:
        """End every episode that still lasts at `at_us`."""
        self._change(
            tuple(
                replace(episode, end_us=max(at_us, episode.onset_us + 1))
                if episode.end_us is None or episode.end_us > at_us
                else episode
                for episode in self._episodes
            )
        )

    def _change(self, episodes: tuple[Episode, ...]) -> None:
        self._episodes = episodes
        self._blocks.clear()

    def index_at(self, time_us: int) -> int:
        """Index of the first row at or after `time_us`."""
        return -(-time_us // self.interval_us)

    def times_us(self, first: int, count: int) -> NDArray[np.int64]:
        """Event times (count,) in µs of the rows from index `first`, by a right clock."""
        return np.arange(first, first + count, dtype=np.int64) * self.interval_us

    def values(self, first: int, count: int) -> Array:
        """Values (count, S) of the rows from index `first`; NaN where a sensor sent nothing."""
        return self._slice(first, count)

    def skews_us(self, time_us: int) -> dict[str, int]:
        """Sensors whose clock runs late at `time_us`, and by how many µs."""
        late: dict[str, int] = {}
        for number, episode in enumerate(self._episodes):
            if episode.name != SensorFault.CLOCK_SKEW or time_us < episode.onset_us:
                continue
            if episode.end_us is None or time_us < episode.end_us:
                # Off the grid by an amount of its own: a device must not use a timestamp twice.
                odd_us = 1 + (number * 7919) % max(self.interval_us - 1, 1)
                steps = round(episode.delay_s() * MICROSECONDS / self.interval_us)
                late[episode.sensor or self.kind.default_sensor] = steps * self.interval_us + odd_us
        return late

    def _slice(self, first: int, count: int) -> Array:
        parts = []
        while count > 0:
            block, offset = divmod(first, self._rows)
            taken = min(count, self._rows - offset)
            parts.append(self._block(block)[offset : offset + taken])
            first, count = first + taken, count - taken
        if not parts:
            return np.empty((0, len(self.kind.sensors)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _block(self, block: int) -> Array:
        if (known := self._blocks.get(block)) is not None:
            self._blocks.move_to_end(block)
            return known
        made = self._make_block(block)
        made.setflags(write=False)
        self._blocks[block] = made
        if len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return made

    def _make_block(self, block: int) -> Array:
        values, where = self._before_sensor_faults(block)
        held = [self._held(episode, where) for episode in self._episodes]
        apply_sensor_faults(values, self._episodes, held, where)
        return np.round(values, _DECIMALS)

    def _before_sensor_faults(self, block: int) -> tuple[Array, Context]:
        first = block * self._rows
        seconds = np.arange(first - self._warm, first + self._rows, dtype=np.float64) * self._dt_s
        inputs = self._inputs(block, seconds)
        signals = self.kind.physics(inputs)
        values = np.empty((self._rows, len(self.kind.sensors)))
        for column, sensor in enumerate(self.kind.sensors):
            noise = correlated(self._white(block, sensor.name), sensor.noise_tau_s, self._dt_s)
            values[:, column] = (signals[sensor.name] + sensor.sigma * noise)[self._warm :]
        where = Context(self.kind, self.id, self.seed, block, seconds[self._warm :])
        apply_faults(values, self._episodes, inputs.load[self._warm :], where)
        for column, sensor in enumerate(self.kind.sensors):
            if sensor.floor is not None:
                np.maximum(values[:, column], sensor.floor, out=values[:, column])
        return values, where

    def _held(self, episode: Episode, where: Context) -> float | None:
        """The value a stuck sensor holds: its last one before the onset."""
        if episode.name != SensorFault.STUCK or not episode.active(where.seconds).any():
            return None
        block, offset = divmod(self.index_at(episode.onset_us) - 1, self._rows)
        values, _ = self._before_sensor_faults(block)
        name = episode.sensor or self.kind.default_sensor
        return float(values[offset, self.kind.sensor_names.index(name)])

    def _inputs(self, block: int, seconds: Array) -> Inputs:
        ambient = self._ambient(seconds)
        load = self._setpoint("load", self.kind.load, seconds)
        feed = self._setpoint("feed", self.kind.feed, seconds)
        load, ambient = drive(self._episodes, seconds, load, ambient)
        moving = np.minimum(load / 0.2, 1.0)  # the process does not wander while the machine stands
        overhauled = unit_interval(self.seed, self.id, "overhaul") * OVERHAUL_S
        return Inputs(
            dt_s=self._dt_s,
            load=self._follow("load", self.kind.load, load, moving, block),
            feed=self._follow("feed", self.kind.feed, feed, moving, block),
            ambient=ambient,
            wear=np.mod(seconds + overhauled, OVERHAUL_S) / OVERHAUL_S,
        )

    def _setpoint(self, stream: str, duty: Duty, seconds: Array) -> Array:
        phase = unit_interval(self.seed, self.id, f"phase-{stream}")
        return schedule(seconds, duty.levels, duty.dwells_s, phase)

    def _follow(self, stream: str, duty: Duty, setpoint: Array, moving: Array, block: int) -> Array:
        wander = correlated(self._white(block, f"wander-{stream}"), duty.wander_tau_s, self._dt_s)
        followed = lag(setpoint * (1.0 + duty.wander * moving * wander), duty.tau_s, self._dt_s)
        return np.maximum(followed, 0.0)

    def _ambient(self, seconds: Array) -> Array:
        """Hall temperature in degC: warmest at 15:00 UTC, a heating cycle of 47 min, and the weather."""
        turn = 2.0 * np.pi
        weather = unit_interval(self.seed, "site", "weather")
        heating = unit_interval(self.seed, "site", "heating")
        temperature: Array = (
            21.0
            + 1.5 * np.cos(turn * (seconds / DAY_S - 15.0 / 24.0))
            + 1.0 * np.sin(turn * (seconds / 2820.0 + heating))
            + 0.5 * np.sin(turn * (seconds / (3.1 * DAY_S) + weather))
            + 0.5 * np.sin(turn * (seconds / (7.3 * DAY_S) + 2.0 * weather))
        )
        return temperature

    def _white(self, block: int, stream: str) -> Array:
        """White noise (warm-up + block,): the warm-up is the tail of the block before."""
        before = generator(self.seed, self.id, stream, block - 1).standard_normal(self._rows)
        now = generator(self.seed, self.id, stream, block).standard_normal(self._rows)
        return np.concatenate([before[self._rows - self._warm :], now])
