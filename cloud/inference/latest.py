"""The newest rows of a machine that its model's windows depend on, from the telemetry store."""

from typing import Final

import numpy as np

from cloud.inference.logic import reach_us
from cloud.telemetry.port import Columns, TelemetryReader
from shared.errors import NotFound, Rejected
from shared.frames import Readings
from shared.manifest import Manifest

MOST_ROWS: Final = 1_000_000


async def latest_rows(
    store: TelemetryReader, machine: str, manifest: Manifest, most: int
) -> tuple[Readings, dict[str, str]]:
    """Rows of the model's sensors, in order of time, and the unit of each sensor that the machine has.

    Raises NotFound (none of them ever spoke), Rejected (more than a million rows in that time), Unavailable.
    """
    newest = await store.latest(machine)
    units = {each.sensor: each.unit for each in newest}
    mine = [each for each in newest if each.sensor in manifest.sensor_names]
    if not mine:
        raise NotFound(f"the store has no readings of {machine!r} that its model reads")
    to_us = max(each.time_us for each in mine) + 1
    parts: list[Columns] = []
    rows = 0
    names = [each.sensor for each in mine]
    async for part in store.columns(machine, names, to_us - reach_us(manifest, most), to_us):
        rows += len(part)
        if rows > MOST_ROWS:
            raise Rejected(f"{machine!r} has more than {MOST_ROWS} rows in its newest {most} windows")
        parts.append(part)
    return joined(parts), units


def joined(parts: list[Columns]) -> Readings:
    """The columns as readings; a sensor's unit is part of its key, as in a frame."""
    keys: dict[tuple[str, str], int] = {}
    index = []
    for part in parts:
        pairs = part.sensor * max(len(part.units), 1) + part.unit
        codes, inverse = np.unique(pairs, return_inverse=True)
        width = max(len(part.units), 1)
        numbers = [
            keys.setdefault((part.sensors[code // width], part.units[code % width]), len(keys))
            for code in codes.tolist()
        ]
        index.append(np.array(numbers, np.int64)[inverse])
    return Readings(
        tuple(name for name, _ in keys),
        tuple(unit for _, unit in keys),
        np.concatenate(index or [np.zeros(0, np.int64)]),
        np.concatenate([part.time_us for part in parts] or [np.zeros(0, np.int64)]),
        np.concatenate([part.arrival_us for part in parts] or [np.zeros(0, np.int64)]),
        np.concatenate([part.value for part in parts] or [np.zeros(0)]),
        np.concatenate([part.quality for part in parts] or [np.zeros(0, np.uint8)]),
    )
