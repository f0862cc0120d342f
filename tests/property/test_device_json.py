"""Whatever bytes a device sends, the answer is columns, rejects or Rejected; and accepted rows are within limits."""

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from shared.device_json import AHEAD_US, EARLIEST_US, Parsed, parse_device
from shared.errors import Rejected
from shared.names import DeviceTopic
from shared.units import UNITS

TOPIC = DeviceTopic("s1", "m1", "x")
NOW_US = 1_800_000_000_000_000

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
readings = st.fixed_dictionaries(
    {},
    optional={
        "ts": st.integers(1_699_999_999_999, 1_700_000_000_001) | scalars,
        "value": st.floats() | anything,
        "unit": st.sampled_from(sorted(UNITS)) | anything,
        "quality": st.sampled_from(["good", "uncertain", "bad"]) | anything,
    },
)


def check(payload: bytes) -> Parsed | None:
    try:
        parsed = parse_device(TOPIC, payload, now_us=NOW_US)
    except Rejected:
        return None
    columns = parsed.readings
    assert np.isfinite(columns.value).all()
    assert ((columns.time_us >= EARLIEST_US) & (columns.time_us <= NOW_US + AHEAD_US)).all()
    assert set(columns.units) <= set(UNITS)
    assert (
        len(columns)
        == len(columns.sensor)
        == len(columns.time_us)
        == len(columns.quality)
        == len(columns.value)
    )
    return parsed


@given(st.binary())
def test_any_bytes(payload: bytes) -> None:
    check(payload)


@given(anything)
def test_any_json(value: object) -> None:
    check(orjson.dumps(value))


@given(st.lists(readings, min_size=1, max_size=20))
def test_every_item_is_a_row_or_a_reject(items: list[dict[str, object]]) -> None:
    parsed = check(orjson.dumps(items))
    assert parsed is not None
    assert len(parsed.readings) + len(parsed.rejects) == len(items)
    assert all(reject.reason for reject in parsed.rejects)
