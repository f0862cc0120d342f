import pytest

from shared.ranges import RangeSet


def test_adjacent_and_overlapping_ranges_merge() -> None:
    made = RangeSet([(1, 3), (7, 9), (4, 4)])
    assert list(made) == [(1, 4), (7, 9)]
    assert made.add(3, 8) == 2
    assert list(made) == [(1, 9)]
    assert len(made) == 9


def test_gaps_are_named_inside_the_asked_range_only() -> None:
    made = RangeSet([(3, 4), (8, 8), (20, 30)])
    assert made.gaps(1, 10) == [(1, 2), (5, 7), (9, 10)]
    assert made.gaps(3, 4) == []
    assert made.gaps(5, 6) == [(5, 6)]
    assert made.gaps(25, 31) == [(31, 31)]


def test_an_empty_range_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="range 5 to 4 is empty"):
        RangeSet([(5, 4)])


def test_equality_and_text() -> None:
    assert RangeSet([(1, 2)]) == RangeSet([(2, 2), (1, 1)])
    assert RangeSet() != {1, 2}
    assert repr(RangeSet([(1, 2)])) == "RangeSet([(1, 2)])"
    with pytest.raises(TypeError, match="unhashable"):
        hash(RangeSet())
