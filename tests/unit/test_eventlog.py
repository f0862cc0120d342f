import pytest

from shared.errors import Misconfigured
from shared.eventlog import Record, open_event_log


@pytest.mark.parametrize("url", ["kafka://h:1", "h:1", "", "nats"])
async def test_a_scheme_with_no_log_is_misconfigured(url: str) -> None:
    with pytest.raises(Misconfigured, match="no event log for") as caught:
        async with open_event_log(url):
            pass
    assert "nats://" in caught.value.hint


def test_a_record_needs_only_its_value() -> None:
    assert (Record(b"x").headers, Record(b"x").id) == ({}, "")
