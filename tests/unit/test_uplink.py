import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Rejected
from shared.uplink import MAX_RANGES, Ack

EPOCH = bytes(range(16))
GOOD = {"edge": "edge-01", "epoch": EPOCH.hex(), "ranges": [[1, 5], [9, 9]]}


def test_an_ack_survives_the_wire() -> None:
    ack = Ack("edge-01", EPOCH, ((1, 5), (9, 9)))
    assert Ack.decode(ack.encode()) == ack
    assert orjson.loads(ack.encode()) == GOOD


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"7",
        orjson.dumps({**GOOD, "edge": 7}),
        orjson.dumps({**GOOD, "edge": "Edge"}),
        orjson.dumps({**GOOD, "epoch": "zz"}),
        orjson.dumps({**GOOD, "epoch": "00"}),
        orjson.dumps({**GOOD, "epoch": 5}),
        orjson.dumps({**GOOD, "ranges": 5}),
        orjson.dumps({**GOOD, "ranges": [5]}),
        orjson.dumps({**GOOD, "ranges": [[1, 2, 3]]}),
        orjson.dumps({**GOOD, "ranges": ["12"]}),
        orjson.dumps({**GOOD, "ranges": [[1.0, 2.0]]}),
        orjson.dumps({**GOOD, "ranges": [[True, 2]]}),
        b'{"edge":"e","epoch":"' + EPOCH.hex().encode() + b'","ranges":[[1,1e999]]}',
        orjson.dumps({**GOOD, "ranges": [[0, 2]]}),
        orjson.dumps({**GOOD, "ranges": [[3, 2]]}),
        orjson.dumps({**GOOD, "ranges": [[1, 2**63]]}),
        orjson.dumps({**GOOD, "ranges": [[n, n] for n in range(1, MAX_RANGES + 2)]}),
        orjson.dumps({"edge": "e"}),
    ],
)
def test_what_is_no_ack_is_rejected(data: bytes) -> None:
    with pytest.raises(Rejected):
        Ack.decode(data)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    edge=json_values, epoch=json_values | st.just(EPOCH.hex()), ranges=json_values, raw=st.binary(max_size=40)
)
def test_any_json_and_any_bytes_are_rejected_or_an_ack(
    edge: object, epoch: object, ranges: object, raw: bytes
) -> None:
    for data in (orjson.dumps({"edge": edge, "epoch": epoch, "ranges": ranges}), raw):
        try:
            ack = Ack.decode(data)
        except Rejected:
            continue
        assert Ack.decode(ack.encode()) == ack
