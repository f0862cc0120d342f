import numpy as np
import orjson
import pytest

from shared.errors import Misconfigured
from shared.grid import Grid, cell_numbers, grid_frame
from shared.states import StateSpec
from shared.windows import (
    PREPARATION_VERSION,
    GridSpec,
    Operating,
    is_known_preparation,
    preparation_hash,
)

SPEC = GridSpec(("a", "b"), step_us=10, window=3, max_age=2, lateness=2)


def add(grid: Grid, *rows: tuple[int, int, float], quality: int = 0) -> None:
    sensor, time_us, value = zip(*rows, strict=True)
    grid.add(sensor, time_us, value, [quality] * len(rows))


def test_a_cell_takes_the_rows_after_the_last_edge_up_to_its_own() -> None:
    assert cell_numbers([0, 1, 10, 11, -1, -10], 10).tolist() == [0, 1, 1, 2, 0, -1]


def test_a_cell_is_the_mean_of_its_rows_that_are_not_bad() -> None:
    grid = Grid(SPEC)
    add(grid, (0, 1, 2.0), (0, 10, 4.0), (1, 5, 7.0))
    add(grid, (0, 9, 900.0), quality=2)
    add(grid, (0, 8, 6.0), quality=1)
    add(grid, (0, 30, 1.0))
    windows = grid.close()
    assert windows.times_us.tolist() == [10]
    assert windows.values[0, -1].tolist() == [4.0, 7.0]


def test_rows_of_foreign_sensors_and_not_finite_ones_change_nothing() -> None:
    foreign = Grid(SPEC)
    add(foreign, (-1, 500, 3.0))
    assert foreign.watermark_us is None
    assert len(foreign.close(10_000)) == 0
    grid = Grid(SPEC)
    add(grid, (0, 5, float("nan")), (1, 5, float("inf")))
    assert grid.watermark_us == 5
    assert len(grid.close(10_000)) == 0


def test_an_empty_cell_holds_the_last_one_for_max_age_steps() -> None:
    cells = grid_frame(
        SPEC, [10, 20, 30, 40, 50], np.column_stack([[1, np.nan, np.nan, np.nan, 2], np.full(5, 5.0)])
    )
    np.testing.assert_array_equal(cells.cells[:, 0], [1, 1, 1, np.nan, 2])


def test_a_window_closes_two_steps_after_event_time_and_never_again() -> None:
    grid = Grid(SPEC)
    add(grid, (0, 10, 1.0), (1, 10, 1.0), (0, 29, 1.0))
    assert len(grid.close()) == 0
    add(grid, (0, 30, 1.0))
    assert grid.close().times_us.tolist() == [10]
    assert len(grid.close()) == 0
    add(grid, (0, 10, 5.0), (1, 10, 5.0), (1, 11, 5.0))
    assert grid.late == 2
    assert grid.close(40).times_us.tolist() == [20]


def test_the_clock_closes_what_is_left_of_a_silent_machine_and_then_stops() -> None:
    grid = Grid(SPEC)
    add(grid, (0, 10, 1.0), (1, 10, 1.0))
    windows = grid.close(10**12)
    assert len(windows) == 1 + SPEC.reach
    assert np.isnan(windows.values[-1]).all()
    assert not windows.scorable[-1]
    assert len(grid.close(10**13)) == 0


def test_a_gap_of_a_year_costs_a_window_length_and_restarts_with_empty_cells() -> None:
    year = 365 * 86_400_000_000
    cells = grid_frame(SPEC, [10, 20, 30, year + 10, year + 20, year + 30], np.ones((6, 2)))
    assert len(cells) == 3 + SPEC.reach + 3
    after = cells.gather(np.array([len(cells) - 3]))
    assert np.isnan(after.values[0, :2]).all()


def test_a_window_with_more_than_a_fifth_masked_is_not_scorable() -> None:
    spec = GridSpec(("a",), step_us=10, window=5, max_age=0)
    table = [[1.0], [1.0], [1.0], [1.0], [np.nan], [np.nan]]
    table += [[1.0]]
    (windows,) = grid_frame(spec, range(10, 80, 10), table).windows()
    assert windows.masked.tolist() == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2, 0.4, 0.4])
    assert windows.scorable.tolist() == [False, False, False, True, True, False, False]


def test_windows_out_of_the_learnt_operating_range_or_unsettled_are_not_scorable() -> None:
    spec = GridSpec(("a", "b"), 10, window=2, operating=Operating("b", 1.0, 2.0, settle=1))
    point = [1.5, 1.5, 9.0, 1.5, 1.5, 1.5, np.nan, 1.5]
    table = np.column_stack([np.ones(8), point])
    (batch,) = grid_frame(spec, np.arange(10, 90, 10), table).windows()
    assert batch.scorable.tolist() == [False, True, False, False, False, True, True, True]
    grid = Grid(spec)
    seen = []
    for time_us, row in zip(range(10, 90, 10), table, strict=True):
        present = np.flatnonzero(~np.isnan(row))
        grid.add(present, [time_us] * len(present), row[present], [0] * len(present))
        seen += grid.close().scorable.tolist()
    assert seen == batch.scorable.tolist()[: len(seen)]


def test_a_range_is_left_by_cells_in_a_row_beyond_its_margin_and_entered_within_it() -> None:
    range_ = Operating("b", 1.0, 2.0, settle=1, below=0.5, above=0.25, leave=3)
    spec = GridSpec(("a", "b"), 10, window=2, operating=range_)
    hair, far, gone = [1.5, 0.6, 2.2], [9.0, 9.0, 0.7, 1.5], [0.2, np.nan, 9.0, 0.2]
    back = [0.6, np.nan, 2.2, 1.5, 1.5, 0.6, 1.5]  # within the margin is not back yet, nor is silence
    point = hair + far + gone + back
    scored = [False, True, True] + [False, False, True, True] + [False] * 4 + [False] * 5 + [True] * 2
    table = np.column_stack([np.ones(len(point)), point])
    times = np.arange(10, 10 + 10 * len(point), 10)
    (batch,) = grid_frame(spec, times, table).windows()
    assert batch.scorable.tolist() == scored
    grid, seen = Grid(spec), []
    for time_us, row in zip(times.tolist(), table, strict=True):
        present = np.flatnonzero(~np.isnan(row))
        grid.add(present, [time_us] * len(present), row[present], [0] * len(present))
        seen += grid.close().scorable.tolist()
        grid = Grid.from_json(spec, grid.to_json())  # a restart after each row
    assert seen == scored[: len(seen)]
    assert len(seen) == len(point) - 2
    posted = np.array(
        [[1.5, 0.6, 1.5], [9.0, 9.0, 1.5], [1.5, 1.5, 9.0], [9.0, 9.0, 9.0], [np.nan, 1.5, np.nan]]
    )
    windows = np.stack([np.ones(posted.shape), posted], axis=2)
    assert spec.learnt(windows).tolist() == [True, True, False, False, True]


def test_the_state_of_a_grid_that_an_earlier_release_kept_is_read() -> None:
    kept = orjson.loads(Grid(SPEC).to_json())
    assert len(kept["run"]) == 7
    kept["run"].pop()
    assert Grid.from_json(SPEC, orjson.dumps(kept)).to_json() == Grid(SPEC).to_json()


def test_chunks_and_gathering_give_the_same_windows() -> None:
    table = np.random.default_rng(1).normal(size=(50, 2))
    cells = grid_frame(SPEC, np.arange(50) * 10, table)
    parts = list(cells.windows(5, 40, chunk=7))
    np.testing.assert_array_equal(
        np.concatenate([part.values for part in parts]), cells.gather(np.arange(5, 40)).values
    )
    assert len(grid_frame(SPEC, [], np.zeros((0, 2)))) == 0


def test_a_grid_that_can_t_be_is_refused_with_a_hint() -> None:
    with pytest.raises(Misconfigured, match="hint: give at least one sensor"):
        GridSpec((), 10, 3)
    with pytest.raises(Misconfigured, match="operating sensor"):
        GridSpec(("a",), 10, 3, operating=Operating("speed", 0, 1, 3))


def test_the_rules_have_a_hash_that_stays() -> None:
    # A change of the rules must raise PREPARATION_VERSION: models in the field were made for the old ones.
    assert PREPARATION_VERSION == 3
    first = "0ffedd5eecb6c318f6c23cbda765e99019a9e106a530082e575a47b316a92065"
    assert preparation_hash(1) == first
    assert preparation_hash(2) == "65b11175842e298fdc0f2799a2169f92ad966d0bba1c558268929cbb84f85250"
    assert preparation_hash() == "af54233c9a67a6f796bccaf975586700d8cc4a4a7a357934bdbbfee67aa1881e"
    assert is_known_preparation(1, first)
    assert not is_known_preparation(2, first)
    assert not is_known_preparation(4, first)


def test_windows_that_are_not_steady_at_one_learnt_set_point_are_not_scorable() -> None:
    states = StateSpec("b", 0.5, ((1.0, 2.0), (5.0, 6.0)), 0.25, settle_us=10, taught="clusters")
    spec = GridSpec(("a", "b"), 10, window=2, states=states)
    point = [1.5, 2.2, 1.5, 5.5, 5.5, 5.5, np.nan, 5.5, 0.0, 0.6, 1.5, 1.5, 1.5, 3.5, 3.5, 3.5, 1.5, 1.5, 1.5]
    table = np.column_stack([np.ones(len(point)), point])
    times = np.arange(10, 10 + 10 * len(point), 10)
    wanted = [False, True, True, False, False, True, True, True, *[False] * 4, True, *[False] * 5, True]
    (batch,) = grid_frame(spec, times, table).windows()
    assert batch.scorable.tolist() == wanted
    grid, seen = Grid(spec), []
    for time_us, row in zip(times.tolist(), table, strict=True):
        present = np.flatnonzero(~np.isnan(row))
        grid.add(present, [time_us] * len(present), row[present], [0] * len(present))
        seen += grid.close().scorable.tolist()
        grid = Grid.from_json(spec, grid.to_json())  # a restart after each row
    assert seen == wanted[: len(seen)]
    assert len(seen) == len(point) - 2
    windows = np.stack([table[[0, 1]], table[[2, 3]], table[[5, 6]], table[[7, 8]], table[[13, 14]]])
    assert spec.learnt(windows).tolist() == [True, False, True, False, False]
