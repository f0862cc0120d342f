"""Comparing the store's readings with what the log says it should hold: by machine-hour, then row by row."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.ledger.report import MAX_IDENTITIES, Finding, What
from cloud.ledger.workspace import Tally, Workspace, add_tallies, subtract
from cloud.telemetry.port import Columns, Source, TelemetryReader
from shared.checksum import HOUR_US, row_hashes, sensor_seed, tally
from shared.events import at as moment

Mask = Callable[[Columns], NDArray[np.bool_]]
Cell = tuple[float, int, str]
"""Value, quality, unit."""

_ADVICE: Final[dict[What, str]] = {
    "missing": "the log has them and the store does not: industrialmind rebuild telemetry; nothing is lost",
    "doubled": "the store has readings that the log does not: someone wrote to its file: industrialmind rebuild telemetry",
    "altered": "the store's values are not the log's: someone wrote to its file: industrialmind rebuild telemetry",
}


@dataclass(frozen=True, slots=True)
class HourDifference:
    """A machine-hour in which the store is not what the log says. `excess` is store less log."""

    machine: str
    hour: int
    excess: Tally
    findings: tuple[Finding, ...]


class StoreComparison:
    """One pass over each machine; memory: a chunk, a machine's hours, and the rows of one differing hour.

    What the store says has expired is not compared; `expired` counts the log's readings of it by that time.
    """

    def __init__(self, work: Workspace, store: TelemetryReader, counted: Mask) -> None:
        self.rows = 0
        self.machine_hours = 0
        self.expired: dict[int, int] = {}
        self._work = work
        self._store = store
        self._counted = counted

    async def compare(self, machine: str) -> list[HourDifference]:
        """The hours that differ, each with its rows named."""
        gone = await self._store.expired_us(machine)
        expected = await asyncio.to_thread(self._expected, machine, gone)
        found: dict[int, Tally] = {}
        async for part in self._store.columns(machine, from_us=gone):
            mask = self._counted(part)
            self.rows += int(mask.sum())
            _merge(found, tally(part.time_us[mask], _hashes(machine, part)[mask]))
        self.machine_hours += len(expected.keys() | found.keys())
        different = []
        for hour in sorted(expected.keys() | found.keys()):
            excess = subtract(found.get(hour, (0, 0)), expected.get(hour, (0, 0)))
            if excess != (0, 0):
                findings = await self._name(machine, hour)
                if findings:
                    different.append(HourDifference(machine, hour, excess, findings))
        return different

    def _expected(self, machine: str, gone: int) -> dict[int, Tally]:
        """The log's hours that are in the store still. Readings expire in whole hours."""
        sums: dict[int, Tally] = {}
        for part in self._work.expected(machine):
            seeds = _seeds(machine, part.sensor, part.units)
            _merge(
                sums,
                tally(part.time_us, row_hashes(seeds[part.unit], part.time_us, part.value, part.quality)),
            )
        old = [hour for hour in sums if (hour + 1) * HOUR_US <= gone]
        if old:
            self.expired[gone] = self.expired.get(gone, 0) + sum(sums.pop(hour)[0] for hour in old)
        return sums

    async def _name(self, machine: str, hour: int) -> tuple[Finding, ...]:
        should = dict(await asyncio.to_thread(lambda: list(self._cells(machine, hour))))
        has: dict[tuple[str, int], Cell] = {}
        excused: set[tuple[str, int]] = set()
        origins: dict[tuple[str, int], Source] = {}
        async for part in self._store.columns(machine, None, hour * HOUR_US, (hour + 1) * HOUR_US):
            counted = self._counted(part).tolist()
            for n in range(len(part)):
                key = (part.sensors[part.sensor[n]], int(part.time_us[n]))
                if counted[n]:
                    has[key] = (float(part.value[n]), int(part.quality[n]), part.units[part.unit[n]])
                    origins[key] = part.sources[part.source[n]]
                else:
                    excused.add(key)
        kinds: dict[What, list[tuple[str, int]]] = {
            "missing": sorted(should.keys() - has.keys() - excused),
            "doubled": sorted(has.keys() - should.keys()),
            "altered": sorted(key for key in has.keys() & should.keys() if has[key] != should[key]),
        }
        return tuple(
            Finding(
                stage="store",
                what=what,
                edge=origins[keys[0]].edge if keys[0] in origins else "",
                machine=machine,
                hour=hour,
                rows=len(keys),
                identities=tuple(
                    f"{machine}/{sensor} at {moment(time_us).isoformat()}"
                    for sensor, time_us in keys[:MAX_IDENTITIES]
                ),
                advice=_ADVICE[what],
            )
            for what, keys in kinds.items()
            if keys
        )

    def _cells(self, machine: str, hour: int) -> Iterator[tuple[tuple[str, int], Cell]]:
        for part in self._work.expected(machine, hour):
            for time_us, value, quality, unit in zip(
                part.time_us.tolist(),
                part.value.tolist(),
                part.quality.tolist(),
                part.unit.tolist(),
                strict=True,
            ):
                yield (part.sensor, time_us), (value, quality, part.units[unit])


def _hashes(machine: str, part: Columns) -> NDArray[np.uint64]:
    """Fingerprints of the store's rows, made here and not by the store."""
    hashes = np.empty(len(part), np.uint64)
    for index, sensor in enumerate(part.sensors):
        chosen = part.sensor == index
        seeds = _seeds(machine, sensor, part.units)[part.unit[chosen]]
        hashes[chosen] = row_hashes(seeds, part.time_us[chosen], part.value[chosen], part.quality[chosen])
    return hashes


def _seeds(machine: str, sensor: str, units: Sequence[str]) -> NDArray[np.uint64]:
    return np.array([sensor_seed(machine, sensor, unit) for unit in units], np.uint64)


def _merge(sums: dict[int, Tally], more: dict[int, Tally]) -> None:
    for hour, one in more.items():
        sums[hour] = add_tallies(sums.get(hour, (0, 0)), one)
