"""Raw blocks that are kept until they are sent: files in a folder of their own, within a quota of their own.

They stand beside the outbox, not in it, so that no block ever takes a reading's place; one moves over when the uplink has
room. When the quota is reached the least important go first (one a day, then on request, then at alarms), the oldest
of them before the others; what is less important than all that is there is not kept. What is let go is counted.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from shared.durable import PART, replace
from shared.errors import Rejected, Unavailable
from shared.names import is_id
from shared.wave import KeptWave, Why

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, order=True)
class Kept:
    """One block on disk; in order of who is let go first."""

    why: Why
    time_us: int
    machine: str
    sensor: str
    size: int

    @property
    def name(self) -> str:
        """Its file's name."""
        return f"{self.time_us}.{self.machine}.{self.sensor}.{self.why.value}"

    @classmethod
    def of(cls, path: Path) -> "Kept | None":
        """Read a file's name; None if it is none of ours."""
        parts = path.name.split(".")
        if len(parts) != 4 or not parts[0].isdigit() or not is_id(parts[1]) or not is_id(parts[2]):  # noqa: PLR2004
            return None
        if not parts[3].isdigit() or int(parts[3]) not in Why._value2member_map_:
            return None
        return cls(Why(int(parts[3])), int(parts[0]), parts[1], parts[2], path.stat().st_size)


class WaveStore:
    """The folder. Synchronous; one caller at a time."""

    def __init__(self, folder: Path, *, quota_bytes: int) -> None:
        self._folder, self._quota = folder, quota_bytes
        self.let_go = 0
        self._kept: dict[str, Kept] = {}
        with suppress(OSError):
            for path in folder.iterdir():
                if path.name.endswith(PART):
                    path.unlink()
                elif (kept := Kept.of(path)) is not None:
                    self._kept[kept.name] = kept

    @property
    def used(self) -> int:
        """What the blocks take on disk."""
        return sum(each.size for each in self._kept.values())

    @property
    def blocks(self) -> int:
        """How many there are."""
        return len(self._kept)

    def keep(self, machine: str, time_us: int, wave: KeptWave) -> bool:
        """Write one block durably, or let it go for the quota; a block is there once, for its most important reason.

        Raises Unavailable if the disk fails.
        """
        data = wave.encode()
        new = Kept(wave.why, time_us, machine, wave.sensor, len(data))
        same = [
            k
            for k in self._kept.values()
            if (k.time_us, k.machine, k.sensor) == (time_us, machine, wave.sensor)
        ]
        if any(each.why >= new.why for each in same):
            return True
        try:
            for each in same:
                self._drop(each.name)
            if not self._make_room(new):
                self.let_go += 1
                return False
            self._folder.mkdir(parents=True, exist_ok=True)
            replace(self._folder / new.name, data)
        except OSError as error:
            raise Unavailable(f"a waveform can't be kept: {error}", retry_after=5.0) from error
        self._kept[new.name] = new
        return True

    def _make_room(self, new: Kept) -> bool:
        used = self.used
        for each in sorted(self._kept.values()):
            if used + new.size <= self._quota:
                break
            if each.why > new.why:
                return False
            self._drop(each.name)
            self.let_go += 1
            used -= each.size
        return used + new.size <= self._quota

    def next(self) -> tuple[Kept, bytes] | None:
        """The most important block, of several the oldest, with its record's bytes; what can't be read is dropped."""
        for each in sorted(self._kept.values(), key=lambda kept: (-kept.why, kept.time_us)):
            try:
                data = (self._folder / each.name).read_bytes()
                KeptWave.decode(data)
            except (OSError, Rejected) as error:
                log.error("a kept waveform can't be read", name=each.name, error=str(error))  # noqa: TRY400
                self.done(each.name)
                self.let_go += 1
                continue
            return each, data
        return None

    def done(self, name: str) -> None:
        """It stands in the outbox, or never will."""
        with suppress(OSError):
            self._drop(name)
        self._kept.pop(name, None)

    def _drop(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)
        self._kept.pop(name, None)
