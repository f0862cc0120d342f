"""`industrialmind restore`: a plant from a backup, into a folder that holds nothing.

All is made beside that folder and takes its name at the end. In between a nats-server of its own takes the streams
in, and the log is brought to exactly what the outboxes knew: records of rows that an edge cut after its outbox was
copied are taken out (others of theirs may be missing), and frames that the outbox still held are appended. So the
old epochs are whole, and each outbox begins a new one.
"""

import asyncio
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Final

from cloud.ledger.logic import TOPICS, header_of
from edge.outbox_renew import Copied, kept_frames, read_copied, renew
from gateway.frames_plan import plan_frames
from gateway.port import Arrivals
from industrialmind.backup_file import Backup, read_backup, sync_folder
from industrialmind.embedded import EmbeddedNats
from industrialmind.plant import DataDir, Plant
from industrialmind.progress import Teller
from industrialmind.up import prepare
from shared.clock import Clock
from shared.errors import Misconfigured, Rejected
from shared.eventlog import EventLog, Stored, open_event_log
from shared.frame_codec import decode_header
from shared.frames import Header
from shared.jetstream.topics import stream_name
from shared.names import DEAD_LETTER, MACHINE_EVENTS, UplinkTopic
from shared.nats import open_control, open_link
from shared.nats.snapshots import CHUNK, drop_message, load_group, load_stream
from shared.supervise import Child, Supervisor, free_ports

_BATCH: Final = 64
_OF_ROWS: Final = (MACHINE_EVENTS, DEAD_LETTER)
"""Topics whose records are single rows of a frame."""
_NAME: Final = "restore"
_PLACE: Final = "give a folder in a place that you may write to, and that is no mount point itself"

Frame = tuple[bytes, int]
"""Epoch and first row."""


@dataclass(slots=True)
class Restored:
    """What came of a restore."""

    site: str
    made_at: str
    files: int = 0
    streams: int = 0
    appended: int = 0
    """Frames of outboxes that the log had not confirmed."""
    cut: int = 0
    """Records of rows that edges cut after their outboxes were copied."""
    waiting: int = 0
    """Rows that edges hold under no number yet."""


async def run_restore(path: Path, root: Path, tell: Teller, clock: Clock) -> Restored:
    """Make the plant of a backup in `root`, which must hold nothing.

    Raises NotFound (no backup), Misconfigured (`root` is in use, or the backup is of a later release), Rejected
    (damaged), Unavailable. Whatever is raised, nothing was restored.
    """
    check_empty(root)
    backup = await asyncio.to_thread(read_backup, path, tell.phase("checking"))
    staged = stage(root)
    try:
        made = await _Restore(backup, staged, tell, clock).run()
        await asyncio.to_thread(put_in_place, staged, root)
    finally:
        await asyncio.to_thread(shutil.rmtree, staged, ignore_errors=True)
    return made


def stage(root: Path) -> Path:
    """A new folder beside `root`. Raises Misconfigured."""
    place = root.resolve()
    staged = place.with_name(f".{place.name}.restoring-{secrets.token_hex(4)}")
    try:
        staged.parent.mkdir(parents=True, exist_ok=True)
        staged.mkdir(mode=0o700)
    except OSError as error:
        raise Misconfigured(f"{root} can't be made: {error}", hint=_PLACE) from error
    return staged


def put_in_place(staged: Path, root: Path) -> None:
    """Give the whole plant its name, on the disk. Raises Misconfigured."""
    try:
        for folder in [staged, *(one for one in staged.rglob("*") if one.is_dir())]:
            sync_folder(folder)
        if root.exists():
            check_empty(root)
            root.resolve().rmdir()
        staged.rename(root.resolve())
        sync_folder(root.resolve().parent)
    except OSError as error:
        raise Misconfigured(f"{root} can't take the plant: {error}", hint=_PLACE) from error


def check_empty(root: Path) -> None:
    """Raises Misconfigured for a folder that holds something."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise Misconfigured(
            f"{root} is not empty: a plant is restored into a folder of its own",
            hint="give another folder with --data, or move what is there away",
        )


class _Restore:
    """One restore at work, in the folder `staged`."""

    def __init__(self, backup: Backup, staged: Path, tell: Teller, clock: Clock) -> None:
        self._backup, self._staged, self._tell, self._clock = backup, staged, tell, clock
        self._made = Restored(backup.about["site"], backup.about["made_at"])

    async def run(self) -> Restored:
        """Files, streams, then the outboxes and the log brought together."""
        await asyncio.to_thread(self._extract)
        data = DataDir(self._staged)
        plant = data.plant()
        nats_port, mqtt_port = free_ports(2)
        nats = EmbeddedNats(data.root, plant.edges(), nats_port=nats_port, mqtt_port=mqtt_port)
        nats.write_config()
        supervisor = Supervisor()
        await supervisor.start(Child("nats-server", tuple(nats.command()), data.logs / "nats-server.log"))
        try:
            await nats.wait_ready()
            await self._streams(nats)
            await prepare(nats, plant)
            await self._settle(nats, data, plant)
        finally:
            await supervisor.stop()
        return self._made

    def _extract(self) -> None:
        told = self._tell.phase("files")
        wanted = {name: one for name, one in self._backup.entries.items() if name.startswith("data/")}
        self._made.files = len(wanted)
        Backup(self._backup.path, self._backup.about, wanted).extract(self._staged, told)
        inner = self._staged / "data"
        for path in inner.iterdir():
            path.rename(self._staged / path.name)
        inner.rmdir()
        (self._staged / "secrets").chmod(0o700)

    async def _streams(self, nats: EmbeddedNats) -> None:
        about = self._backup.about
        told = self._tell.phase("log and control plane")
        async with open_link(nats.nats_url, credentials=nats.credentials("admin").userinfo) as link:
            for number, (name, one) in enumerate(about["streams"].items()):
                told(number, len(about["streams"]))
                with self._backup.reading(f"streams/{name}") as source:
                    await load_stream(link.session(), name, one, _chunks(source))
            for group in about["groups"]:
                await load_group(link.session(), group)
        self._made.streams = len(about["streams"])

    async def _settle(self, nats: EmbeddedNats, data: DataDir, plant: Plant) -> None:
        """Bring the log to what the outboxes knew, then let each begin its new epoch."""
        outboxes = {one: data.outbox(one) for one in self._backup.about["outboxes"]}
        copied = {edge: read_copied(path) for edge, path in outboxes.items()}
        admin = nats.credentials("admin").userinfo
        url, credentials = plant.log_access(nats.nats_url, admin)
        async with (
            open_event_log(url, credentials=credentials) as log,
            open_control(nats.nats_url, credentials=admin) as control,
        ):
            there: set[Frame] = set()
            if not plant.log:  # else it went on: what it has of these edges is as true as before
                there = await self._cut(nats, log, copied)
            assignments = await control.assignments()
            for edge, path in outboxes.items():
                self._tell.phase(f"outbox of {edge}")
                frames = (data for data in kept_frames(path) if _frame(data) not in there)
                await self._append(log, str(UplinkTopic(plant.site, edge, "frames")), frames, assignments)
                await asyncio.to_thread(renew, path)
                self._made.waiting += copied[edge].waiting

    async def _cut(self, nats: EmbeddedNats, log: EventLog, copied: Mapping[str, Copied]) -> set[Frame]:
        """Take out records of rows that were numbered after the outbox was copied; returns the other newer frames."""
        told = self._tell.phase("the log's end")
        newer: list[tuple[str, int]] = []
        there: set[Frame] = set()
        for number, topic in enumerate(TOPICS):
            told(number, len(TOPICS))
            async for record in log.read(topic, self._backup.about["cut"].get(topic, {})):
                header = _header(record)
                one = copied.get(header.edge) if header is not None else None
                if header is None or one is None or header.epoch != one.epoch:
                    continue
                if header.last > one.produced:
                    newer.append((topic, record.offset))
                elif topic not in _OF_ROWS:
                    there.add((header.epoch, header.first))
        async with open_link(nats.nats_url, credentials=nats.credentials("admin").userinfo) as link:
            for topic, offset in newer:
                await drop_message(link.session(), stream_name(topic), offset)
        self._made.cut = len(newer)
        return there

    async def _append(
        self,
        log: EventLog,
        topic: str,
        kept: Iterator[bytes],
        assignments: Mapping[str, tuple[str, str]],
    ) -> None:
        """Give the log the frames that the outbox held, as the gateway would have. Raises Unavailable."""
        while frames := list(islice(kept, _BATCH)):
            arrivals = Arrivals([topic] * len(frames), frames, [0] * len(frames), 0)
            plan = plan_frames(arrivals, assignments, gateway=_NAME, now_us=self._clock.now_us())
            for group in plan.groups:
                await log.append(group.topic, group.key, group.records)
            self._made.appended += len(frames)


def _header(record: Stored) -> Header | None:
    try:
        return header_of(record)
    except Rejected:
        return None


def _frame(data: bytes) -> Frame | None:
    """Which frame it is; None for bytes that are none, which become a dead letter."""
    try:
        header, _ = decode_header(data)
    except Rejected:
        return None
    return header.epoch, header.first


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: source.read(CHUNK), b"")
