"""A telemetry store made anew from the log and taken in by its writer, over a real log, while rows keep coming."""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.ingest.adopt import Adopter, adopt
from cloud.ingest.logic import read_batch
from cloud.ingest.rebuild import events_whole, read_into
from cloud.telemetry.lateness import LateBounds
from cloud.telemetry.port import DAY_US, END_US, HOUR_US, Retention, Source, open_store
from cloud.telemetry.rebuild import copy_url, discard, mark_complete, refused, waiting
from shared import names
from shared.clock import ManualClock
from shared.errors import Misconfigured, Unavailable
from shared.eventlog import Record
from shared.frames import Aggregates, Kind, Scores
from tests.servers import NatsServer
from tests.unit.ledger_plant import MACHINE, T0, Plant, altered, open_plant, rows

DAMAGE = (
    ("UPDATE readings SET value = value + 1 WHERE time_us = ?", (T0,)),
    ("DELETE FROM readings WHERE time_us = ?", (T0 + 3_000_000,)),
    (
        "INSERT INTO readings SELECT series, time_us + ?, 1.5, quality, unit, arrival_us, source, row FROM readings LIMIT 1",
        (7,),
    ),
)


@pytest.fixture
async def plant(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Plant]:
    async with open_plant(nats_server, tmp_path) as opened:
        yield opened


def url_of(plant: Plant) -> str:
    return f"sqlite:///{plant.telemetry}"


async def make_copy(plant: Plant, *, events: bool = True) -> tuple[int, int]:
    """What the command does; records read and rows taken over."""
    held = await plant.store.stored_ranges()
    async with open_store(copy_url(url_of(plant))) as copy:
        read = await read_into(plant.log, copy)
        taken = await copy.take_over(url_of(plant), held, events=events)
    mark_complete(url_of(plant))
    return read, taken


def damage(plant: Plant) -> None:
    with sqlite3.connect(plant.telemetry) as db:
        for statement, values in DAMAGE:
            db.execute(statement, values)
    db.close()


def dump(path: Path) -> dict[str, list[object]]:
    """Every table's content, with names for ids."""
    queries = {
        "readings": "SELECT machine, sensor, time_us, value, quality, u.unit, arrival_us, edge, epoch, row FROM readings r"
        " JOIN series s ON s.id = r.series JOIN units u ON u.id = r.unit JOIN sources o ON o.id = r.source",
        "rollups": "SELECT machine, sensor, width_us, start_us, rows, minimum, maximum, round(mean, 9), last, last_us, u.unit,"
        " quality FROM rollups r JOIN series s ON s.id = r.series JOIN units u ON u.id = r.unit",
        "expired": "SELECT what, before_us FROM expired",
        "aggregates": "SELECT machine, sensor, width_us, start_us, rows, mean, edge, row FROM aggregates a"
        " JOIN series s ON s.id = a.series JOIN sources o ON o.id = a.source",
        "scores": "SELECT machine, version_hash, time_us, model, score, edge, row FROM scores c"
        " JOIN score_series s ON s.id = c.series JOIN score_layouts l ON l.id = c.layout JOIN sources o ON o.id = c.source",
        "events": "SELECT id, json FROM events",
        "conflicts": "SELECT machine, sensor, time_us, kept_row, kept_value, lost_row, lost_value FROM conflicts c"
        " JOIN series s ON s.id = c.series",
        "row_ranges": "SELECT edge, epoch, outcome, first, last FROM row_ranges r JOIN sources o ON o.id = r.source",
        "counters": "SELECT * FROM counters",
        "lateness": "SELECT * FROM lateness",
        "positions": "SELECT * FROM positions",
    }
    db = sqlite3.connect(path)
    found: dict[str, list[object]] = {
        name: sorted(db.execute(query).fetchall(), key=repr) for name, query in queries.items()
    }
    db.close()
    return found


async def everything(plant: Plant) -> None:
    """Each kind of content, a duplicate and a conflict, in the log and in the store."""
    await plant.move(rows(20), rows(20, 20), rows(3, 5), altered(rows(3, 10)))
    index = np.arange(2)
    start = T0 + index * 10_000_000
    aggregates = Aggregates(
        ("t1",),
        ("degC",),
        10_000_000,
        index * 0,
        start,
        index + 5,
        *(index.astype(np.float64) for _ in range(3)),
    )
    scores = Scores(
        "pca", "ab" * 32, 1.0, ("t1",), start, np.array([0.5, np.nan], np.float32), np.zeros(2, np.uint8),
        np.ones((2, 1), np.float32), np.ones((2, 1)),
    )  # fmt: skip
    for kind, body, topic in (
        (Kind.AGGREGATE, aggregates, names.SENSOR_READINGS),
        (Kind.SCORES, scores, names.SCORES),
    ):
        await plant.log.append(topic, MACHINE, [Record(plant.cut(body, kind))])  # type: ignore[arg-type]
    for number in range(3):
        event = (
            b'{"id": "e%d", "type": "x", "subject": "pump-1", "time": "2026-01-01T00:00:00+00:00"}' % number
        )
        await plant.log.append(names.MACHINE_EVENTS, MACHINE, [Record(event)])
    await plant.ingest()
    [scored] = [r async for r in plant.log.read(names.SCORES)]
    await plant.store.write(read_batch([scored])[0])


async def test_the_copy_is_the_store_when_the_log_has_it_all(plant: Plant) -> None:
    await everything(plant)
    before = dump(plant.telemetry)
    assert [table for table, content in before.items() if not content] == ["expired"]
    assert await make_copy(plant) == (9, 0)
    assert await adopt(plant.log, plant.store, url_of(plant))
    assert waiting(url_of(plant)) is None
    assert dump(plant.telemetry) == before


async def test_damage_is_found_mended_and_found_no_more_while_rows_keep_coming(plant: Plant) -> None:
    await plant.move(rows(20), rows(20, 20))
    damage(plant)
    bad = await plant.audit(local=False)
    assert {f.what for f in bad.findings} == {"missing", "doubled", "altered"}
    adopter = Adopter(plant.log, plant.store, url_of(plant), LateBounds(), ManualClock())
    await adopter.look()  # nothing waits
    held = await plant.store.stored_ranges()
    async with (
        open_store(copy_url(url_of(plant))) as copy,
        open_store(url_of(plant), read_only=True) as reader,
    ):
        await read_into(plant.log, copy)
        await plant.move(rows(20, 40))  # these reach the old store alone
        assert await copy.take_over(url_of(plant), held) == 0
        assert await reader.count(MACHINE) == 60
        async with reader.snapshot() as old:
            await plant.move(rows(20, 60))
            with pytest.raises(Unavailable, match="open in another program"):
                mark_complete(url_of(plant))
            assert await old.count(MACHINE) == 60
    mark_complete(url_of(plant))
    async with open_store(url_of(plant), read_only=True) as reader:
        async with reader.snapshot() as old:
            await adopter.look()
            assert await old.count(MACHINE) == 80, "a reader sees the old content to its end"
        assert await reader.count(MACHINE) == 80, "and then all of the new, on the same connection"
    good = await plant.audit(local=False)
    assert (good.findings, good.rows_in_store) == ((), 80)
    await plant.move(rows(20, 80))
    assert (await plant.audit()).rows_in_store == 100


async def test_what_aged_out_of_the_log_is_taken_over_and_nothing_else(plant: Plant) -> None:
    await everything(plant)
    await plant.move(rows(4, 100), rows(4, 90, hour=1))
    before = dump(plant.telemetry)
    await plant.purge_before(
        3
    )  # two frames of 20 rows are gone; they meet later ones in a duplicate and a conflict
    await plant.purge_before(3, names.MACHINE_EVENTS)
    with sqlite3.connect(plant.telemetry) as db:
        db.execute("UPDATE readings SET value = value + 1 WHERE time_us >= ?", (T0 + 90_000_000,))
        db.execute(
            "INSERT INTO events (id, type, machine, occurred_us, json) VALUES ('forged', 'x', 'm', 1, x'00')"
        )
    db.close()
    assert not await events_whole(plant.log)
    assert (await make_copy(plant))[1] == 40
    assert await adopt(plant.log, plant.store, url_of(plant))
    after = dump(plant.telemetry)
    forged = [row for row in after.pop("events") if row not in before["events"]]
    assert len(forged) == 1, "where the log lost events, the old file's word is taken"
    del before["events"]
    for table, content in before.items():
        assert after[table] == content, table


async def test_with_the_whole_log_what_someone_wrote_into_the_file_is_gone(plant: Plant) -> None:
    await everything(plant)
    before = dump(plant.telemetry)
    with sqlite3.connect(plant.telemetry) as db:
        db.execute(
            "INSERT INTO events (id, type, machine, occurred_us, json) VALUES ('forged', 'x', 'm', 1, x'00')"
        )
    db.close()
    assert await events_whole(plant.log)
    await make_copy(plant, events=False)
    assert await adopt(plant.log, plant.store, url_of(plant))
    assert dump(plant.telemetry) == before


async def test_a_store_whose_log_lost_all_its_records_stays_as_it_is(plant: Plant) -> None:
    await everything(plant)
    before = dump(plant.telemetry)
    for topic in (names.SENSOR_READINGS, names.SCORES, names.MACHINE_EVENTS):
        await plant.purge_before(1_000_000, topic)
    read, taken = await make_copy(plant)
    assert (read, taken) == (0, 50)
    assert await adopt(plant.log, plant.store, url_of(plant))
    after = dump(plant.telemetry)
    for table, content in before.items():
        assert after[table] == content, table


async def test_a_copy_goes_on_where_it_was_left(plant: Plant) -> None:
    await plant.move(rows(20), rows(20, 20))
    async with open_store(copy_url(url_of(plant))) as copy:
        ends = {names.SENSOR_READINGS: {"0": 1}}
        assert await read_into(plant.log, copy, until=ends) == 1
    assert await make_copy(plant) == (1, 0)
    assert [list(r.stored) for r in (await plant.store.stored_ranges()).values()] == [[(1, 40)]]


async def test_a_copy_of_another_log_is_refused_and_set_aside(plant: Plant) -> None:
    await plant.move(rows(20))
    async with open_store(copy_url(url_of(plant))) as copy:
        await read_into(plant.log, copy)
    db = sqlite3.connect(copy_url(url_of(plant)).removeprefix("sqlite:///"))
    with db:
        db.execute("UPDATE positions SET offset = 99")
    db.close()
    async with open_store(copy_url(url_of(plant))) as copy:
        with pytest.raises(Misconfigured, match="another log"):
            await read_into(plant.log, copy)
    mark_complete(url_of(plant))
    await Adopter(plant.log, plant.store, url_of(plant), LateBounds(), ManualClock()).look()
    assert waiting(url_of(plant)) is None
    assert refused(url_of(plant)) is not None
    assert await plant.store.count(MACHINE) == 20
    await make_copy(plant)
    assert refused(url_of(plant)) is None


async def test_a_copy_that_can_not_be_taken_now_waits_and_the_store_goes_on(plant: Plant) -> None:
    await plant.move(rows(20))
    await make_copy(plant)
    clock = ManualClock()
    adopter = Adopter(plant.log, plant.store, url_of(plant), LateBounds(), clock)
    async with open_store(waiting(url_of(plant)) or ""):  # someone else holds the copy
        await adopter.look()
    assert waiting(url_of(plant)) is not None
    await adopter.look()
    assert waiting(url_of(plant)) is not None, "not again at once"
    await clock.advance(60)
    await adopter.look()
    assert waiting(url_of(plant)) is None


async def test_only_a_writer_takes_over_and_replaces(plant: Plant) -> None:
    async with open_store(url_of(plant), read_only=True) as reader:
        with pytest.raises(Misconfigured):
            await reader.replace(url_of(plant))
        with pytest.raises(Misconfigured):
            await reader.take_over(url_of(plant), {})
    with pytest.raises(Misconfigured):
        copy_url("influxdb://host")
    discard(copy_url(url_of(plant)))  # none there: nothing happens


async def test_the_way_into_the_store_stays_what_was_measured(plant: Plant) -> None:
    """Rebuilding reads old records: that they come now is no lateness."""
    with sqlite3.connect(plant.telemetry) as db:
        counts = np.zeros(50, "<i8").tobytes()
        db.execute(
            "INSERT INTO lateness VALUES ('edge-1', ?, 'store', 5, 4, 3, 2, ?)", (plant.file.epoch, counts)
        )
    db.close()
    await plant.move(rows(4))
    await make_copy(plant)
    assert await adopt(plant.log, plant.store, url_of(plant))
    found = (await plant.store.lateness())[Source("edge-1", plant.file.epoch)]
    assert (found["store"].rows, found["store"].late, found["device"].rows) == (4, 3, 4)


async def test_a_long_reading_goes_on_over_the_replacement(plant: Plant) -> None:
    """The copy numbers its series anew: a reader that goes by numbers alone would take one sensor for another."""
    body = rows(2, 100)
    turned = replace(body, sensor_names=("p1", "t1"), units=("bar", "degC"), sensor=1 - body.sensor)
    for data in (plant.cut(turned), plant.cut(rows(40))):
        await plant.send(data)
    entries, _ = read_batch([r async for r in plant.log.read(names.SENSOR_READINGS)])
    for entry in reversed(entries):
        await plant.store.write([entry])
    await make_copy(plant)
    found: list[tuple[str, float]] = []
    async with open_store(url_of(plant), read_only=True) as reader:
        async for part in reader.columns(MACHINE, chunk=8):
            found += zip((part.sensors[s] for s in part.sensor), part.value.tolist(), strict=True)
            if waiting(url_of(plant)) is not None:
                assert await adopt(plant.log, plant.store, url_of(plant))
    assert sorted(found) == sorted((("t1", "p1")[n % 2], float(n)) for n in (*range(40), 100, 101))


async def test_minutes_and_hours_outlive_the_readings_that_log_and_store_have_lost(plant: Plant) -> None:
    """Of hour 0 the log keeps some frames: what they give is not all that the store once had."""
    await plant.move(rows(20), rows(20, 20), rows(20, 40, hour=1), rows(20, 60, hour=30))
    begin = T0 // HOUR_US * HOUR_US
    retention = Retention(raw_us=DAY_US)
    assert await plant.store.expire(retention, begin + DAY_US + HOUR_US) == 40
    await plant.purge_before(2)
    before = dump(plant.telemetry)
    assert len(before["readings"]) == 40
    assert await make_copy(plant) == (3, 20)
    assert await adopt(plant.log, plant.store, url_of(plant))
    assert len(dump(plant.telemetry)["readings"]) == 60, "the log's rows of hour 0 came again"
    assert await plant.store.expire(retention, begin + DAY_US + HOUR_US) == 20
    after = dump(plant.telemetry)
    for table, content in before.items():
        assert after[table] == content, table
    [t1] = await plant.store.rollups(MACHINE, ["t1"], HOUR_US, 0, END_US)
    assert t1.rows.sum() * 2 == 80


async def test_what_is_taken_over_is_in_minutes_and_hours(plant: Plant) -> None:
    await plant.move(rows(20), rows(20, 20), rows(7, 5))
    await plant.purge_before(2)
    before = dump(plant.telemetry)
    await make_copy(plant)
    assert await adopt(plant.log, plant.store, url_of(plant))
    assert dump(plant.telemetry)["rollups"] == before["rollups"]
