"""The outbox as the agent uses it: group commit, the byte cap, damage, disk errors, urgent rows."""

import asyncio
import gc
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.outbox import Outbox, open_outbox
from edge.outbox_file import OutboxFile
from edge.outbox_frames import FrameRef, Level
from shared import checksum
from shared.clock import ManualClock
from shared.errors import Misconfigured, Rejected, Unavailable
from shared.frame_codec import decode
from shared.frames import Aggregates, Kind, Readings, Records
from shared.packing import Item, join, joins, pack, pieces


def readings(first: int, count: int = 1, unit: str = "bar") -> Readings:
    at = np.arange(first, first + count)
    return Readings(
        ("pressure",),
        (unit,),
        at * 0,
        at * 1_000_000,
        at * 1_000_000,
        at.astype(np.float64),
        at.astype(np.uint8) * 0,
    )


def item(first: int, count: int = 1, machine: str = "pump") -> Item:
    return Item(machine, Kind.READINGS, readings(first, count))


def event(text: str = "{}") -> Item:
    return Item("pump", Kind.EVENT, Records((text.encode(),)), urgent=True)


@asynccontextmanager
async def opened(path: Path, max_bytes: int = 10**8) -> AsyncIterator[Outbox]:
    async with open_outbox(path, site="s1", edge="e1", clock=ManualClock(), max_bytes=max_bytes) as outbox:
        yield outbox


async def frames_of(outbox: Outbox) -> list[bytes]:
    found = [await outbox.data(ref.first) for ref in await outbox.frames()]
    return [data for data in found if data is not None]


async def test_rows_of_machines_and_kinds_get_frames_of_their_own(tmp_path: Path) -> None:
    async with opened(tmp_path / "outbox.db") as outbox:
        await outbox.append([item(1, 3), item(1, 2, "fan")])
        await outbox.append([item(4, 2)])
        await outbox.cut(partial=True)
        headers = [decode(data)[0] for data in await frames_of(outbox)]
    assert [(h.machine, h.first, h.last) for h in headers] == [("pump", 1, 5), ("fan", 6, 7)]


async def test_urgent_rows_are_cut_in_their_own_commit_and_announced(tmp_path: Path) -> None:
    heard: list[FrameRef] = []
    async with opened(tmp_path / "outbox.db") as outbox:
        outbox.listen(heard.extend)
        await outbox.append([item(1), event()])
        assert [(ref.first, ref.urgent) for ref in heard] == [(1, True)]
        assert (await outbox.report())["waiting"] == 1


async def test_without_partial_only_full_frames_are_cut(tmp_path: Path) -> None:
    async with opened(tmp_path / "outbox.db") as outbox:
        await outbox.append([item(1, 999)])
        assert await outbox.cut(partial=False) == []
        await outbox.append([item(1000, 2)])
        assert [ref.last for ref in await outbox.cut(partial=False)] == [999]
        assert (await outbox.report())["waiting"] == 2


async def test_concurrent_appends_share_a_commit(tmp_path: Path) -> None:
    async with opened(tmp_path / "outbox.db") as outbox:
        commits = 0
        all_asked = threading.Event()
        transaction = outbox._file.transaction

        def counted() -> object:
            nonlocal commits
            commits += 1
            assert all_asked.wait(10)  # the first commit lasts until all others wait behind it
            return transaction()

        outbox._file.transaction = counted  # type: ignore[method-assign,assignment]
        appends = [asyncio.create_task(outbox.append([item(n)])) for n in range(200)]
        await asyncio.sleep(0)  # each runs until it waits for its commit
        all_asked.set()
        await asyncio.gather(*appends)
        assert commits <= 2
        assert (await outbox.report())["waiting"] == 200


async def test_acks_free_what_they_cover_and_nothing_that_is_not_there_yet(tmp_path: Path) -> None:
    async with opened(tmp_path / "outbox.db") as outbox:
        for first in (1, 11, 21):
            await outbox.append([item(first, 10)])
            await outbox.cut(partial=True)
        assert await outbox.free([(1, 5)]) == []
        assert await outbox.free([(6, 12)]) == [1]
        assert await outbox.free([(21, 10_000)]) == [21]
        await outbox.append([item(31, 10)])
        await outbox.cut(partial=True)
        assert await outbox.free([(13, 20)]) == [11]
        assert [ref.first for ref in await outbox.frames()] == [31]
        assert (await outbox.report())["buffered"] == [[31, 40]]


async def test_an_outbox_with_nothing_to_thin_refuses_until_rows_are_freed(tmp_path: Path) -> None:
    def slow(first: int) -> Item:
        """A reading each 100 s: an aggregate would take more room than it saves."""
        body = readings(first, 1000)
        return Item("pump", Kind.READINGS, replace(body, time_us=body.time_us * 100))

    async with opened(tmp_path / "outbox.db", max_bytes=400_000) as outbox:
        kept = 0
        with suppress(Unavailable):
            while True:
                kept += await outbox.append([slow(kept)])
        with pytest.raises(Unavailable, match="full"):
            await outbox.append([slow(kept)])
        assert await outbox.append([event()]) == 1, "urgent rows have room of their own"
        await outbox.cut(partial=True)
        report = await outbox.report()
        assert report["produced"] == kept + 1 > 1000
        assert report["degraded"] == []
        await outbox.free([(1, kept + 1)])
        assert await outbox.append([slow(kept)]) == 1000


async def test_a_write_that_the_disk_refuses_keeps_nothing_and_says_unavailable(tmp_path: Path) -> None:
    async with opened(tmp_path / "outbox.db") as outbox:
        await outbox.append([item(1)], {"pump": b"before"})
        pages = outbox._file._db.execute("PRAGMA page_count").fetchone()[0]
        outbox._file._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite now answers as on a full disk
        with pytest.raises(Unavailable, match="disk is full"):
            await outbox.append([item(2, 1000)], {"pump": b"after"})
        assert (await outbox.report())["waiting"] == 1
        assert await outbox.state("pump") == b"before"
        outbox._file._db.execute("PRAGMA max_page_count = 100000")
        assert await outbox.append([item(2, 1000)]) == 1000


async def test_who_was_refused_and_had_gone_leaves_no_error_that_nobody_heard(tmp_path: Path) -> None:
    async with opened(tmp_path / "outbox.db") as outbox:
        unheard: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
        pages = outbox._file._db.execute("PRAGMA page_count").fetchone()[0]
        outbox._file._db.execute(f"PRAGMA max_page_count = {pages}")
        asking = asyncio.create_task(outbox.append([item(2, 1000)]))
        await asyncio.sleep(0)  # it waits for its commit
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        del asking
        for _ in range(2):  # their turns come after that of the one who went, and the writer forgets it
            await outbox.frames()
        gc.collect()
        assert not unheard


async def test_state_is_saved_with_the_rows_it_belongs_to(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        assert await outbox.state("pump") is None
        await outbox.append([event()], {"pump": b"on"})
        epoch = outbox.epoch
    async with opened(path) as outbox:
        assert await outbox.state("pump") == b"on"
        assert outbox.epoch == epoch
        assert outbox.set_aside is None


@pytest.mark.parametrize("damage", ["not a database", "torn page", "foreign", "no epoch"])
async def test_a_damaged_file_is_set_aside_and_a_new_epoch_begins(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        await outbox.append([item(1, 5000)])
        await outbox.cut(partial=True)
        epoch = outbox.epoch
    match damage:
        case "not a database":
            path.write_bytes(b"garbage" * 1000)
        case "torn page":
            data = bytearray(path.read_bytes())
            data[4096 : 4096 * 6] = b"\xff" * (4096 * 5)
            path.write_bytes(bytes(data))
        case "foreign":
            path.unlink()
            with sqlite3.connect(path) as db:
                db.execute("CREATE TABLE notes (text)")
            db.close()
        case "no epoch":
            with sqlite3.connect(path) as db:
                db.execute("DELETE FROM meta WHERE key = 'epoch'")
            db.close()
    damaged = path.read_bytes()
    async with opened(path) as outbox:
        assert outbox.epoch != epoch
        assert outbox.set_aside is not None
        # Even asking a foreign database's mode touches its header; what it holds stays.
        assert outbox.set_aside.read_bytes()[100:] == damaged[100:]
        assert (await outbox.report())["set_aside"] == outbox.set_aside.name
        assert (await outbox.report())["produced"] == 0
        await outbox.append([item(1)])


def rot(path: Path, statement: str) -> None:
    """Change what a row holds behind SQLite's back; its own check passes."""
    with sqlite3.connect(path) as db:
        assert db.execute(statement).rowcount == 1
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    db.close()


@pytest.mark.parametrize(
    "change",
    [
        "value = CAST(x'5b5b312c31305d5d20ff' AS TEXT) WHERE key = 'freed'",
        "value = CAST('[[1]]' AS BLOB) WHERE key = 'freed'",
        "value = -10 WHERE key = 'next_row'",
        "value = 'x' WHERE key = 'next_row'",
        "value = x'00' WHERE key = 'epoch'",
    ],
)
async def test_a_value_that_nobody_wrote_makes_the_file_a_damaged_one(tmp_path: Path, change: str) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        for first in (1, 11):
            await outbox.append([item(first, 10)])
            await outbox.cut(partial=True)
        await outbox.free([(1, 10)])
        epoch = outbox.epoch
    rot(path, f"UPDATE meta SET {change}")  # noqa: S608 - own text
    async with opened(path) as outbox:
        assert outbox.set_aside is not None
        assert outbox.epoch != epoch


@pytest.mark.parametrize(
    "change",
    [
        "data = CAST(substr(data, 1, length(data) - 4) || x'00000000' AS BLOB)",  # in the columns: the frame's sum
        "data = substr(data, 1, length(data) - 4) || x'00000000'",  # its type, too
        "data = x'ff'",
        "data = CAST(replace(CAST(data AS TEXT), 'pump', 'pumq') AS BLOB)",  # in the header: the outbox's columns
        "machine = 'pumq'",
        "last = 12",
    ],
)
async def test_a_damaged_frame_is_set_aside_and_never_offered(tmp_path: Path, change: str) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        for first in (1, 11, 21):
            await outbox.append([item(first, 10)])
            await outbox.cut(partial=True)
        before = await outbox.data(1)
    rot(path, f"UPDATE frames SET {change} WHERE first = 11")  # noqa: S608 - own text
    for _ in range(2):
        async with opened(path) as outbox:
            assert await outbox.data(11) is None
            assert [ref.first for ref in await outbox.frames()] == [1, 21]
            assert await outbox.data(1) == before
            report = await outbox.report()
            assert report["buffered"] == [[1, 10], [21, 30]]
            assert report["damaged"][0][0] == 11
            assert (await outbox.usage()).damaged >= 2
            assert (await outbox.free([(11, 20)])) == []
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT place, length(data) > 0 FROM damaged").fetchall() == [("frames", 1)]
    db.close()


@pytest.mark.parametrize(
    "change",
    [
        "body = x'ff'",
        "body = body || x'00'",
        "machine = 'pumq'",
        "machine = CAST(x'70ff' AS TEXT)",
        "kind = 99",
        "rows = 0",
    ],
)
async def test_a_damaged_waiting_row_is_numbered_and_set_aside_and_the_rest_goes_on(
    tmp_path: Path, change: str
) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        for first in range(1, 6):
            await outbox.append([item(first)])
    rot(path, f"UPDATE waiting SET {change} WHERE arrival = 2")  # noqa: S608 - own text
    for _ in range(2):
        async with opened(path) as outbox:
            await outbox.cut(partial=True)
            values = [v for data in await frames_of(outbox) for v in decode(data)[1].value.tolist()]  # type: ignore[union-attr]
            assert values == [1, 3, 4, 5]
            report = await outbox.report()
            assert (report["produced"], report["waiting"]) == (5, 0)
            assert (await outbox.usage()).damaged == 1
    [[first, last]] = report["damaged"]
    rows = [number for low, high in report["buffered"] for number in range(low, high + 1)]
    assert sorted([*rows, first]) == [1, 2, 3, 4, 5]
    assert first == last


@pytest.mark.parametrize("with_sums", [True, False])
async def test_a_file_of_schema_1_is_taken_over(tmp_path: Path, *, with_sums: bool) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        await outbox.append([item(1, 1000), item(1001, 3)])
        await outbox.cut(partial=False)
        epoch = outbox.epoch
    with sqlite3.connect(path) as db:
        if not with_sums:
            db.execute("DROP TABLE damaged")
            db.execute("ALTER TABLE waiting DROP COLUMN crc")
        db.execute("DROP INDEX frames_level")
        for column in ("level", "width_us", "from_us", "to_us"):
            db.execute(f"ALTER TABLE frames DROP COLUMN {column}")
        db.execute("DROP TABLE spans")
        db.execute("UPDATE meta SET value = 1 WHERE key = 'schema'")
    db.close()
    async with opened(path) as outbox:
        assert (outbox.epoch, outbox.set_aside) == (epoch, None)
        assert [ref.last for ref in await outbox.cut(partial=True)] == [1003]
        assert (await outbox.usage()).levels[Level.RAW] > 0, "what it held can be thinned"
    async with opened(path) as outbox:
        assert [len(decode(data)[1]) for data in await frames_of(outbox)] == [1000, 3]


async def test_what_was_freed_is_told_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        for first in (1, 11, 21):
            await outbox.append([item(first, 10)])
            await outbox.cut(partial=True)
        await outbox.free([(1, 10), (25, 26)])
    async with opened(path) as outbox:
        assert (await outbox.report())["acked"] == [[1, 10]]
        with suppress(ZeroDivisionError), outbox._file.transaction():
            outbox._file.free([(21, 30)])
            raise ZeroDivisionError
        assert (await outbox.report())["acked"] == [[1, 10]]
        await outbox.free([(11, 20)])
        report = await outbox.report()
    assert (report["acked"], report["buffered"]) == ([[1, 20]], [[21, 30]])
    assert report["taken_us"] == ManualClock().now_us()


async def test_a_second_process_or_a_newer_file_is_a_misconfiguration(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path):
        with pytest.raises(Misconfigured, match="another edge"):
            OutboxFile(path, site="s1", edge="e1", max_bytes=1, clock=ManualClock())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    db.close()
    with pytest.raises(Misconfigured, match="schema 99"):
        OutboxFile(path, site="s1", edge="e1", max_bytes=1, clock=ManualClock())
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(Misconfigured, match="writable"):
        OutboxFile(blocked / "outbox.db", site="s1", edge="e1", max_bytes=1, clock=ManualClock())


async def test_a_schema_whose_text_rotted_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        await outbox.append([item(1, 3)])
    spoiled = path.read_bytes().replace(b"meta (key TEXT PRIMARY KEY", b"meta (kez TEXT PRIMARY KEY", 1)
    path.write_bytes(spoiled)
    async with opened(path) as outbox:
        assert outbox.set_aside is not None
        assert outbox.set_aside.read_bytes() == spoiled
        await outbox.append([item(1, 3)])


@pytest.mark.parametrize("rot", ["sum = '48426y82'", "sum = ''", "sum = X'00'", "count = 'x'"])
async def test_an_hour_of_the_tally_that_rotted_is_left_out(tmp_path: Path, rot: str) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        await outbox.append([item(1, 3), item(1, 2, "fan")])
        await outbox.cut(partial=True)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE tally SET {rot} WHERE machine = 'pump'")  # noqa: S608 - of the parameters above
    async with opened(path) as outbox:
        assert list((await outbox.report())["tally"]) == ["fan"]
        await outbox.append([item(4, 2)])
        await outbox.cut(partial=True)
        assert sorted((await outbox.report())["tally"]) == ["fan", "pump"]
        assert outbox.set_aside is None


async def test_the_tally_counts_each_reading_once_at_its_cut(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        await outbox.append([item(3500, 200), event()])
        assert (await outbox.report())["tally"] == {}
        await outbox.cut(partial=True)
    async with opened(path) as outbox:
        tally = (await outbox.report())["tally"]["pump"]
    body = readings(3500, 200)
    wanted = checksum.tally(body.time_us, checksum.readings_hashes("pump", body))
    assert tally == {str(hour): list(sums) for hour, sums in wanted.items()}
    assert [count for count, _ in tally.values()] == [100, 100]


async def test_usage_counts_rows_waiting_and_framed(tmp_path: Path) -> None:
    async with opened(tmp_path / "outbox.db") as outbox:
        await outbox.append([item(1, 5), event()])
        usage = await outbox.usage()
    assert (usage.rows, usage.damaged) == (6, 0)
    assert usage.bytes > 0


def test_a_row_too_large_for_a_frame_is_rejected() -> None:
    with pytest.raises(Rejected, match="does not fit a frame"):
        pieces([Item("pump", Kind.WAVE, Records((b"x" * 300_000,)))])


def test_aggregates_are_split_and_never_joined() -> None:
    at = np.arange(1500)
    body = Aggregates(
        ("a",), ("bar",), 10, at * 0, at * 10, at, at.astype(float), at.astype(float), at.astype(float)
    )
    assert [piece.rows for piece in pieces([Item("pump", Kind.AGGREGATE, body)])] == [1000, 500]
    assert not joins(body, body)
    assert pack([(body, 1), (body, 1)], partial=True) == [1, 2]
    assert join([body]) is body
    assert pieces([Item("pump", Kind.READINGS, readings(1, 0))]) == []
