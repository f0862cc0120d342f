"""The judge itself: what is missing, altered or invented does not pass."""

import pytest

from tests.faults.judge import Verdict, _compare
from tests.faults.load import Device, Identity

ROWS = [Identity("m1", "flow", n) for n in range(5)]
ALL = {row: float(n) for n, row in enumerate(ROWS)}


def device(machine: str = "m1") -> Device:
    made = Device(machine, "mqtt://127.0.0.1:1", "im:secret", seed="1", per_second=1)
    rows = [row._replace(machine=machine) for row in ROWS]
    made.sent = dict(zip(rows, ALL.values(), strict=True))
    made.confirmed = [tuple(rows[:2]), tuple(rows[2:4])]
    return made


def test_all_there_is_clean_whether_the_unconfirmed_came_or_not() -> None:
    for held in (ALL, {row: ALL[row] for row in ROWS[:4]}):
        verdict = Verdict()
        _compare(device(), held, held, verdict)
        verdict.assert_clean()
        assert verdict.promised == 4


@pytest.mark.parametrize(
    ("logged", "stored", "fault"),
    [
        ({row: ALL[row] for row in ROWS[1:]}, ALL, "log: 1 missing"),
        (ALL, {row: ALL[row] for row in ROWS[:3]}, "store: 1 missing"),
        (ALL, ALL | {ROWS[2]: 9.0}, "store: 1 that nobody sent"),
        (ALL | {Identity("m1", "flow", 99): 1.0}, ALL, "log: 1 that nobody sent"),
        (ALL, {row: ALL[row] for row in ROWS[:4]}, "1 in the log and not in the store"),
    ],
)
def test_what_is_missing_or_wrong_is_a_fault(
    logged: dict[Identity, float], stored: dict[Identity, float], fault: str
) -> None:
    verdict = Verdict()
    _compare(device(), logged, stored, verdict)
    assert any(fault in each for each in verdict.faults), verdict
    with pytest.raises(AssertionError, match="faults"):
        verdict.assert_clean()


def test_a_machine_with_no_edge_may_lose_what_its_bound_allows() -> None:
    held = {row._replace(machine="d1"): value for row, value in ALL.items() if value}
    verdict = Verdict()
    _compare(device("d1"), held, held, verdict)
    assert verdict.lost == {"d1": 1}
    verdict.assert_clean(direct_bound=1)
    with pytest.raises(AssertionError, match="d1 lost 1"):
        verdict.assert_clean()
