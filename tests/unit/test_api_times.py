import pytest

from cloud.api.times import moment, span
from cloud.telemetry.port import END_US
from shared.errors import Rejected

NOW = 1_750_000_000_000_000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", 0),
        (str(NOW), NOW),
        ("now", NOW),
        ("-90s", NOW - 90_000_000),
        ("-15m", NOW - 900_000_000),
        ("-24h", NOW - 86_400_000_000),
        ("-7d", NOW - 7 * 86_400_000_000),
        ("-999999999d", 0),
        ("2025-06-15T15:06:40Z", NOW),
        ("2025-06-15T17:06:40.5+02:00", NOW + 500_000),
        ("2025-06-15T17:06:40 02:00", NOW),
    ],
)
def test_a_time(text: str, found: int) -> None:
    assert moment(text, NOW, "from") == found


@pytest.mark.parametrize(
    "text",
    ["", "-1", "15m", "-15w", "yesterday", "2025-06-15T15:06:40", "9" * 19, "9" * 30, "1e9", "-\uff15m"],
)
def test_no_time(text: str) -> None:
    with pytest.raises(Rejected, match=r"^to: "):
        moment(text, NOW, "to")


def test_a_span() -> None:
    assert span("-1s", "now", NOW) == (NOW - 1_000_000, NOW)
    assert span("0", str(END_US), NOW) == (0, END_US)
    with pytest.raises(Rejected):
        span("now", "-1s", NOW)
