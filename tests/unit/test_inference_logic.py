"""From rows and windows to scores, as posted: the edge's own figures, and a reason for each window without one."""

import re
from typing import Any

import numpy as np
import pytest

from cloud.inference.logic import Asked, columns, of_rows, of_stored, of_windows
from cloud.inference.schemas import Gridded, Rows
from edge.scoring import MachineScoring
from shared.artifact import unpack
from shared.errors import Rejected
from shared.frames import Kind, Quality, Scores, slice_readings
from shared.loaded import Desired, LoadedModel, load_model
from shared.packing import join
from tests import models as small
from tests.unit.edge_models import SECOND, SENSORS, START, UNITS, loaded, plant, rows

WINDOW = 8
TABLE = plant(120, 3, fault_from=100)
TIMES = [START + row * SECOND for row in range(len(TABLE))]
UNIT_OF = dict(zip(SENSORS, UNITS, strict=True))


def posted(table: Any = TABLE, times: Any = None, units: dict[str, str] | None = None) -> Rows:  # noqa: ANN401 - arrays
    times = TIMES[: len(table)] if times is None else times
    values = {name: _column(table[:, at]) for at, name in enumerate(SENSORS)}
    return Rows(time_us=times, values=values, units=UNIT_OF if units is None else units)


def _column(values: Any) -> list[float | None]:  # noqa: ANN401 - an array
    return [None if np.isnan(value) else float(value) for value in values]


def answer(asked: Asked, model: LoadedModel | None = None) -> dict[str, Any]:
    model = model or loaded()
    chosen = asked.chosen
    scores = model.scorer.score(asked.windows.values[chosen]) if len(chosen) else None
    return columns(model, "pump", asked, scores)


def at_the_edge() -> Scores:
    """The scores of an edge that is told row by row, and so has one window at a time."""
    scoring = MachineScoring("e1", "pump", {}, None)
    scoring.install(loaded(), START)
    everything = rows(TABLE)
    width = len(SENSORS)
    parts = [
        item.body
        for row in range(len(TABLE))
        for item in scoring.take(slice_readings(everything, row * width, (row + 1) * width)).items
        if item.kind is Kind.SCORES
    ]
    body = join(parts)
    assert isinstance(body, Scores)
    return body


def test_one_window_at_a_time_is_the_edges_score_bit_for_bit() -> None:
    edge = at_the_edge()
    places = {time: at for at, time in enumerate(edge.time_us.tolist())}
    compared = 0
    for last in range(WINDOW, 110):
        found = answer(of_rows(loaded().manifest, posted(TABLE[: last + 1]), 1))
        at = places[found["time_us"][0]]
        assert np.float32(found["score"][0]) == edge.score[at]
        assert (found["state"][0] == "alarm") == (edge.state[at] == 1)
        for number, name in enumerate(SENSORS):
            assert np.float32(found["sensors"][name]["contribution"][0]) == edge.contribution[at, number]
            assert found["sensors"][name]["expected"][0] == edge.expected[at, number]
        compared += 1
    assert compared == 102


def test_many_windows_at_once_differ_by_a_millionth_at_most() -> None:
    edge = at_the_edge()
    found = answer(of_rows(loaded().manifest, posted(), 100))
    chosen = [at for at, time in enumerate(edge.time_us.tolist()) if time in set(found["time_us"])]
    got = np.array(found["score"][: len(chosen)])
    np.testing.assert_allclose(got, edge.score[chosen], rtol=1e-6)


def test_windows_on_the_grid_are_scored_in_any_order_of_their_columns() -> None:
    manifest = loaded().manifest
    asked = of_rows(manifest, posted(), 5)
    order = [2, 0, 1]
    again = of_windows(
        manifest,
        Gridded(
            time_us=asked.windows.times_us.tolist(),
            sensors=[SENSORS[at] for at in order],
            values=asked.windows.values[:, :, order].tolist(),
            units=UNIT_OF,
        ),
    )
    assert answer(again) == answer(asked)


def test_a_fault_alarms_and_names_its_sensor_with_what_was_expected() -> None:
    found = answer(of_rows(loaded().manifest, posted(), 1))
    hot = found["sensors"]["temperature"]
    assert found["state"] == ["alarm"]
    assert found["score"][0] > found["limit"]
    assert hot["contribution"][0] > 0.5
    assert hot["seen"][0] > hot["expected"][0] + 5
    assert hot["unit"] == "degC"
    assert found["model"]["window"] == WINDOW


def test_a_window_with_too_many_empty_cells_has_a_reason_and_no_score() -> None:
    table = TABLE[:40].copy()
    table[30:, 1] = np.nan
    found = answer(of_rows(loaded().manifest, posted(table), 3))
    assert found["state"] == ["unscored"] * 3
    assert found["reason"] == ["mask"] * 3
    assert "has no reading" in found["detail"][0]
    assert found["score"] == [None] * 3
    assert found["sensors"]["flow"]["seen"] == [None] * 3


@pytest.mark.parametrize(
    ("rows_", "reason", "words"),
    [
        (posted(units={**UNIT_OF, "flow": "m3/h"}), "unit", "needs flow in l/min, the machine sends m3/h"),
        (posted(times=[START + row * 3 * SECOND for row in range(120)]), "rate", "every 1 s.*every 3 s"),
        (Rows(time_us=TIMES, values={"flow": [1.0] * 120}), "sensor", "needs power, temperature"),
    ],
)
def test_a_machine_that_cant_feed_the_model_is_told_why(rows_: Rows, reason: str, words: str) -> None:
    found = answer(of_rows(loaded().manifest, rows_, 2))
    assert set(found["reason"]) == {reason}
    assert re.search(words, found["detail"][0])
    assert found["score"] == [None, None]


def test_what_the_model_does_not_know_is_named_and_left_alone() -> None:
    more = Rows(
        time_us=TIMES,
        values={**posted().values, "colour": [None] * 120},
        units={**UNIT_OF, "colour": "1"},
    )
    plain, other = (
        answer(of_rows(loaded().manifest, posted(), 4)),
        answer(of_rows(loaded().manifest, more, 4)),
    )
    assert other.pop("ignored") == ["colour"]
    assert plain.pop("ignored") == []
    assert other == plain


def test_windows_of_another_length_are_refused() -> None:
    short = Gridded(time_us=[START], sensors=list(SENSORS), values=[[[1.0, 1.0, 1.0]]])
    with pytest.raises(Rejected, match="have 8 rows, these 1"):
        of_windows(loaded().manifest, short)


def test_an_operating_point_that_was_not_learnt_is_not_judged() -> None:
    data = small.packed("speed")
    digest = unpack(data).version_hash
    model = load_model(Desired("m", 1, digest, digest), data)
    window = model.manifest.grid.window
    table = np.tile(small.healthy(37, 5)[:1], (window, 1))
    table[:, 0] = 5000.0
    found = of_windows(
        model.manifest,
        Gridded(time_us=[START], sensors=list(small.SENSORS), values=[table.tolist()]),
    )
    assert answer(found, model)["reason"] == ["operating-point"]


def test_rows_from_long_ago_cost_nothing() -> None:
    """A row a year, and a thousand columns' worth of gap between them: only what the newest window needs is gridded."""
    times = [START + row * 86_400 * SECOND for row in range(300)]
    found = of_rows(loaded().manifest, posted(np.repeat(TABLE[:1], 300, axis=0), times), 4)
    assert len(found.windows) <= 4


def test_stored_rows_give_the_windows_that_they_close() -> None:
    readings = rows(TABLE)
    asked = of_stored(loaded().manifest, readings, UNIT_OF, 3)
    edge = at_the_edge()
    assert asked.windows.times_us.tolist() == edge.time_us[-3:].tolist()
    one = of_stored(loaded().manifest, readings, UNIT_OF, 1)
    assert np.float32(answer(one)["score"][0]) == edge.score[-1]


def test_stored_rows_that_are_bad_or_in_another_unit_fill_no_cell() -> None:
    readings = rows(TABLE[:40])
    readings.quality[readings.sensor == 1] = Quality.BAD
    bad = of_stored(loaded().manifest, readings, UNIT_OF, 1)
    assert answer(bad)["reason"] == ["mask"]
    foreign = rows(TABLE[:40], units=("m3/h", "kW", "degC"))
    asked = of_stored(loaded().manifest, foreign, {**UNIT_OF, "flow": "m3/h"}, 1)
    assert answer(asked)["reason"] == ["unit"]
