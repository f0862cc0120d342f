"""`industrialmind backup`: DATA into one file, consistent while the plant runs.

The order makes the whole consistent; each part is consistent in itself. First how far each group acknowledged, then
the stores, then the outboxes, then the log, at last the models: so the log holds whatever a store claims and
whatever an outbox freed, groups begin before what their stores have, and every version's bytes are there.
"""

import secrets
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from edge.outbox_copy import COPIES, answer_of, request_of
from industrialmind.backup_file import BackupWriter
from industrialmind.embedded import account_of
from industrialmind.plant import DataDir, Plant, write_private
from industrialmind.progress import Teller
from industrialmind.served import Served, plant_log, served
from shared.clock import Clock
from shared.errors import Misconfigured, Unavailable
from shared.eventlog import Position
from shared.events import at
from shared.jetstream.topics import stream_name
from shared.names import LOG_TOPICS, MODEL_OBJECTS
from shared.nats import Link, open_link
from shared.nats.snapshots import save_groups, save_stream, stream_names

COPY_SECONDS: Final = 60.0
"""Longest wait for an edge to copy its outbox."""
_LOOK_SECONDS: Final = 0.1
_PAGES: Final = 2_000
_OBJECTS: Final = f"OBJ_{MODEL_OBJECTS}"
_MADE_ANEW: Final = ("KV_leases", "KV_reported-")
"""Streams that whoever writes them makes again: what they held would speak of the plant that was."""
_LEFT_OUT: Final = ("lock", "run.json", "trainer.lock", "run", "logs", "nats")
"""What `up` makes anew, and the server's files, which are taken through the server."""
_SIDE_FILES: Final = ("-wal", "-shm", "-journal", ".lock", ".new", ".rebuild", ".rebuilt", ".unfit")


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made."""

    path: Path
    size: int
    files: int
    running: bool
    notes: Sequence[str]


async def run_backup(root: Path, target: Path, tell: Teller, clock: Clock) -> Made:
    """Back up the plant in `root`. Raises NotFound (no plant there), Misconfigured, Unavailable."""
    data = DataDir(root)
    plant = data.plant()
    made_at = at(clock.now_us()).isoformat(timespec="seconds").replace("+00:00", "Z")
    path = file_for(target, root, plant.site, made_at)
    async with served(data) as at_server:
        with (
            tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch,
            BackupWriter(path) as writer,
        ):
            backup = _Backup(data, plant, at_server, writer, Path(scratch), tell, clock)
            about = await backup.take()
            about |= {"made_by": version("industrialmind"), "made_at": made_at, "site": plant.site}
            tell.phase("to the disk")
            size = writer.finish(about)
            return Made(path, size, writer.count, at_server.running, backup.notes)


def file_for(target: Path, root: Path, site: str, made_at: str) -> Path:
    """The backup's file: the one given, or one of the plant and the time in a folder that is there. Raises Misconfigured."""
    name = f"industrialmind-{site}-{made_at.replace(':', '')}.tar"
    path = target / name if target.is_dir() else target
    if not path.parent.is_dir():
        raise Misconfigured(f"there is no folder {path.parent}", hint="make it, or write elsewhere")
    if root.resolve() in path.resolve().parents:
        raise Misconfigured(
            f"{path} is in the folder that it would be a backup of", hint="write it elsewhere"
        )
    if path.exists():
        raise Misconfigured(f"{path} is there already", hint="give another name: no backup is written over")
    return path


class _Backup:
    """One backup at work."""

    def __init__(
        self,
        data: DataDir,
        plant: Plant,
        at_server: Served,
        writer: BackupWriter,
        scratch: Path,
        tell: Teller,
        clock: Clock,
    ) -> None:
        self._data, self._plant, self._at, self._writer = data, plant, at_server, writer
        self._scratch, self._tell, self._clock = scratch, tell, clock
        self.notes: list[str] = []

    async def take(self) -> dict[str, Any]:
        """Everything, in the order that makes it consistent; returns what the manifest says beside the files."""
        admin = account_of(self._data.root, "admin").userinfo
        async with open_link(self._at.nats_url, credentials=admin) as link:
            names = await stream_names(link.session())
            streams = {stream_name(topic): topic for topic in LOG_TOPICS}
            logs = [name for name in names if name in streams]
            buckets = [name for name in names if name.startswith("KV_") and not name.startswith(_MADE_ANEW)]
            groups = [one for name in logs for one in await save_groups(link.session(), name)]
            about: dict[str, Any] = {"groups": groups, "streams": {}, "log": self._plant.log.split("@")[-1]}
            await self._streams(link, buckets, about, "the control plane")
            self._files()
            about["cut"] = await self._ends()
            edges = [machine.edge for machine in self._plant.machines]
            about["outboxes"] = [edge for edge in edges if await self._outbox(edge)]
            await self._streams(link, logs, about, "the log")
            await self._streams(link, [name for name in names if name == _OBJECTS], about, "models")
        if self._plant.log:
            self.notes.append(
                f"the log itself is not in it: it is on {about['log']}, which has backups of its own"
            )
        return about

    async def _ends(self) -> dict[str, Position]:
        """Each topic's end before the outboxes are copied: what a store can claim, and all that an outbox freed before."""
        async with plant_log(self._data, self._at) as log:
            return {topic: dict(await log.end(topic)) for topic in LOG_TOPICS}

    async def _streams(self, link: Link, names: Sequence[str], about: dict[str, Any], what: str) -> None:
        told = self._tell.phase(what)
        for number, name in enumerate(names):
            told(number, len(names))
            path = self._scratch / "stream"
            with path.open("w+b") as file:
                about["streams"][name] = await save_stream(link.session(), name, file)
            self._writer.add_path(f"streams/{name}", path, mode=0o600)
            path.unlink()
        told(len(names), len(names))

    def _files(self) -> None:
        """Every file but those that the order puts elsewhere; databases by SQLite's own copy."""
        told = self._tell.phase("stores and files")
        files = list(files_of(self._data.root))
        for number, path in enumerate(files):
            told(number, len(files))
            name = f"data/{path.relative_to(self._data.root).as_posix()}"
            if path.suffix == ".db":
                copied = copy_database(path, self._scratch / "database")
                self._writer.add_path(name, copied, mode=path.stat().st_mode)
                copied.unlink()
                continue
            try:
                self._writer.add_path(name, path)
            except FileNotFoundError:
                continue  # gone since: a trainer tidied up, a model was replaced
        told(len(files), len(files))

    async def _outbox(self, edge: str) -> bool:
        """Take an edge's outbox, by the edge itself where it runs: it alone may open the file. False: there is none."""
        path = self._data.outbox(edge)
        if not path.exists():
            return False
        self._tell.phase(f"outbox of {edge}")
        copied = copy_outbox(path, self._scratch / "outbox") or await self._ask(edge, path)
        name = f"data/{path.relative_to(self._data.root).as_posix()}"
        self._writer.add_path(name, copied, mode=path.stat().st_mode)
        copied.unlink()
        return True

    async def _ask(self, edge: str, path: Path) -> Path:
        """Let a running edge copy its outbox. Raises Unavailable if it does not."""
        for old in path.parent.glob(f"{path.name}{COPIES}*"):
            old.unlink(missing_ok=True)
        name = secrets.token_hex(8)
        answer = answer_of(path, name)
        write_private(request_of(path), name)
        try:
            until = self._clock.monotonic() + COPY_SECONDS
            while not answer.exists():
                if self._clock.monotonic() > until:
                    raise Unavailable(
                        f"{edge} did not copy its outbox within {COPY_SECONDS:g} s: see {self._data.logs / edge}.log"
                    )
                await self._clock.sleep(_LOOK_SECONDS)  # another process makes it: nothing tells when
        finally:
            request_of(path).unlink(missing_ok=True)
        return answer


def files_of(root: Path) -> Iterator[Path]:
    """What of DATA is copied as files, outboxes apart."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if parts[0] in _LEFT_OUT or path.is_symlink() or not path.is_file():
            continue
        if path.name.endswith(_SIDE_FILES) or COPIES in path.name or _is_outbox(parts):
            continue
        yield path


def _is_outbox(parts: Sequence[str]) -> bool:
    return len(parts) == 3 and parts[0] == "edges" and parts[2] == "outbox.db"  # noqa: PLR2004 - edges/EDGE/outbox.db


def copy_outbox(path: Path, copied: Path) -> Path | None:
    """The outbox of an edge that does not run; None where one does, which alone may open it. Raises Unavailable."""
    try:
        return copy_database(path, copied, wait_ms=0)
    except Unavailable as error:
        if getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            return None
        raise


def copy_database(path: Path, copied: Path, *, wait_ms: int = 5000) -> Path:
    """A SQLite file as of one moment, page by page, while another process writes it. Raises Unavailable."""
    try:
        with (
            closing(
                sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            ) as source,
            closing(sqlite3.connect(copied, isolation_level=None)) as into,
        ):
            source.execute(f"PRAGMA busy_timeout = {wait_ms}")
            into.execute("PRAGMA synchronous = OFF")  # the backup's file is flushed, not this one
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on one moment is read
            source.backup(into, pages=_PAGES)
            into.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
    except sqlite3.Error as error:
        raise Unavailable(f"{path} can't be copied now: {error}") from error
    return copied
