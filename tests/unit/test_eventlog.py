import socket
import time

import pytest

from shared.errors import Misconfigured, Unavailable
from shared.eventlog import LogWaits, Record, open_event_log


@pytest.mark.parametrize("url", ["ftp://h:1", "h:1", "", "nats"])
async def test_a_scheme_with_no_log_is_misconfigured(url: str) -> None:
    with pytest.raises(Misconfigured, match="no event log for") as caught:
        async with open_event_log(url):
            pass
    assert "nats://" in caught.value.hint


async def test_the_connect_time_out_can_be_chosen() -> None:
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable):
            async with open_event_log(url, waits=LogWaits(connect=0.1)):
                pass
    assert time.monotonic() - started < 4


def test_a_record_needs_only_its_value() -> None:
    assert (Record(b"x").headers, Record(b"x").id) == ({}, "")
