"""The ledger's fold and judgement, and what it reads and writes."""

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.ledger.logic import SETTLE_US, Fold, Held, is_direct, judge
from cloud.ledger.report import AuditReport, EdgeReport, Finding, LedgerReport, within, without
from cloud.telemetry.lateness import Lateness, measure
from cloud.telemetry.port import ConflictFact, Counters, Source, StoredRanges
from shared import names
from shared.errors import Rejected
from shared.eventlog import Stored
from shared.frame_codec import encode
from shared.frames import Aggregates, Body, Header, Kind, Readings, Records
from shared.ranges import Range, RangeSet

EPOCH = b"e" * 16
NOW = 1_750_000_000_000_000
SOURCE = Source("edge-1", EPOCH)


def frame(
    first: int, last: int, *, offset: int, edge: str = "edge-1", kind: Kind = Kind.READINGS, at: int = 0
) -> Stored:
    count = last - first + 1
    zeros = np.full(count, at, np.int64)
    body: Body = Records((b"x",) * count)
    if kind is Kind.READINGS:
        body = Readings(
            ("t1",),
            ("m",),
            zeros * 0,
            zeros + np.arange(first, last + 1),
            zeros,
            zeros.astype(np.float64),
            zeros.astype(np.uint8) * 0,
        )
    value = encode(Header("s1", edge, "pump-1", kind, EPOCH, first, count), body)
    topic = names.WAVEFORMS if kind is Kind.WAVE else names.SENSOR_READINGS
    return Stored(topic, "pump-1", value, {}, "0", offset, NOW - SETTLE_US)


def folded(*records: Stored) -> Fold:
    fold = Fold()
    for record in records:
        fold.add(record)
    return fold


def report(produced: int, buffered: tuple[Range, ...] = (), **more: object) -> dict[str, EdgeReport]:
    raw = {"epoch": EPOCH.hex(), "produced": produced, "buffered": buffered, **more}
    return {"edge-1": EdgeReport.model_validate(raw)}


def held(*stored: Range, rejected: tuple[Range, ...] = (), source: Source = SOURCE) -> Held:
    return Held({source: StoredRanges(RangeSet(stored), RangeSet(rejected))}, {}, [], {}, caught_up=True)


def found(made: LedgerReport) -> list[tuple[str, str, int, tuple[str, ...]]]:
    return [(f.stage, f.what, f.rows, f.identities) for f in made.findings]


def test_nothing_is_wrong_when_all_rows_are_somewhere() -> None:
    fold = folded(frame(1, 5, offset=1), frame(8, 9, offset=2))
    made = judge(fold, report(10, ((6, 7), (10, 10)), waiting=4), held((1, 5), (8, 9)), NOW)
    assert made.findings == ()
    assert made.exit_code == 0
    [source] = made.sources
    assert (source.produced, source.buffered, source.logged, source.stored, source.waiting) == (
        10,
        3,
        7,
        7,
        4,
    )


@pytest.mark.parametrize(
    ("more", "store", "stage"),
    [
        ({}, ((1, 5),), "edge"),
        ({"acked": [[1, 10]]}, ((1, 5),), "uplink"),
        ({"acked": [[1, 5]], "damaged": [[6, 7]]}, ((1, 5),), "edge"),
        ({}, ((1, 10),), "log"),
    ],
)
def test_a_gap_is_named_with_the_stage_that_lost_it(
    more: dict[str, object], store: tuple[Range, ...], stage: str
) -> None:
    made = judge(folded(frame(1, 5, offset=1)), report(10, ((8, 10),), **more), held(*store), NOW)
    assert found(made) == [(stage, "missing", 2, ("rows 6-7",))]
    assert made.exit_code == 1


def test_degraded_rows_are_told_and_no_loss() -> None:
    made = judge(folded(frame(1, 5, offset=1)), report(10, degraded=[[6, 10]]), held((1, 5)), NOW)
    assert made.findings == ()
    assert made.sources[0].degraded == 5


def aggregate(first: int, last: int, replaces: tuple[Range, ...], *, offset: int) -> Stored:
    at = np.arange(1, last - first + 2)
    value = at.astype(np.float64)
    body = Aggregates(("t1",), ("m",), 10, at * 0, at * 10, at, value, value, value, replaces=replaces)
    head = Header("s1", "edge-1", "pump-1", Kind.AGGREGATE, EPOCH, first, last - first + 1)
    return Stored(names.SENSOR_READINGS, "pump-1", encode(head, body), {}, "0", offset, NOW - SETTLE_US)


def test_rows_that_aggregates_in_the_log_name_are_degraded_whoever_reports() -> None:
    fold = folded(frame(1, 5, offset=1), aggregate(21, 22, ((6, 20),), offset=2))
    for reports in ({}, report(22), report(22, degraded=[[6, 9]])):
        for each in (fold, Fold.from_json(fold.to_json())):
            made = judge(each, reports, held((1, 5), (21, 22)), NOW)
            assert made.findings == ()
            assert (made.sources[0].degraded, made.sources[0].missing) == (15, 0)
    aged = Fold(whole=False)
    aged.carry_over(fold)
    assert judge(aged, report(22), held((1, 5), (21, 22)), NOW).findings == ()


def test_a_row_that_no_aggregate_names_is_missing_beside_degraded_ones() -> None:
    fold = folded(frame(1, 5, offset=1), aggregate(21, 22, ((6, 18), (20, 20)), offset=2))
    assert found(judge(fold, report(22), held((1, 5), (21, 22)), NOW)) == [
        ("edge", "missing", 1, ("row 19",))
    ]


def test_a_snapshot_from_before_rows_were_replaced_is_read() -> None:
    raw = orjson.loads(folded(frame(1, 5, offset=1)).to_json())
    raw["sources"] = [one[:6] for one in raw["sources"]]
    assert Fold.from_json(orjson.dumps(raw)).sources[SOURCE].logged == RangeSet(((1, 5),))


def test_rows_that_the_store_lacks_are_pending_until_it_has_caught_up() -> None:
    fold = folded(frame(1, 5, offset=1))
    store = held((1, 2), rejected=((3, 3),))
    assert found(judge(fold, report(5), store, NOW)) == [("store", "missing", 2, ("rows 4-5",))]
    behind = judge(fold, report(5), store._replace(caught_up=False), NOW)
    assert behind.findings == ()
    assert behind.sources[0].pending == 2


def test_waveforms_are_not_asked_of_the_store() -> None:
    fold = folded(frame(1, 2, offset=1), frame(3, 4, offset=1, kind=Kind.WAVE))
    assert judge(fold, report(4), held((1, 2)), NOW).findings == ()


def test_a_gap_of_an_epoch_without_report_counts_once_it_has_settled() -> None:
    fold = folded(frame(1, 2, offset=1), frame(5, 6, offset=2))
    store = held((1, 2), (5, 6))
    other = {"edge-1": EdgeReport(epoch="00" * 16, produced=0)}
    assert found(judge(fold, other, store, NOW)) == [("edge", "missing", 2, ("rows 3-4",))]
    assert judge(fold, {}, store, NOW - 1).findings == ()


@pytest.mark.parametrize("edge", [names.direct_edge(0), names.scoring_edge(1)])
def test_numbers_that_a_gateway_or_the_cloud_s_scoring_never_logged_are_no_loss(edge: str) -> None:
    assert is_direct(edge)
    fold = folded(frame(1, 2, offset=1, edge=edge), frame(5, 6, offset=2, edge=edge))
    assert judge(fold, {}, held((1, 2), (5, 6), source=Source(edge, EPOCH)), NOW).findings == ()


def test_rows_that_aged_out_of_the_log_are_a_note() -> None:
    fold = folded(frame(5, 6, offset=9))
    assert not fold.whole
    made = judge(fold, report(6), held((1, 6)), NOW)
    assert made.findings == ()
    assert made.notes == ("edge-1: 4 rows are in the store and have aged out of the log",)


def test_what_a_rule_resolved_is_named_apart() -> None:
    conflict = ConflictFact("pump-1", "t1", NOW, (SOURCE, 2), 1.5, (SOURCE, 1), 1.0)
    fold = folded(frame(1, 2, offset=1), frame(1, 2, offset=2))
    store = held((1, 2))._replace(
        counters={SOURCE: Counters(3, 1, 2), Source("edge-2", b""): Counters()}, conflicts=[conflict]
    )
    made = judge(fold, report(2), store, NOW)
    assert made.exit_code == 0
    assert [(f.stage, f.what, f.rows) for f in made.resolved] == [
        ("uplink", "doubled", 2),
        ("edge", "doubled", 3),
        ("edge", "conflict", 1),
    ]
    assert made.resolved[2].identities == ("pump-1/t1 at 2025-06-15T15:06:40+00:00: kept 1.5, not 1",)


def test_unreadable_and_foreign_records_are_no_rows() -> None:
    fold = folded(
        Stored(names.SCORES, "m", b"garbage", {}, "0", 1, NOW),
        Stored(names.MACHINE_EVENTS, "m", b"{}", {}, "0", 1, NOW),
        Stored(names.DEAD_LETTER, "m", b"{}", {}, "0", 1, NOW),
    )
    assert (fold.sources, fold.unreadable) == ({}, 1)
    assert "can't be read" in judge(fold, {}, Held({}, {}, [], {}, caught_up=True), NOW).notes[0]


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5)), max_size=12), st.integers(0, 12))
def test_the_fold_is_unchanged_by_duplication_and_by_its_snapshot(
    spans: list[tuple[int, int]], cut: int
) -> None:
    records = [frame(first, first + more, offset=n) for n, (first, more) in enumerate(spans, 1)]
    whole = folded(*records)
    twice = folded(*records, *records)
    resumed = Fold.from_json(folded(*records[:cut]).to_json())
    for record in records[cut:]:
        resumed.add(record)
    for other in (twice, resumed):
        assert {s: f.logged for s, f in other.sources.items()} == {
            s: f.logged for s, f in whole.sources.items()
        }
        assert other.positions == whole.positions
    assert resumed.to_json() == whole.to_json()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"sources":[[1]],"positions":{},"unreadable":0}'])
def test_a_damaged_snapshot_is_rejected(data: bytes) -> None:
    with pytest.raises(Rejected):
        Fold.from_json(data)


def test_an_edges_report_is_read_as_it_is_written() -> None:
    raw = {
        "epoch": EPOCH.hex(),
        "produced": 3,
        "waiting": 1,
        "buffered": [[2, 3]],
        "tally": {"pump-1": {"486111": [3, 2**64 - 1]}},
        "set_aside": "",
    }
    made = EdgeReport.parse(orjson.dumps(raw))
    assert made.buffered == ((2, 3),)
    assert made.tally["pump-1"][486111] == (3, 2**64 - 1)


@pytest.mark.parametrize(
    "change",
    [{"epoch": "xyz"}, {"produced": -1}, {"buffered": [[3, 2]]}, {"buffered": [[0, 2]]}, {"tally": 7}],
)
def test_a_crooked_report_is_rejected(change: dict[str, object]) -> None:
    with pytest.raises(Rejected):
        EdgeReport.parse(orjson.dumps({"epoch": EPOCH.hex(), "produced": 3} | change))


def test_reports_are_json_and_back() -> None:
    finding = Finding(stage="log", what="missing", edge="e", rows=1, identities=("row 1",), advice="mend it")
    made = AuditReport(findings=(finding,), rows_in_log=5)
    assert AuditReport.model_validate_json(made.model_dump_json()) == made
    assert made.audited
    assert not LedgerReport().audited


def test_ranges_are_cut_by_sets() -> None:
    ranges = [(1, 10), (20, 22)]
    other = RangeSet([(3, 4), (9, 20)])
    assert without(ranges, other) == [(1, 2), (5, 8), (21, 22)]
    assert within(ranges, other) == [(3, 4), (9, 10), (20, 20)]


def test_a_topic_of_several_partitions_is_whole_if_each_begins_with_its_first_record() -> None:
    """Two gateways' records lie in two partitions, read in turn."""
    other = names.direct_edge(2)
    records = [
        replace(frame(1, 2, offset=1), partition="1"),
        frame(1, 3, offset=1, edge=other),
        replace(frame(3, 4, offset=2), partition="1"),
        frame(4, 6, offset=2, edge=other),
    ]
    fold = folded(*records)
    assert fold.whole
    assert fold.positions == {names.SENSOR_READINGS: {"0": 2, "1": 2}}
    assert [list(one.logged) for one in fold.sources.values()] == [[(1, 4)], [(1, 6)]]
    fold.add(replace(frame(9, 9, offset=5), partition="2"))
    assert not fold.whole


def test_a_partition_of_which_nothing_is_left_is_not_whole() -> None:
    fold = folded(frame(1, 2, offset=1))
    fold.reach(names.SENSOR_READINGS, {"0": 3})
    assert (fold.whole, fold.positions[names.SENSOR_READINGS]) == (True, {"0": 3})
    fold.reach(names.SENSOR_READINGS, {"0": 1, "1": 7})
    assert (fold.whole, fold.positions[names.SENSOR_READINGS]) == (False, {"0": 3, "1": 7})


def test_a_fold_read_anew_takes_over_what_the_log_holds_no_more() -> None:
    old = folded(frame(1, 4, offset=1), frame(5, 6, offset=1, kind=Kind.WAVE), frame(5, 6, offset=2))
    fresh = folded(frame(5, 6, offset=3))
    fresh.carry_over(old)
    [source] = fresh.sources.values()
    assert (list(source.logged), list(source.waves), source.resent) == ([(1, 6)], [(5, 6)], 2)
    assert fresh.whole
    whole = folded(frame(1, 2, offset=1))
    whole.carry_over(old)
    assert list(whole.sources[SOURCE].logged) == [(1, 2)]
    assert Fold.from_json(fresh.to_json()).sources == fresh.sources


def test_lateness_is_told_and_no_finding() -> None:
    one = Lateness(10_000_000)
    for counted in measure(np.array([1_000_000, 20_000_000]), np.array([0]), one.bound_us):
        one.add(*counted)
    made = judge(
        folded(frame(1, 2, offset=1)),
        report(2),
        held((1, 2))._replace(lateness={SOURCE: {"uplink": one}}),
        NOW,
    )
    assert made.exit_code == 0
    [delay] = made.lateness
    assert (delay.stage, delay.rows, delay.late, delay.bound, delay.longest) == ("uplink", 2, 1, 10, 20)
    assert delay.p50 == pytest.approx(1.05, abs=0.05)


def test_gaps_are_counted_beside_the_other_places() -> None:
    made = judge(
        folded(frame(1, 2, offset=1), frame(6, 6, offset=2)), report(7, ((7, 7),)), held((1, 2)), NOW
    )
    [summary] = made.sources
    assert (summary.missing, summary.pending) == (4, 1)  # 3 to 5 are nowhere, 6 never reached the store
