"""The streaming grid and the batch grid are one: same rows, same cells, however the rows were batched."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.grid import Grid, grid_frame
from shared.windows import GridSpec, Operating

SENSORS = ("a", "b", "c")
Rows = list[tuple[int, list[float | None], bool]]

rows = st.lists(
    st.tuples(
        st.sampled_from([1, 3, 10, 10, 10, 11, 40, 400]),  # time step in µs to the row before
        st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=3, max_size=3),
        st.booleans(),  # close after this row
    ),
    min_size=1,
    max_size=60,
)


@given(rows=rows, window=st.integers(1, 6), max_age=st.integers(0, 4), lateness=st.integers(0, 3))
def test_streaming_closes_exactly_the_cells_of_the_batch_grid(
    rows: Rows, window: int, max_age: int, lateness: int
) -> None:
    spec = GridSpec(SENSORS, 10, window, max_age, lateness)
    times = np.cumsum([step for step, _, _ in rows])
    table = np.array([[np.nan if v is None else v for v in values] for _, values, _ in rows])
    grid = Grid(spec)
    seen = []
    for time_us, values, (_, _, close) in zip(times, table, rows, strict=True):
        present = np.flatnonzero(~np.isnan(values))
        grid.add(present, np.full(len(present), time_us), values[present], np.zeros(len(present), np.uint8))
        if close:
            seen.append(grid.close())
    # Enough clock that what is open closes, as the batch grid does at its last row.
    last = int(times[~np.isnan(table).all(axis=1)].max(initial=0))
    seen.append(grid.close(-(-last // 10) * 10 + lateness * 10))
    batch = grid_frame(spec, times, table)
    expected = list(batch.windows(chunk=7))
    got_times = np.concatenate([w.times_us for w in seen])
    assert got_times.tolist() == batch.times_us.tolist()
    if len(batch):
        np.testing.assert_array_equal(
            np.concatenate([w.values for w in seen]), np.concatenate([w.values for w in expected])
        )
        np.testing.assert_array_equal(
            np.concatenate([w.scorable for w in seen]), np.concatenate([w.scorable for w in expected])
        )
    assert grid.late == 0


@given(rows=rows, cut=st.integers(1, 59))
def test_cells_do_not_depend_on_what_comes_later(rows: Rows, cut: int) -> None:
    spec = GridSpec(SENSORS, 10, 4)
    times = np.cumsum([step for step, _, _ in rows])
    table = np.array([[np.nan if v is None else v for v in values] for _, values, _ in rows])
    cut = min(cut, len(times))
    whole, part = grid_frame(spec, times, table), grid_frame(spec, times[:cut], table[:cut])
    closed = max(len(part) - 1, 0)  # the last cell may still take rows
    assert whole.times_us[:closed].tolist() == part.times_us[:closed].tolist()
    np.testing.assert_array_equal(whole.cells[:closed], part.cells[:closed])


@given(rows=rows)
def test_a_range_with_no_margin_is_that_of_the_first_version(rows: Rows) -> None:
    spec = GridSpec(SENSORS, 10, 4, 2, operating=Operating("a", -5e5, 5e5, 2))
    times = np.cumsum([step for step, _, _ in rows])
    table = np.array([[np.nan if v is None else v for v in values] for _, values, _ in rows])
    made = grid_frame(spec, times, table)
    numbers = made.times_us // 10
    outside = np.abs(made.cells[:, 0]) > 5e5
    last = np.maximum.accumulate(np.where(outside, numbers, np.iinfo(np.int64).min // 2))
    assert made.known.tolist() == (numbers - last >= 4 + 2).tolist()


@given(
    rows=rows,
    stops=st.sets(st.integers(0, 59), max_size=5),
    lateness=st.integers(0, 3),
    leave=st.integers(1, 3),
)
def test_a_grid_goes_on_from_its_state_as_if_it_had_never_stopped(
    rows: Rows, stops: set[int], lateness: int, leave: int
) -> None:
    spec = GridSpec(SENSORS, 10, 4, 2, lateness, operating=Operating("a", -5e5, 5e5, 2, 1e5, 2e5, leave))
    times = np.cumsum([step for step, _, _ in rows])
    steady = stopped = Grid(spec)
    for number, (_, values, close) in enumerate(rows):
        table = np.array([np.nan if v is None else v for v in values])
        present = np.flatnonzero(~np.isnan(table))
        columns = (
            present,
            np.full(len(present), times[number]),
            table[present],
            np.zeros(len(present), np.uint8),
        )
        for grid in {id(steady): steady, id(stopped): stopped}.values():
            grid.add(*columns)
        if close:
            one = steady.close()
            other = one if steady is stopped else stopped.close()
            assert one.times_us.tolist() == other.times_us.tolist()
            np.testing.assert_array_equal(one.values, other.values)
            np.testing.assert_array_equal(one.scorable, other.scorable)
        if number in stops:
            stopped = Grid.from_json(spec, stopped.to_json())
    assert (steady.late, steady.watermark_us) == (stopped.late, stopped.watermark_us)
