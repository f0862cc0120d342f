"""The parts of the log on Kafka that need no broker."""

import asyncio
import socket
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from industrialmind.cli import app
from shared.errors import Misconfigured, Rejected, Unavailable
from shared.eventlog import LogWaits, Record, open_event_log
from shared.kafka.connection import KafkaOptions, Link, Thread, client_config
from shared.kafka.producer import _PIECE, _PIECE_BYTES, _pieces
from shared.kafka.records import as_position, check_size, next_offsets
from shared.kafka.shares import Shares
from shared.kafka.topics import ensure_topics


@pytest.mark.parametrize(
    "url",
    ["http://h", "kafka://", "kafka://h,", "kafka://h:x", "kafka://h/x", "kafka://h?a=1", "kafka://h?security=tls",
     "kafka://u:p@h", "kafka://:1"],
)  # fmt: skip
def test_a_url_that_names_no_cluster_is_misconfigured(url: str) -> None:
    with pytest.raises(Misconfigured, match="kafka://HOST:PORT"):
        client_config(url, "")


@pytest.mark.parametrize("credentials", ["user", "user:", ":password"])
def test_half_credentials_are_misconfigured(credentials: str) -> None:
    with pytest.raises(Misconfigured, match="USER:PASSWORD") as raised:
        client_config("kafka://h", credentials)
    assert "password" not in str(raised.value)


def test_the_url_says_how_the_brokers_are_reached() -> None:
    plain = client_config("kafka://a,b:9,[::1]:7", "")
    assert (plain["bootstrap.servers"], plain["security.protocol"]) == ("a:9092,b:9,[::1]:7", "PLAINTEXT")
    assert "sasl.username" not in plain
    secured = client_config("kafka://a?security=ssl&ca=ca.pem", "me:a:b")
    assert (secured["security.protocol"], secured["ssl.ca.location"]) == ("SASL_SSL", "ca.pem")
    assert (secured["sasl.mechanism"], secured["sasl.username"], secured["sasl.password"]) == (
        "PLAIN",
        "me",
        "a:b",
    )
    assert client_config("kafka://a", "me:x")["security.protocol"] == "SASL_PLAINTEXT"
    assert client_config("kafka://a?security=ssl", "")["security.protocol"] == "SSL"


async def test_a_log_that_says_nothing_is_unavailable_in_time() -> None:
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"kafka://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match="does not answer"):
            async with open_event_log(url, waits=LogWaits(connect=0.2)):
                pass
        with pytest.raises(Unavailable):
            await ensure_topics(url, options=KafkaOptions(connect=0.1))
    assert time.monotonic() - began < 10


async def test_topics_without_partitions_are_misconfigured() -> None:
    with pytest.raises(Misconfigured, match="needs a partition"):
        await ensure_topics("kafka://h", named={"x": 0})


@pytest.mark.parametrize("partitions", ["0", "x", "scores=", "scores=0", "=", "-1", "²"])
def test_the_command_takes_numbers_of_partitions_only(partitions: str) -> None:
    ran = CliRunner().invoke(app, ["log", "ensure", "--url", "kafka://h", "--partitions", partitions])
    assert isinstance(ran.exception, Misconfigured)


async def test_a_lost_cluster_is_told_once_it_is_certain() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = Link(client_config(f"kafka://127.0.0.1:{silent.getsockname()[1]}", ""), KafkaOptions())
        await link.check()
        assert link.lost(0.0) == ""
        link._watch()
        link._doubt()
        with pytest.raises(Unavailable) as raised:
            await link.check()
        assert link.lost(0.0) == str(raised.value)
        assert link.lost(60.0) == ""
        await link.close()


def test_a_position_is_the_offset_to_go_on_from() -> None:
    assert next_offsets({"0": 3, "7": 0}) == {0: 3}
    assert as_position({7: 2, 0: 3, 1: 0}) == {"0": 3, "7": 2}


def test_a_records_size_counts_key_and_headers() -> None:
    most = (512 << 10) - 256
    assert check_size("t", b"k", [Record(b"x" * 10), Record(b"y", {"a": "ü"})]) == 10 + 1 + 7
    check_size("t", b"k", [Record(b"x" * (most - 1))])
    for record in (Record(b"x" * most), Record(b"x" * (most - 8), {"a": "bcd"})):
        with pytest.raises(Rejected, match="for t; at most"):
            check_size("t", b"k", [record])


@given(st.lists(st.integers(0, 3 * _PIECE_BYTES // 8), max_size=40), st.integers(0, 3 * _PIECE))
def test_pieces_are_the_records_in_order_and_bounded(sizes: list[int], small: int) -> None:
    records = [Record(bytes(size)) for size in sizes] + [Record(b"x")] * small
    pieces = list(_pieces(records, sum(len(record.value) for record in records)))
    assert [record for part, _, _ in pieces for record in part] == records
    for part, count, cost in pieces:
        held = sum(len(record.value) for record in part)
        assert (count, cost) == (len(part), held + 100 * count)
        assert count <= _PIECE
        assert held <= _PIECE_BYTES or count == 1


async def test_a_cancelled_call_ends_before_its_caller_goes_on() -> None:
    thread = Thread("test")
    ended = []

    def work() -> None:
        time.sleep(0.1)
        ended.append(1)

    task = asyncio.ensure_future(thread.run(work))
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1]
    thread.close()


class Came:
    """A message as the member's bookkeeping sees it."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        self._place = (topic, partition, offset)

    def topic(self) -> str:
        return self._place[0]

    def __len__(self) -> int:
        return 3

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> int:
        return self._place[2]


def held(*partitions: tuple[str, int]) -> Shares:
    """Two topics, of which this member has some partitions with the offsets 0 to 9."""
    shares = Shares(["a", "b"])
    for topic, partition in partitions:
        shares.add(topic, partition)
        for offset in range(10):
            shares.put(Came(topic, partition, offset))  # type: ignore[arg-type]
    return shares


def test_topics_are_taken_in_turn_and_each_partition_in_order() -> None:
    shares = held(("a", 0), ("a", 1), ("a", 2), ("b", 0))
    taken, given_out = shares.take(8, 0.0)
    assert [message.topic() for message in taken] == ["a", "b"] * 4
    assert {(g.share.topic, g.share.partition, g.first, g.last, g.count) for g in given_out} == {
        ("a", 0, 0, 1, 2), ("a", 1, 0, 0, 1), ("a", 2, 0, 0, 1), ("b", 0, 0, 3, 4),
    }  # fmt: skip
    assert shares.waiting_bytes == 3 * (40 - 8)
    rest, _ = shares.take(100, 0.0)
    assert (shares.waiting, shares.waiting_bytes) == (0, 0)
    places: dict[tuple[str | None, int | None], list[int]] = {}
    for message in (*taken, *rest):
        places.setdefault((message.topic(), message.partition()), []).append(message.offset() or 0)
    assert all(offsets == list(range(10)) for offsets in places.values())


def test_what_is_committed_never_passes_what_is_still_out() -> None:
    shares = held(("a", 0))
    [share] = shares
    given_out = [shares.take(2, 0.0)[1][0] for _ in range(4)]
    assert share.settled() is None
    given_out[1].acked = True
    assert share.settled() is None
    given_out[0].acked = True
    assert share.settled() == 4
    share.committed(4)
    assert [g.first for g in share.given] == [4, 6]
    given_out[3].acked = True
    assert share.settled() is None


def test_a_partition_begins_again_at_its_first_record_without_an_ack() -> None:
    shares = held(("a", 0), ("b", 0))
    share = next(iter(shares))
    _, [first] = shares.take(1, 0.0)
    shares.take(4, 0.0)
    shares.rewind(share)
    assert (share.back_to, first.ours, shares.waiting, shares.waiting_bytes) == (0, False, 8, 24)
    shares.put(Came("a", 0, 5))  # type: ignore[arg-type] # on its way before the seek
    assert shares.waiting == 8
    share.back_to = None
    shares.put(Came("a", 0, 0))  # type: ignore[arg-type]
    for _ in range(2):  # nothing is out, one waits; then nothing at all
        shares.rewind(share)
        assert [one.back_to for one in shares] == [0, None]
    shares.remove("a", 0)
    assert share.gone
    assert shares.waiting == 8
    shares.remove("a", 0)
    shares.put(Came("a", 0, 1))  # type: ignore[arg-type] # another member's now
    assert shares.waiting == 8


@given(st.lists(st.sampled_from(["take", "ack", "rewind"]), max_size=40), st.randoms(use_true_random=False))
def test_commits_only_grow_and_cover_what_was_acked(steps: list[str], random: object) -> None:
    shares = held(("a", 0))
    [share] = shares
    out = []
    commits = [0]
    now = 0.0
    for step in steps:
        now += 1
        if step == "take":
            out += shares.take(3, now)[1]
        elif step == "ack" and out:
            one = out.pop(random.randrange(len(out)))  # type: ignore[attr-defined]
            if one.ours:
                one.acked = True
                if (offset := share.settled()) is not None:
                    share.committed(offset)
                    commits.append(offset)
        elif step == "rewind":
            shares.rewind(share)
            begin = share.back_to
            share.back_to = None
            if begin is not None:
                assert begin >= commits[-1]
                for offset in range(begin, 10):
                    shares.put(Came("a", 0, offset))  # type: ignore[arg-type]
    assert all(a < b for a, b in pairwise(commits))
