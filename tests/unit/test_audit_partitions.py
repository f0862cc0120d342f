"""Ledger and audit over a log of several partitions: each partition has offsets of its own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from cloud.ingest.logic import read_batch
from cloud.ledger.app import Ledger, Metrics
from cloud.ledger.audit import audit
from cloud.telemetry.port import TelemetryStore, open_store
from shared.clock import SystemClock
from shared.eventlog import Position, Record, Stored, Subscription
from shared.names import direct_edge
from tests.unit.test_ledger_logic import frame


class Partitions:
    """A log of given records, read as a log of several partitions is: in order of each, mixed."""

    def __init__(self, records: Sequence[Stored]) -> None:
        self.records = list(records)

    async def append(
        self, topic: str, key: str, records: Sequence[Record], *, fence: Position | None = None
    ) -> Position:
        raise NotImplementedError

    def consume(self, topics: Sequence[str], group: str) -> AbstractAsyncContextManager[Subscription]:
        raise NotImplementedError

    async def read(self, topic: str, start: Any = None, *, follow: bool = False) -> AsyncIterator[Stored]:  # noqa: ANN401
        assert not follow
        after: Position = start if isinstance(start, dict) else {}
        for record in list(self.records):
            if record.topic == topic and record.offset > after.get(record.partition, 0):
                yield record

    async def end(self, topic: str) -> Position:
        ends: dict[str, int] = {}
        for record in self.records:
            if record.topic == topic:
                ends[record.partition] = max(ends.get(record.partition, 0), record.offset)
        return ends


def sent(first: int, last: int, partition: str, offset: int, number: int) -> Stored:
    """Rows that gateway `number` framed itself."""
    made = frame(first, last, offset=offset, edge=direct_edge(number))
    return replace(made, partition=partition, key=f"m{number}")


RECORDS = [
    sent(1, 4, "1", 1, 1),
    sent(5, 9, "1", 2, 1),
    sent(10, 12, "1", 3, 1),
    sent(1, 3, "0", 1, 2),
    sent(4, 6, "0", 2, 2),
    sent(1, 3, "0", 3, 2),  # the same once more: its acknowledgement was lost
]


async def stored(store: TelemetryStore, records: Sequence[Stored]) -> None:
    await store.write(read_batch(records)[0])


async def test_the_audit_reads_every_partition_to_its_end(tmp_path: Path) -> None:
    log = Partitions(RECORDS)
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        await stored(store, RECORDS)
        report = await audit(log, store, {}, folder=tmp_path, catch_up_seconds=0)
        assert (report.findings, report.rows_in_log) == ((), 18)
        assert [(s.logged, s.stored, s.resent) for s in report.sources] == [(12, 12, 0), (6, 6, 3)]


async def test_rows_still_to_come_from_one_partition_are_no_loss_though_another_is_further(
    tmp_path: Path,
) -> None:
    log = Partitions(RECORDS)
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        await stored(store, [r for r in RECORDS if r.partition == "1"])  # partition 0 has the smaller offsets
        behind = await audit(log, store, {}, folder=tmp_path, catch_up_seconds=0)
        assert behind.findings == ()
        assert any("6 rows of the log are still to come" in note for note in behind.notes)


async def test_a_row_altered_in_the_second_copy_is_named_in_its_partition(tmp_path: Path) -> None:
    copy = replace(
        RECORDS[0], partition="0", offset=4, value=frame(1, 4, offset=4, edge=direct_edge(1), at=1).value
    )
    log = Partitions([*RECORDS, copy])
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        await stored(store, [*RECORDS, copy])
        report = await audit(log, store, {}, folder=tmp_path, catch_up_seconds=0)
        assert [(f.stage, f.what, f.rows) for f in report.findings] == [("log", "altered", 4)]


async def test_the_service_waits_for_each_partition(tmp_path: Path) -> None:
    async def reports() -> dict[str, Any]:
        return {}

    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        ledger = Ledger(
            Partitions(RECORDS),
            store,
            reports,
            None,
            Metrics(CollectorRegistry()),
            SystemClock(),
            catch_up_seconds=0,
        )
        told: list[tuple[int, int]] = []
        await ledger.rebuild(lambda done, total: told.append((done, total)))
        assert told[-1] == (6, 6)
        await stored(store, [r for r in RECORDS if r.partition == "1"])
        assert any("not yet taken all" in note for note in (await ledger.report()).notes)
        await stored(store, RECORDS)
        assert (await ledger.report()).notes == ()
