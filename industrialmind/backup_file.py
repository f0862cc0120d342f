"""A backup's file: a tar that ends with the list of its contents, and how it is proved whole before it is used.

The list, `manifest.json`, comes last, since sizes and hashes are known only then, and the hash of the list itself
after it. A file that was cut short has no list; what was changed in it does not match.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any, Final, Self

import orjson

from shared.errors import Misconfigured, NotFound, Rejected, Unavailable

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SEAL: Final = "manifest.sha256"
_CHUNK: Final = 1 << 20
_MANIFEST_BYTES: Final = 64 << 20
_PRIVATE: Final = 0o600

Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a backup."""

    name: str
    size: int
    sha256: str
    mode: int


class BackupWriter:
    """Writes a backup beside its final name; `finish` gives it that name, whole and on the disk, or nothing has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(f".{path.name}.new")
        self._entries: list[Entry] = []
        try:
            self._new.unlink(missing_ok=True)
            descriptor = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        except OSError as error:
            raise Misconfigured(
                f"a backup can't be written to {path}: {error.strerror}",
                hint="give a place that you may write to",
            ) from error
        self._file = os.fdopen(descriptor, "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed in finish

    @property
    def count(self) -> int:
        """How many files are in it."""
        return len(self._entries)

    def add(self, name: str, source: IO[bytes], size: int, mode: int = _PRIVATE) -> None:
        """Add `size` bytes as the file `name`. Raises Unavailable (the disk is full)."""
        reader = _Hashing(source)
        about = tarfile.TarInfo(name)
        about.size, about.mode = size, mode & 0o777
        with _writing(self._path):
            self._tar.addfile(about, reader)
        self._entries.append(Entry(name, size, reader.hexdigest(), about.mode))

    def add_path(self, name: str, path: Path, *, mode: int | None = None) -> None:
        """Add a file as it is: of one that grows meanwhile, what it had at first."""
        with path.open("rb") as source:
            found = os.fstat(source.fileno())
            self.add(name, source, found.st_size, found.st_mode if mode is None else mode)

    def finish(self, about: Mapping[str, Any]) -> int:
        """Write the list, flush to the disk, and give the file its name; returns its size. Raises Unavailable."""
        files = [
            {"name": one.name, "size": one.size, "sha256": one.sha256, "mode": one.mode}
            for one in self._entries
        ]
        manifest = orjson.dumps({"format": FORMAT, **about, "files": files}, option=orjson.OPT_INDENT_2)
        with _writing(self._path):
            for name, data in ((MANIFEST, manifest), (SEAL, hashlib.sha256(manifest).hexdigest().encode())):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), _PRIVATE
                self._tar.addfile(info, io.BytesIO(data))
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
            self._file.close()
            self._new.rename(self._path)
            sync_folder(self._path.parent)
        return size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._new.unlink(missing_ok=True)


@dataclass(slots=True)
class Backup:
    """A backup that was read once from end to end and is what its list says."""

    path: Path
    about: Mapping[str, Any]
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def extract(self, into: Path, told: Told) -> None:
        """Write its files below a folder, each as private as it was. Raises Rejected, Unavailable."""
        done, total = 0, sum(entry.size for entry in self.entries.values())
        with _opened(self.path) as tar, _writing(into):
            for member in tar:
                entry = self.entries.get(member.name)
                source = tar.extractfile(member)
                if entry is None or source is None:
                    continue
                target = into / entry.name
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, entry.mode)
                with os.fdopen(descriptor, "wb") as file:
                    while part := source.read(_CHUNK):
                        file.write(part)
                        done += len(part)
                        told(done, total)
                    file.flush()
                    os.fsync(file.fileno())

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """One file's content."""
        with _opened(self.path) as tar:
            source = tar.extractfile(name)
            if source is None:
                raise Rejected(f"{self.path} has no {name}")
            yield source


def read_backup(path: Path, told: Told) -> Backup:
    """Prove a backup whole. Raises NotFound, Misconfigured (of a later release), Rejected (damaged, or no backup)."""
    if not path.is_file():
        raise NotFound(f"there is no backup at {path}")
    found: dict[str, tuple[int, str]] = {}
    kept: dict[str, bytes] = {}
    size = path.stat().st_size
    with _opened(path) as tar:
        for member in tar:
            source = tar.extractfile(member)
            if source is None or member.name in found:
                raise Rejected(f"{path} is no backup, or damaged: {member.name!r} is no file or there twice")
            if member.name in {MANIFEST, SEAL} and member.size <= _MANIFEST_BYTES:
                kept[member.name] = source.read()
                continue
            reader = _Hashing(source)
            while reader.read(_CHUNK):
                told(min(size, source.tell() + member.offset_data), size)
            found[member.name] = (reader.size, reader.hexdigest())
    about = _manifest(path, kept)
    entries = {
        one["name"]: Entry(one["name"], one["size"], one["sha256"], one["mode"]) for one in about["files"]
    }
    for name in sorted(found.keys() ^ entries.keys()):
        raise Rejected(f"{path} is damaged: {name} is {'not listed' if name in found else 'missing'}")
    for name, entry in entries.items():
        if found[name] != (entry.size, entry.sha256):
            raise Rejected(f"{path} is damaged: {name} is not what was backed up; nothing was restored")
        if not _is_below(name):
            raise Rejected(f"{path} is no backup: {name!r} leads out of the folder")
    return Backup(path, about, entries)


def _manifest(path: Path, kept: Mapping[str, bytes]) -> dict[str, Any]:
    if MANIFEST not in kept or SEAL not in kept:
        raise Rejected(f"{path} is cut short, or no backup: it ends before the list of its contents")
    if hashlib.sha256(kept[MANIFEST]).hexdigest().encode() != kept[SEAL]:
        raise Rejected(f"{path} is damaged: the list of its contents was changed")
    try:
        about: dict[str, Any] = orjson.loads(kept[MANIFEST])
    except orjson.JSONDecodeError as error:
        raise Rejected(f"{path} is no backup: its list can't be read: {error}") from error
    if about.get("format") != FORMAT:
        raise Misconfigured(
            f"{path} has the format {about.get('format')}, this release reads {FORMAT}",
            hint=f"restore it with the release that made it: {about.get('made_by', 'unknown')}",
        )
    return about


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Hashing:
    """Reads through to a file and hashes what passes."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, count: int = -1) -> bytes:
        """Up to `count` bytes."""
        part = self._source.read(count)
        self._hash.update(part)
        self.size += len(part)
        return part

    def hexdigest(self) -> str:
        """Of all that was read."""
        return self._hash.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, mode="r:") as tar:
            yield tar
    except (tarfile.TarError, EOFError) as error:
        raise Rejected(f"{path} is cut short, damaged, or no backup: {error}") from error
    except OSError as error:
        raise Unavailable(f"{path} can't be read: {error}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{path} can't be written: {error}") from error
