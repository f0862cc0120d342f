"""A machine that no edge looks after, as the cloud scores it: rows of the log in, frames and events for the log out.

One record of the log is one batch, so what comes of it depends on the log alone, wherever and whenever it is read.
`Memory` is what a restart needs to go on with the very next window.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import orjson
import structlog

from shared.clock import Clock
from shared.errors import Rejected
from shared.eventlog import Record, Stored
from shared.events import Event, ModelRefused, at
from shared.frame_codec import decode, encode
from shared.frames import Header, Kind, Readings, Scores
from shared.loaded import LoadedModel, fits
from shared.machine_view import MachineView
from shared.origin import origin_headers
from shared.packing import join, split
from shared.scoring import WindowScoring
from shared.scoring_state import ScoringState

log = structlog.get_logger()

SOURCE: Final = "cloud/inference"
SETTLE_SECONDS: Final = 10.0
"""How long a machine that sends is watched before a sensor counts as missing."""
MOST_CELLS: Final = 10_000
"""Cells of a window that the memory has room for."""
_VERSION: Final = 1


@dataclass(slots=True)
class Memory:
    """Through which place of the log the machine is scored, by which version, and how its scoring stands there."""

    position: dict[str, int] = field(default_factory=dict)
    model: str = ""
    state: bytes = b""
    grid: bytes = b""

    def encode(self) -> bytes:
        """As JSON."""
        parts = {"state": orjson.Fragment(self.state), "grid": orjson.Fragment(self.grid)}
        return orjson.dumps({"version": _VERSION, "position": self.position, "model": self.model, **parts})

    @classmethod
    def decode(cls, data: bytes) -> "Memory":
        """From JSON. Raises Rejected."""
        try:
            raw = orjson.loads(data)
            version = raw["version"]
            position = {str(partition): int(offset) for partition, offset in raw["position"].items()}
            made = cls(position, str(raw["model"]), orjson.dumps(raw["state"]), orjson.dumps(raw["grid"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise Rejected(f"not a memory of scoring: {error}") from error
        if version != _VERSION:
            raise Rejected(f"a memory of scoring of version {version!r}")
        ScoringState.decode(made.state)
        return made


@dataclass(frozen=True, slots=True)
class Made:
    """What came of some records: to be appended in this order, then the memory, then the records acknowledged.

    `more`: a version was installed, which must be remembered before it scores; then the same records are taken again.
    """

    scores: tuple[Record, ...] = ()
    events: tuple[Record, ...] = ()
    windows: int = 0
    more: bool = False


class DirectMachine:
    """One machine's scoring under an epoch of its own: rows count from 1 at each start. One caller at a time."""

    def __init__(
        self, edge: str, machine: str, epoch: bytes, clock: Clock, *, recent_rows: int, memory: bytes = b""
    ) -> None:
        self.machine = machine
        self._edge, self._epoch, self._clock = edge, epoch, clock
        self._site = ""
        self._next_row = 1
        self._view = MachineView()
        self._since: float | None = None
        self._refused = ("", "")
        self._scoring = WindowScoring(edge, machine, source=SOURCE, recent_rows=recent_rows)
        self._memory = Memory()
        if memory:
            try:
                self._memory = Memory.decode(memory)
            except Rejected as error:
                log.warning("scoring starts afresh", machine=machine, reason=error.reason)

    @property
    def scored(self) -> bool:
        """Whether a model runs."""
        return self._scoring.model is not None

    def memory(self) -> bytes:
        """To be kept once what was made is in the log."""
        running = self._scoring.model
        if running is not None:
            self._memory.model = running.desired.sha256
            self._memory.state, self._memory.grid = self._scoring.saved()
        return self._memory.encode()

    def take(self, records: Sequence[Stored], wanted: LoadedModel | None) -> Made:
        """Score the records that are news, in order; `wanted` runs from the first of them on that it fits."""
        scores: list[Scores] = []
        events: list[Event] = []
        more = False
        for record in records:
            if record.offset <= self._memory.position.get(record.partition, 0):
                continue
            body = self._readings(record)
            if body is not None:
                running = self._scoring.model
                events += self._installed(wanted, body)
                more = self._scoring.model is not running and bool(events)
                if more:
                    break
                made, news = self._scoring.score_rows(body)
                scores += made
                events += news
            self._memory.position[record.partition] = record.offset
        windows = sum(len(each) for each in scores)
        frames = tuple(self._frames(scores))  # rows are numbered in the order in which they are appended
        return Made(frames, tuple(self._event(event) for event in events), windows, more)

    def _readings(self, record: Stored) -> Readings | None:
        """The record's rows. None for what ingest makes a dead letter of, and for aggregates: their rows are gone."""
        try:
            header, body = decode(record.value)
        except Rejected:
            return None
        self._site = header.site
        return body if isinstance(body, Readings) else None

    def _installed(self, wanted: LoadedModel | None, body: Readings) -> list[Event]:
        """Let the wanted version run if it does not and the machine feeds it; a refusal is told once."""
        self._view.take(body)
        running, now_us = self._scoring.model, self._clock.now_us()
        if wanted is None or (running is not None and running.desired.sha256 == wanted.desired.sha256):
            return []
        if running is None and self._memory.model:
            again = self._memory.model == wanted.desired.sha256
            self._scoring.resume(
                ScoringState.decode(self._memory.state), wanted.manifest.grid_spec(), self._memory.grid
            )
            return self._scoring.run_model(wanted, now_us, again=again)
        now = self._clock.monotonic()
        self._since = now if self._since is None else self._since
        try:
            self._check_size(wanted)
            if not fits(wanted, self.machine, self._view, settled=now - self._since >= SETTLE_SECONDS):
                return []
        except Rejected as error:
            return self._refusal(wanted, error.reason, now_us)
        log.info(
            "model active", machine=self.machine, model=wanted.desired.model, version=wanted.desired.version
        )
        return self._scoring.run_model(wanted, now_us)

    @staticmethod
    def _check_size(wanted: LoadedModel) -> None:
        cells = wanted.manifest.grid.window * len(wanted.manifest.sensors)
        if cells > MOST_CELLS:
            raise Rejected(f"its windows have {cells} cells: without an edge at most {MOST_CELLS} are scored")

    def _refusal(self, wanted: LoadedModel, reason: str, now_us: int) -> list[Event]:
        desired = wanted.desired
        if self._refused == (desired.sha256, reason):
            return []
        self._refused = (desired.sha256, reason)
        log.warning("model refused", machine=self.machine, model=desired.model, reason=reason)
        return [
            ModelRefused(
                source=SOURCE,
                subject=self.machine,
                occurred_at=at(now_us),
                edge=self._edge,
                model=desired.model,
                model_version=desired.version,
                version_hash=desired.sha256,
                reason=reason,
            )
        ]

    def _frames(self, scores: Sequence[Scores]) -> list[Record]:
        records = []
        for _, alike in groupby(scores, key=lambda each: (each.version_hash, each.limit)):
            for part, _ in split(join(list(alike))):
                header = self._rows(Kind.SCORES, len(part))
                records.append(Record(encode(header, part), id=self._id(header)))
        return records

    def _event(self, event: Event) -> Record:
        header = self._rows(Kind.EVENT, 1)
        return Record(event.to_json(), origin_headers(header, header.first), self._id(header))

    def _rows(self, kind: Kind, count: int) -> Header:
        """The header of the next rows, which are thereby numbered."""
        first = self._next_row
        self._next_row = first + count
        return Header(self._site, self._edge, self.machine, kind, self._epoch, first, count)

    def _id(self, header: Header) -> str:
        return f"{self._site}/{self._edge}/{self._epoch.hex()}/{header.first}"
