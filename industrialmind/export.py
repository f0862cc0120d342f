"""`industrialmind export`: a range of readings as Parquet files, one a machine and day, from the telemetry store."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cloud.telemetry.port import Columns, TelemetryReader, open_store
from industrialmind.backup_file import sync_folder
from industrialmind.plant import DataDir
from shared.errors import Misconfigured, NotFound, Unavailable
from shared.events import at
from shared.frames import Quality

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK: Final = 100_000
"""Rows at once: what an export takes of memory is a few times as many columns."""
SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
_QUALITIES: Final = tuple(quality.name.lower() for quality in sorted(Quality))

Told = Callable[[int, int], None]


@dataclass(slots=True)
class Exported:
    """What was written."""

    machines: int = 0
    files: int = 0
    rows: int = 0
    paths: list[str] = field(default_factory=list)


async def run_export(
    root: Path, out: Path, machines: Sequence[str], from_us: int, to_us: int, phase: Callable[[str], Told]
) -> Exported:
    """Export what the store of `root` has in [from, to), as of one moment, whether the plant runs or not.

    Raises NotFound (no readings, no such machine), Misconfigured (`out` is not empty), Unavailable.
    """
    data = DataDir(root)
    if not data.telemetry.exists():
        raise NotFound(f"{root} holds no readings yet: run industrialmind up")
    check_empty(out)
    async with open_store(data.telemetry_url, read_only=True) as store, store.snapshot() as reader:
        known = sorted({one.machine for one in await reader.series()})
        missing = sorted(set(machines) - set(known))
        if missing:
            raise NotFound(f"no readings of {', '.join(missing)}: there are some of {', '.join(known)}")
        return await export(reader, out, machines or known, from_us, to_us, phase)


def check_empty(out: Path) -> None:
    """Raises Misconfigured for a folder that holds something, for a file, and for a place that can't be written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Misconfigured(f"{out} is not empty", hint="give a folder of its own")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(
            f"{out} can't be made: {error}", hint="give a place that you may write to"
        ) from error


async def export(
    reader: TelemetryReader,
    out: Path,
    machines: Sequence[str],
    from_us: int,
    to_us: int,
    phase: Callable[[str], Told],
) -> Exported:
    """Write `out`/machine=MACHINE/day=YYYY-MM-DD/readings.parquet for each day that has readings. Raises Unavailable."""
    made = Exported(len(machines))
    for machine in machines:
        told = phase(f"{machine}, seconds of the range")
        days = _Days(out / f"machine={machine}", made)
        try:
            async for chunk in reader.columns(machine, None, from_us, to_us, chunk=CHUNK):
                for day, part in by_day(chunk):
                    days.write(day, part)
                made.rows += len(chunk)
                told((int(chunk.time_us[-1]) - from_us) // SECOND_US, (to_us - from_us) // SECOND_US)
            days.finish()
        except OSError as error:
            raise Unavailable(f"{out} can't be written: {error}") from error
        finally:
            days.drop()
    return made


class _Days:
    """A machine's files, one day open at a time: readings come in order of time."""

    def __init__(self, folder: Path, made: Exported) -> None:
        self._folder, self._made = folder, made
        self._day: int | None = None
        self._writer: Any = None
        self._path = folder

    def write(self, day: int, part: Columns) -> None:
        """Add rows of one day."""
        import pyarrow.parquet as pq  # noqa: PLC0415 - 100 ms and 40 MB that only this needs

        if day != self._day:
            self.finish()
            self._day = day
            self._path = self._folder / f"day={at(day * DAY_US):%Y-%m-%d}" / "readings.parquet"
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(_new(self._path), schema(), compression="zstd")
        self._writer.write_table(table(part))

    def finish(self) -> None:
        """Close the day's file and give it its name."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            _new(self._path).rename(self._path)
            sync_folder(self._path.parent)
            self._made.files += 1
            self._made.paths.append(str(self._path))

    def drop(self) -> None:
        """Leave nothing that is half written."""
        if self._writer is not None:
            self._writer.close()
            _new(self._path).unlink(missing_ok=True)


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def by_day(part: Columns) -> Iterator[tuple[int, Columns]]:
    """The rows of each UTC day, in order of time."""
    days = part.time_us // DAY_US
    cuts = np.flatnonzero(np.diff(days)) + 1
    for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), len(part)], strict=True):
        if last > first:
            rows = slice(first, last)
            yield int(days[first]), Columns(
                part.sensors, part.units, part.sources,
                part.sensor[rows], part.time_us[rows], part.value[rows], part.quality[rows], part.unit[rows],
                part.arrival_us[rows], part.source[rows], part.row[rows],
            )  # fmt: skip


def schema() -> "pa.Schema":
    """The columns; `machine` and `day` are in the path."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    moment, word = pa.timestamp("us", tz="UTC"), pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        {
            "time": moment, "sensor": word, "value": pa.float64(), "unit": word, "quality": word,
            "arrival": moment, "edge": word, "epoch": word, "row": pa.int64(),
        }
    )  # fmt: skip


def table(part: Columns) -> "pa.Table":
    """Rows as they are written."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    def words(index: Any, names: Sequence[str]) -> "pa.DictionaryArray":  # noqa: ANN401 - any integers
        return pa.DictionaryArray.from_arrays(index.astype(np.int32), pa.array(names, pa.string()))

    columns = [
        pa.array(part.time_us), words(part.sensor, part.sensors), pa.array(part.value),
        words(part.unit, part.units), words(part.quality, _QUALITIES), pa.array(part.arrival_us),
        words(part.source, [source.edge for source in part.sources]),
        words(part.source, [source.epoch.hex() for source in part.sources]), pa.array(part.row),
    ]  # fmt: skip
    kinds = schema()
    cast = [column.cast(kind.type) for column, kind in zip(columns, kinds, strict=True)]
    return pa.Table.from_arrays(cast, schema=kinds)
