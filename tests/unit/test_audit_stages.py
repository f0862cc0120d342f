"""The audit is itself audited: one row deleted, doubled, altered in each stage is named with its stage."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cloud.ledger.audit import audit
from cloud.ledger.report import AuditReport, Finding
from cloud.telemetry.port import DAY_US, HOUR_US, Retention
from shared import names
from shared.eventlog import Record
from shared.frame_codec import decode, encode
from shared.frames import Kind, Readings, Records, concat_readings, slice_readings
from shared.packing import Item, pieces
from tests.servers import NatsServer
from tests.unit.ledger_plant import EDGE, HOUR, MACHINE, T0, Plant, altered, open_plant, reframed, rows


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    running = NatsServer(tmp_path_factory.mktemp("nats")).start()
    yield running
    running.stop()


@pytest.fixture
async def plant(server: NatsServer, tmp_path: Path) -> AsyncIterator[Plant]:
    async with open_plant(server, tmp_path) as opened:
        yield opened


def only(report: AuditReport) -> Finding:
    assert len(report.findings) == 1, report.findings
    assert report.exit_code == 1
    return report.findings[0]


def doubled(body: Readings) -> Readings:
    return slice_readings(body, 1, 2)


# Nothing wrong


@pytest.mark.parametrize("local", [True, False])
async def test_a_clean_plant_has_no_finding(plant: Plant, local: bool) -> None:  # noqa: FBT001 - a case
    await plant.move(rows(10), rows(10, 10), rows(5, hour=1))
    report = await plant.audit(local=local)
    assert report.findings == ()
    assert report.exit_code == 0
    assert (report.rows_in_log, report.rows_in_store, report.machine_hours) == (25, 25, 2)


@pytest.mark.parametrize("local", [True, False])
async def test_rows_under_way_are_no_finding(plant: Plant, local: bool) -> None:  # noqa: FBT001 - a case
    await plant.move(rows(10))
    waiting = plant.cut(rows(10, 10))
    unacknowledged = plant.cut(rows(10, 20))
    await plant.send(unacknowledged, free=False)
    del waiting
    report = await plant.audit(local=local)
    assert report.findings == ()
    assert any("the store is behind: 10 rows" in note for note in report.notes)
    [source] = report.sources
    assert (source.produced, source.buffered, source.logged, source.stored) == (30, 10, 20, 10)


async def test_resends_duplicates_and_conflicts_are_resolved_and_no_finding(plant: Plant) -> None:
    first = plant.cut(rows(10))
    await plant.send(first)
    await plant.send(first)
    for body in (rows(5), rows(3, value=100.0)):  # told again, then told otherwise
        await plant.send(plant.cut(body))
    await plant.ingest()
    report = await plant.audit()
    assert report.findings == ()
    assert {(r.stage, r.what, r.rows) for r in report.resolved} == {
        ("uplink", "doubled", 10),
        ("edge", "doubled", 5),
        ("edge", "conflict", 3),
    }


async def test_rows_of_other_kinds_and_rejects_are_accounted_for(plant: Plant) -> None:
    await plant.move(rows(3))
    origin = {names.HEADER_EDGE: EDGE, names.HEADER_EPOCH: plant.file.epoch.hex(), names.HEADER_SITE: "s1"}
    event = plant.cut(rows(2, 3))  # numbers 4 and 5, sent as an event and as a refused row
    await plant.log.append(
        names.MACHINE_EVENTS,
        MACHINE,
        [
            Record(
                b'{"id":"a","type":"x","subject":"pump-1","time":"2025-06-01T00:00:00Z"}',
                origin | {names.HEADER_ROW: "4"},
            )
        ],
    )
    await plant.log.append(names.DEAD_LETTER, MACHINE, [Record(b"{}", origin | {names.HEADER_ROW: "5"})])
    del event
    with plant.file.transaction():
        plant.file.free([(4, 5)])
    await plant.ingest()
    report = await plant.audit()
    [source] = report.sources
    assert (source.logged, source.stored, source.rejected) == (5, 4, 1)
    # These two were counted as readings at the cut, so the audit must miss them as readings.
    assert [(f.stage, f.what) for f in report.findings] == [("edge", "altered")]


# Edge


async def test_a_frame_deleted_from_the_outbox_is_missing_at_the_edge(plant: Plant) -> None:
    await plant.move(rows(10))
    plant.cut(rows(1, 10))
    plant.stop_edge()
    plant.tamper(plant.outbox, "DELETE FROM frames WHERE first = 11")
    finding = only(await plant.audit())
    assert (finding.stage, finding.what, finding.rows) == ("edge", "missing", 1)
    assert (finding.edge, finding.machine, finding.hour) == (EDGE, MACHINE, HOUR)
    assert finding.identities == ("row 11",)


async def test_rows_that_were_confirmed_and_are_nowhere_were_lost_on_the_uplink(plant: Plant) -> None:
    await plant.move(rows(10))
    plant.cut(rows(1, 10))
    with plant.file.transaction():
        plant.file.free([(11, 11)])  # a gateway said so, and the log has it not
    for local in (False, True):
        finding = only(await plant.audit(local=local))
        assert (finding.stage, finding.what, finding.identities) == ("uplink", "missing", ("row 11",))


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("place", ["frames", "waiting"])
async def test_rows_that_bit_rot_took_are_missing_at_the_edge(
    plant: Plant,
    place: str,
    local: bool,  # noqa: FBT001 - a case
) -> None:
    await plant.move(rows(10))
    with plant.file.transaction():
        plant.file.append(pieces([Item(MACHINE, Kind.READINGS, rows(5, 10))]))
        if place == "frames":
            plant.file.cut(partial=True)
    plant.stop_edge()
    column = "data" if place == "frames" else "body"
    plant.tamper(plant.outbox, f"UPDATE {place} SET {column} = substr({column}, 2)")  # noqa: S608 - own text
    with plant.file.transaction():
        plant.file.cut(partial=True)
        assert plant.file.data(11) is None
    await plant.move(rows(10, 20))
    found = (await plant.audit(local=local)).findings
    assert [(f.stage, f.what, f.identities) for f in found] == [("edge", "missing", ("rows 11-15",))]
    assert "table `damaged`" in found[0].advice


async def test_hours_that_an_edge_no_longer_tells_are_not_compared(plant: Plant) -> None:
    await plant.move(rows(10), rows(10, hour=1), rows(10, hour=2))
    told = plant.report()[EDGE]
    newest = dict(sorted(told.tally[MACHINE].items())[1:])
    bounded = told.model_copy(update={"tally": {MACHINE: newest}, "tally_hours": 2})
    assert (await audit(plant.log, plant.store, {EDGE: bounded})).findings == ()
    unbounded = bounded.model_copy(update={"tally_hours": 3})
    assert only(await audit(plant.log, plant.store, {EDGE: unbounded})).hour == HOUR


async def test_a_row_doubled_in_the_outbox_is_named(plant: Plant) -> None:
    await plant.move(rows(10))
    data = plant.cut(rows(10, 10))
    plant.stop_edge()
    forged = reframed(data, doubled, first=21)
    plant.tamper(
        plant.outbox,
        "INSERT INTO frames (first, last, machine, kind, urgent, data) VALUES (21, 21, ?, ?, 0, ?)",
        (MACHINE, int(Kind.READINGS), forged),
    )
    finding = only(await plant.audit())
    assert (finding.stage, finding.what, finding.identities) == ("edge", "doubled", ("row 21",))


async def test_a_row_doubled_within_a_frame_of_the_outbox_is_named(plant: Plant) -> None:
    data = plant.cut(rows(10))
    plant.stop_edge()
    forged = reframed(data, lambda body: concat_readings([body, doubled(body)]))
    plant.tamper(plant.outbox, "UPDATE frames SET data = ?, last = 11 WHERE first = 1", (forged,))
    finding = (await plant.audit()).findings[0]
    assert (finding.stage, finding.what) == ("edge", "doubled")


async def test_a_row_altered_in_the_outbox_is_named_by_hour_and_frame(plant: Plant) -> None:
    await plant.move(rows(10, hour=1))
    data = plant.cut(rows(10, 10))
    plant.stop_edge()
    plant.tamper(plant.outbox, "UPDATE frames SET data = ? WHERE first = 11", (reframed(data, altered),))
    finding = only(await plant.audit())
    assert (finding.stage, finding.what) == ("edge", "altered")
    assert (finding.machine, finding.hour) == (MACHINE, HOUR)


async def test_a_row_altered_in_the_outbox_and_then_delivered_is_named(plant: Plant) -> None:
    await plant.move(rows(10))
    data = plant.cut(rows(10, 10))
    await plant.send(reframed(data, altered))
    await plant.ingest()
    finding = only(await plant.audit(local=False))
    assert (finding.stage, finding.what) == ("edge", "altered")
    assert (finding.machine, finding.hour) == (MACHINE, HOUR)
    assert finding.identities == ("rows 1-10", "rows 11-20")


async def test_a_damaged_frame_in_the_outbox_is_named(plant: Plant) -> None:
    data = plant.cut(rows(10))
    plant.stop_edge()
    plant.tamper(plant.outbox, "UPDATE frames SET data = ? WHERE first = 1", (data[:-3] + b"xyz",))
    found = (await plant.audit()).findings
    assert (found[0].stage, found[0].what, found[0].identities) == ("edge", "altered", ("rows 1-10",))
    assert {f.stage for f in found} == {"edge"}


# Log


async def test_a_record_deleted_from_the_log_is_missing_there(plant: Plant) -> None:
    await plant.move(rows(10), rows(1, 10), rows(10, 20))
    await plant.delete_record(2)
    finding = only(await plant.audit())
    assert (finding.stage, finding.what, finding.rows) == ("log", "missing", 1)
    assert (finding.machine, finding.hour, finding.identities) == (MACHINE, HOUR, ("row 11",))


async def test_a_row_doubled_in_the_log_under_new_numbers_is_named(plant: Plant) -> None:
    [data] = await plant.move(rows(10))
    await plant.send(reframed(data, doubled, first=11), free=False)
    await plant.ingest()
    finding = only(await plant.audit())
    assert (finding.stage, finding.what, finding.identities) == ("log", "doubled", ("row 11",))
    assert finding.machine == MACHINE


async def test_a_copy_altered_in_the_log_under_the_same_numbers_is_named(plant: Plant) -> None:
    [data] = await plant.move(rows(10))
    await plant.send(reframed(data, altered), free=False)
    await plant.ingest()
    for local in (False, True):
        finding = only(await plant.audit(local=local))
        assert (finding.stage, finding.what, finding.identities) == ("log", "altered", ("row 2",))


async def test_a_record_replaced_in_the_log_is_the_logs_fault_where_edge_and_store_agree(
    plant: Plant,
) -> None:
    [data, _] = await plant.move(rows(10), rows(10, 10))
    await plant.send(reframed(data, altered), free=False)
    await plant.delete_record(1)
    report = await plant.audit()
    found = [f for f in report.findings if f.what == "altered"]
    assert [(f.stage, f.rows) for f in found] == [("log", 1)]
    assert found[0].identities[0].startswith(f"{MACHINE}/p1 at ")


async def test_the_outboxs_copy_tells_who_altered_a_frame(plant: Plant) -> None:
    good, bad = plant.cut(rows(10)), plant.cut(rows(10, 10, hour=1))
    await plant.send(good, free=False)
    await plant.send(reframed(bad, altered), free=False)
    await plant.ingest()
    finding = only(await plant.audit())
    assert (finding.stage, finding.what, finding.identities) == ("log", "altered", ("rows 11-20",))
    plant.tamper(plant.outbox, "UPDATE frames SET data = ? WHERE first = 1", (reframed(good, altered),))
    stages = {(f.stage, f.identities) for f in (await plant.audit()).findings}
    assert stages == {("log", ("rows 11-20",)), ("edge", ("rows 1-10",))}


# Store


READING = "WHERE series = (SELECT id FROM series WHERE sensor = 't1') AND time_us = ?"


async def test_a_row_deleted_from_the_store_is_named(plant: Plant) -> None:
    await plant.move(rows(10))
    plant.tamper(plant.telemetry, f"DELETE FROM readings {READING}", (T0,))  # noqa: S608 - own text
    finding = only(await plant.audit())
    assert (finding.stage, finding.what, finding.rows) == ("store", "missing", 1)
    assert (finding.machine, finding.hour) == (MACHINE, HOUR)
    assert finding.identities == ("pump-1/t1 at 2025-06-15T15:00:00+00:00",)


async def test_a_row_doubled_in_the_store_is_named(plant: Plant) -> None:
    await plant.move(rows(10))
    plant.tamper(
        plant.telemetry,
        "INSERT INTO readings SELECT series, time_us + 1, value, quality, unit, arrival_us, source, row"  # noqa: S608 - own text
        f" FROM readings {READING}",
        (T0,),
    )
    finding = only(await plant.audit())
    assert (finding.stage, finding.what, finding.edge) == ("store", "doubled", EDGE)
    assert finding.identities == ("pump-1/t1 at 2025-06-15T15:00:00.000001+00:00",)


@pytest.mark.parametrize("change", ["value = value + 1", "quality = 2"])
async def test_a_row_altered_in_the_store_is_named(plant: Plant, change: str) -> None:
    await plant.move(rows(10))
    plant.tamper(plant.telemetry, f"UPDATE readings SET {change} {READING}", (T0,))  # noqa: S608 - own text
    finding = only(await plant.audit(local=False))
    assert (finding.stage, finding.what, finding.rows) == ("store", "altered", 1)
    assert finding.identities == ("pump-1/t1 at 2025-06-15T15:00:00+00:00",)


async def test_records_that_the_store_passed_over_are_missing_there(plant: Plant) -> None:
    await plant.move(rows(10))
    await plant.send(plant.cut(rows(10, 10)))  # ingest never sees it
    plant._ingested[names.SENSOR_READINGS] = await plant.log.end(names.SENSOR_READINGS)
    await plant.send(plant.cut(rows(10, 20)))
    await plant.ingest()
    finding = only(await plant.audit())
    assert (finding.stage, finding.what, finding.identities) == ("store", "missing", ("rows 11-20",))


# What the log no longer holds, or never could


@pytest.mark.parametrize("local", [True, False])
async def test_rows_that_aged_out_of_the_log_are_a_note(plant: Plant, local: bool) -> None:  # noqa: FBT001 - a case
    await plant.move(rows(10), rows(10, 10), rows(10, 20))
    await plant.purge_before(3)
    report = await plant.audit(local=local)
    assert report.findings == ()
    assert any("20 rows are in the store and have aged out of the log" in note for note in report.notes)
    assert (report.rows_in_log, report.rows_in_store) == (10, 10)
    plant.tamper(plant.telemetry, f"UPDATE readings SET value = 0.5 {READING}", (T0 + 20_000_000,))  # noqa: S608 - own text
    finding = only(await plant.audit(local=local))
    assert (finding.stage, finding.what, finding.rows) == ("store", "altered", 1)


async def test_what_the_store_keeps_no_longer_is_a_note_and_the_rest_is_compared(plant: Plant) -> None:
    await plant.move(rows(20), rows(6, 20, hour=30))
    assert await plant.store.expire(Retention(raw_us=DAY_US), T0 + DAY_US + 2 * HOUR_US) == 20
    found = await plant.audit()
    assert (found.findings, found.rows_in_log, found.rows_in_store) == ((), 26, 6)
    [note] = found.notes
    assert note.startswith("20 readings of the log are from before 2")
    plant.tamper(plant.telemetry, "DELETE FROM readings WHERE time_us = (SELECT max(time_us) FROM readings)")
    assert [(f.what, f.rows) for f in (await plant.audit()).findings] == [("missing", 1)]


async def test_an_unreadable_record_is_a_note_and_other_kinds_are_read_by_their_numbers(plant: Plant) -> None:
    await plant.move(rows(10))
    await plant.log.append(names.SENSOR_READINGS, MACHINE, [Record(b"garbage")])
    with plant.file.transaction():
        plant.file.append(pieces([Item(MACHINE, Kind.WAVE, Records((b"wave", b"form")))]))
        [ref] = plant.file.cut(partial=True)
    wave = plant.file.data(ref.first)
    assert wave is not None
    await plant.log.append(names.WAVEFORMS, MACHINE, [Record(wave)])
    await plant.ingest()
    report = await plant.audit()
    assert report.findings == ()
    assert any("1 records of the log can't be read" in note for note in report.notes)
    [source] = report.sources
    assert (source.logged, source.stored, source.pending) == (12, 10, 0)
    header, body = decode(wave)
    assert isinstance(body, Records)
    forged = encode(header, Records((b"wave", b"FORM")))
    await plant.log.append(names.WAVEFORMS, MACHINE, [Record(forged)])
    finding = only(await plant.audit())
    assert (finding.stage, finding.what, finding.identities) == ("log", "altered", ("rows 11-12",))


async def test_rows_younger_than_an_edges_report_are_compared_with_the_store_only(plant: Plant) -> None:
    await plant.move(rows(10))
    before = plant.report()
    await plant.move(rows(10, 10), rows(7, 20))
    report = await audit(plant.log, plant.store, before)
    assert report.findings == ()
    assert "17 rows of edge-1 are newer than its report and were compared with the store only" in report.notes
    plant.tamper(plant.telemetry, f"DELETE FROM readings {READING}", (T0 + 20_000_000,))  # noqa: S608 - own text
    finding = only(await audit(plant.log, plant.store, before))
    assert (finding.stage, finding.what) == ("store", "missing")


async def test_rows_that_the_edge_had_not_numbered_when_it_reported_later_are_forged(plant: Plant) -> None:
    [data] = await plant.move(rows(10))
    await plant.send(reframed(data, lambda body: body, first=11), free=False)
    await plant.ingest()
    told = plant.report()[EDGE]
    assert told.taken_us is not None
    later = told.model_copy(update={"taken_us": told.taken_us + 61_000_000})
    finding = only(await audit(plant.log, plant.store, {EDGE: later}))
    assert (finding.stage, finding.what, finding.identities) == ("log", "doubled", ("rows 11-20",))


# Live


async def test_live_traffic_makes_no_false_finding(plant: Plant) -> None:
    await plant.move(*(rows(10, 10 * n) for n in range(20)))
    stop = asyncio.Event()

    async def live() -> None:
        n = 20
        while not stop.is_set():
            await plant.move(rows(10, 10 * n), rows(3, 10 * (n - 5)))
            plant.cut(rows(1, n, hour=2))
            n += 1

    task = asyncio.create_task(live())
    try:
        for _ in range(5):
            report = await plant.audit(local=False, wait=5.0)
            assert report.findings == ()
            assert report.rows_in_store >= 200
    finally:
        stop.set()
        await task
    # An outbox that its edge holds can't be read: the report has to do.
    report = await audit(plant.log, plant.store, plant.report(), outboxes={EDGE: plant.outbox})
    assert report.findings == ()
    assert any("its last report is used" in note for note in report.notes)
