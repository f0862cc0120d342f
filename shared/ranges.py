"""Sets of row numbers as merged, inclusive ranges: what an ack carries and what the ledger counts."""

import bisect
from collections.abc import Iterable, Iterator

Range = tuple[int, int]


class RangeSet:
    """A set of integers kept as sorted, disjoint, non-adjacent inclusive ranges."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int) -> int:
        """Add `first` to `last`; returns how many of them were new. O(log n) where ranges arrive in order."""
        if last < first:
            raise ValueError(f"range {first} to {last} is empty")
        if self._last and first == self._last[-1] + 1:  # what comes next, as nearly always
            self._last[-1] = last
            return last - first + 1
        left = bisect.bisect_left(self._last, first - 1)
        right = bisect.bisect_right(self._first, last + 1)
        old = sum(self._last[i] - self._first[i] + 1 for i in range(left, right))
        if left < right:
            first, last = min(first, self._first[left]), max(last, self._last[right - 1])
        self._first[left:right] = [first]
        self._last[left:right] = [last]
        return last - first + 1 - old

    def covers(self, first: int, last: int) -> bool:
        """Whether every number from `first` to `last` is in the set."""
        at = bisect.bisect_right(self._first, first) - 1
        return at >= 0 and self._last[at] >= last

    def overlap(self, first: int, last: int) -> int:
        """How many numbers from `first` to `last` are in the set."""
        at = bisect.bisect_left(self._last, first)
        total = 0
        while at < len(self._first) and self._first[at] <= last:
            total += min(last, self._last[at]) - max(first, self._first[at]) + 1
            at += 1
        return total

    def gaps(self, first: int, last: int) -> list[Range]:
        """The ranges from `first` to `last` that are not in the set."""
        missing: list[Range] = []
        at = first
        for index in range(bisect.bisect_left(self._last, first), len(self._first)):
            low, high = self._first[index], self._last[index]
            if low > last:
                break
            if low > at:
                missing.append((at, low - 1))
            at = high + 1
        if at <= last:
            missing.append((at, last))
        return missing

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._first, self._last, strict=True))

    def __len__(self) -> int:
        """How many numbers are in the set."""
        return sum(last - first + 1 for first, last in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"
