"""RangeSet against a plain set of integers."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from shared.ranges import RangeSet

spans = st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def numbers(first: int, last: int) -> set[int]:
    return set(range(first, last + 1))


@given(ranges=st.lists(spans, max_size=25), asked=spans)
def test_a_range_set_is_a_set(ranges: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    model: set[int] = set()
    made = RangeSet()
    for first, last in ranges:
        fresh = numbers(first, last) - model
        assert made.add(first, last) == len(fresh)
        model |= fresh
        assert len(made) == len(model)
    held = list(made)
    assert set().union(*(numbers(*span) for span in held)) == model
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(held)), "sorted, disjoint, not adjacent"
    wanted = numbers(*asked)
    assert made.covers(*asked) == (wanted <= model)
    assert made.overlap(*asked) == len(wanted & model)
    gaps = made.gaps(*asked)
    assert set().union(*(numbers(*gap) for gap in gaps)) == wanted - model
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(gaps))


@given(ranges=st.lists(spans, max_size=12), seed=st.randoms(use_true_random=False))
def test_the_order_of_adding_does_not_matter(ranges: list[tuple[int, int]], seed: random.Random) -> None:
    shuffled = list(ranges)
    seed.shuffle(shuffled)
    assert RangeSet(ranges) == RangeSet([*shuffled, *ranges])
