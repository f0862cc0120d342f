"""What a turn of the host comes to: rows and letters by machine, commands, and how many of what."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.sparkplug.names import Home
from gateway.sparkplug.numbering import Numbering
from shared import names
from shared.dead_letter import DeadLetter
from shared.eventlog import Record
from shared.events import Event
from shared.sparkplug.translate import Row


@dataclass(frozen=True, slots=True)
class Write:
    """Records of one topic and key, in order."""

    topic: str
    key: str
    records: Sequence[Record]


@dataclass(slots=True)
class Gathered:
    """A turn's work. `fates` counts messages by what became of them, `samples` metrics' values likewise.

    `commands`: topic and payload, for the nodes. `announce`: the host's STATE is to be published again.
    """

    rows: dict[Home, list[Row]] = field(default_factory=dict)
    events: dict[Home, list[Event]] = field(default_factory=dict)
    letters: dict[str, list[Record]] = field(default_factory=dict)
    commands: list[tuple[str, bytes]] = field(default_factory=list)
    announce: bool = False
    gaps: int = 0
    missed: int = 0
    told: list[str] = field(default_factory=list)
    fates: Counter[str] = field(default_factory=Counter)
    samples: Counter[str] = field(default_factory=Counter)

    def row(self, home: Home, row: Row) -> None:
        """Keep a reading."""
        self.rows.setdefault(home, []).append(row)

    def event(self, home: Home, event: Event) -> None:
        """Keep an event."""
        self.events.setdefault(home, []).append(event)

    def letter(self, key: str, reason: str, topic: str, payload: bytes, *, source: str, now_us: int) -> None:
        """Keep a dead letter. The same bytes on the same topic, sent again soon, are one letter."""
        letter = DeadLetter.of(reason, topic, payload, source=source, received_us=now_us)
        digest = hashlib.blake2b(topic.encode("utf-8", "replace") + b"\0" + payload, digest_size=16)
        record = Record(letter.encode(), id=f"{source}/refused/{digest.hexdigest()}")
        self.letters.setdefault(key, []).append(record)

    def writes(self, numbering: Numbering, now_us: int) -> list[Write]:
        """All of it as records. Rows are numbered now: append these before the next turn's."""
        made = [
            Write(names.SENSOR_READINGS, home.machine, numbering.frames(home, rows, now_us))
            for home, rows in self.rows.items()
        ]
        made += [
            Write(names.MACHINE_EVENTS, home.machine, numbering.events(home, events))
            for home, events in self.events.items()
        ]
        return made + [Write(names.DEAD_LETTER, key, records) for key, records in self.letters.items()]
