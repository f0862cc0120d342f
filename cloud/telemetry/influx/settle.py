"""The identity rule where rows meet: with each other, or with what is stored. Pure.

Nearly every row is newer than all of its series and takes the short way; this is the long one, a row at a time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cloud.telemetry.port import WriteResult

Identity = tuple[int, int]
"""Series and time in µs."""
Payload = tuple[object, ...]
Rank = tuple[int, bytes, int]
"""Arrival, epoch, row: of rows with one identity the highest stays. What has no arrival time of its own has 0."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row with what it is judged by. `payload`: what must be equal in a duplicate, its unit included."""

    identity: Identity
    payload: Payload
    rank: Rank
    source: int
    origin: int

    @property
    def place(self) -> tuple[int, int]:
        """Whose row it is: source and number."""
        return self.source, self.rank[2]


@dataclass(slots=True)
class Settled:
    """What the rule came to.

    `changed`: rows that are new for their identity; `write`: those of which no point is there yet; `before`: what points
    are to overwrite and is not noted; `conflicts`: pairs (kept, lost); `done`: every identity that was judged.
    """

    changed: list[Row] = field(default_factory=list)
    write: list[Row] = field(default_factory=list)
    before: list[Row] = field(default_factory=list)
    conflicts: list[tuple[Row, Row]] = field(default_factory=list)
    done: list[Identity] = field(default_factory=list)


def settle(
    rows: Iterable[tuple[Row, WriteResult]],
    stored: Mapping[Identity, Row],
    noted: Mapping[Identity, Row],
    held: Callable[[Row], bool],
) -> Settled:
    """Apply the rule to rows in the order in which they came, counting them in their results.

    Args:
        rows: New rows with the counts of their source.
        stored: The points that are there now.
        noted: Points as they were before a write that was not settled: they stand for what is there now.
        held: Whether the books knew a stored point's row before this batch. If not, a write that was not settled left
            it, and its row comes again: it does not count.
    """
    settled = Settled()
    kept: dict[Identity, Row] = {}
    old: dict[Identity, Row | None] = {}
    for row, result in rows:
        key = row.identity
        if key not in old:
            point = noted.get(key) or stored.get(key)
            old[key] = point if point is not None and held(point) else None
        kept[key] = _judge(row, kept.get(key, old[key]), result, settled.conflicts)
    for key, winner in kept.items():
        there, before = stored.get(key), old[key]
        if winner is not before:
            settled.changed.append(winner)
        if there is None or there.place != winner.place:
            settled.write.append(winner)
            if before is not None and key not in noted:
                settled.before.append(before)
    settled.done += kept
    return settled


def _judge(row: Row, current: Row | None, result: WriteResult, conflicts: list[tuple[Row, Row]]) -> Row:
    """Which of two rows stays; the new one is counted."""
    if current is None:
        result.rows += 1
        return row
    wins = row.rank > current.rank
    if row.payload == current.payload:
        result.duplicates += 1
    else:
        result.conflicts += 1
        conflicts.append((row, current) if wins else (current, row))
    # A duplicate that wins stays too: only then does the outcome not depend on the order of three rows.
    return row if wins else current
