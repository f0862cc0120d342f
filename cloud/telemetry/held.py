"""Which rows of one source a store holds, and which of a range it would take. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.ranges import Range, RangeSet


@dataclass(slots=True)
class Held:
    """A source's rows: as content, and as rejected.

    Content outranks a refusal: rows that were refused, sent again and accepted are held as content from then on,
    whichever came first.
    """

    stored: RangeSet = field(default_factory=RangeSet)
    rejected: RangeSet = field(default_factory=RangeSet)

    def fresh(self, first: int, last: int, *, refused: bool) -> list[Range]:
        """The parts of a range that are not held: of `refused` rows in no way, of others as content."""
        if self.stored.covers(first, last):
            return []
        missing = self.stored.gaps(first, last)
        return [part for gap in missing for part in self.rejected.gaps(*gap)] if refused else missing

    def add(self, first: int, last: int, *, refused: bool) -> bool:
        """Hold a range from now on; whether rejected rows became content by it."""
        if refused:
            self.rejected.add(first, last)
            return False
        self.stored.add(first, last)
        if not self.rejected.overlap(first, last):
            return False
        self.rejected = RangeSet(part for old in self.rejected for part in outside(old, first, last))
        return True

    def copy(self) -> "Held":
        """The same rows, to be changed apart."""
        return Held(RangeSet(self.stored), RangeSet(self.rejected))


def outside(old: Range, first: int, last: int) -> Iterator[Range]:
    """The parts of a range that are not in `first` to `last`."""
    if old[0] <= min(old[1], first - 1):
        yield old[0], min(old[1], first - 1)
    if max(old[0], last + 1) <= old[1]:
        yield max(old[0], last + 1), old[1]
