"""The intake when the disk is full: nothing is acknowledged until it is durable; acks for others free nothing."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry

from edge.agent import _trouble
from edge.flight import Flight
from edge.intake import WAITING_BYTES, Intake
from edge.outbox import open_outbox
from edge.uplink import Uplink
from shared.clock import ManualClock
from shared.machine_view import MachineView
from shared.paho import MqttClient, MqttMessage
from shared.uplink import Ack

NOW_MS = 1_700_000_000_000


class Inbox:
    """The receiving half of a client, fed by hand."""

    def __init__(self, *messages: tuple[str, bytes]) -> None:
        self._messages = [
            MqttMessage(topic, payload, retain=False, dup=False, qos=1, mid=mid, connection=1)
            for mid, (topic, payload) in enumerate(messages)
        ]
        self.acked: list[int] = []
        self.connected = asyncio.Event()
        self.last_error = ""

    async def subscribe(self, *filters: str) -> None:
        assert filters

    async def receive(self, limit: int) -> Sequence[MqttMessage]:
        if not self._messages:
            await asyncio.Event().wait()
        taken, self._messages = self._messages[:limit], self._messages[limit:]
        return taken

    def ack(self, messages: Sequence[MqttMessage]) -> None:
        self.acked += [message.mid for message in messages]


def as_client(inbox: Inbox) -> MqttClient:
    return cast("MqttClient", inbox)


async def turns(count: int = 40) -> None:
    for _ in range(count):
        await asyncio.sleep(0.002)


async def test_no_ack_before_the_rows_are_durable(tmp_path: Path) -> None:
    clock = ManualClock()
    payload = b'{"ts": %d, "value": 1, "unit": "bar"}' % NOW_MS
    inbox = Inbox(("plant/s1/pump/pressure", payload), ("plant/s2/pump/pressure", payload))
    async with open_outbox(tmp_path / "o.db", site="s1", edge="e1", clock=clock) as outbox:
        database = outbox._file._db
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        big = b"[%s]" % b",".join([payload] * 1000)
        inbox._messages.append(
            MqttMessage("plant/s1/pump/flow", big, retain=False, dup=False, qos=1, mid=2, connection=1)
        )
        intake = Intake(
            as_client(inbox),
            outbox,
            {"pump": MachineView()},
            clock,
            CollectorRegistry(),
            site="s1",
            edge="e1",
            batch=10,
            arrived=lambda *_: None,
            rows_waiting=lambda: None,
        )
        task = asyncio.create_task(intake.run())
        await turns()
        assert inbox.acked == []
        assert "disk is full" in intake.blocked
        assert (await outbox.report())["waiting"] == 0
        database.execute("PRAGMA max_page_count = 100000")
        await clock.advance(5)
        await turns()
        assert inbox.acked == [0, 1, 2]
        assert intake.blocked == ""
        assert (await outbox.report())["waiting"] == 1002  # two messages' rows and one dead letter
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_scoring_sees_rows_while_the_disk_takes_none_up_to_a_bound(tmp_path: Path) -> None:
    clock = ManualClock()
    count = 60
    batch = b"[%s]" % b",".join([b'{"ts": %d, "value": 1, "unit": "bar"}' % NOW_MS] * 1000)
    inbox = Inbox(*(("plant/s1/pump/pressure", batch) for _ in range(count)))
    seen: list[int] = []
    async with open_outbox(tmp_path / "o.db", site="s1", edge="e1", clock=clock) as outbox:
        database = outbox._file._db
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        intake = Intake(
            as_client(inbox),
            outbox,
            {"pump": MachineView()},
            clock,
            CollectorRegistry(),
            site="s1",
            edge="e1",
            batch=1,
            arrived=lambda _, rows: seen.append(len(rows)),
            rows_waiting=lambda: None,
        )
        task = asyncio.create_task(intake.run())
        await turns()
        bound = WAITING_BYTES // len(batch)
        assert bound <= len(seen) <= bound + 2
        assert inbox.acked == []
        database.execute("PRAGMA max_page_count = 100000")
        for _ in range(50):
            await clock.advance(5)
            await turns()
            if len(inbox.acked) == count:
                break
        assert inbox.acked == list(range(count))
        assert seen == [1000] * count
        assert (await outbox.report())["waiting"] == 1000 * count
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class LateGrant(Inbox):
    """A broker that delivers a session's queue before it answers the subscription."""

    async def subscribe(self, *filters: str) -> None:
        await super().subscribe(*filters)
        while self._messages:
            await asyncio.sleep(0)


async def test_a_queue_that_comes_before_the_subscription_is_granted_is_taken(tmp_path: Path) -> None:
    payload = b'{"ts": %d, "value": 1, "unit": "bar"}' % NOW_MS
    inbox = LateGrant(*[("plant/s1/pump/pressure", payload)] * 30)
    clock = ManualClock()
    async with open_outbox(tmp_path / "o.db", site="s1", edge="e1", clock=clock) as outbox:
        intake = Intake(
            as_client(inbox),
            outbox,
            {"pump": MachineView()},
            clock,
            CollectorRegistry(),
            site="s1",
            edge="e1",
            batch=10,
            arrived=lambda *_: None,
            rows_waiting=lambda: None,
        )
        task = asyncio.create_task(intake.run())
        await turns()
        assert inbox.acked == list(range(30))
        assert intake.listening
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_backlog_larger_than_the_outbox_is_taken_part_by_part(tmp_path: Path) -> None:
    clock = ManualClock()
    count = 120
    batches = (
        b"[%s]"
        % b",".join(b'{"ts": %d, "value": 1, "unit": "bar"}' % (NOW_MS - m * 1000 - n) for n in range(1000))
        for m in range(count)
    )
    inbox = Inbox(*(("plant/s1/pump/pressure", batch) for batch in batches))
    async with open_outbox(tmp_path / "o.db", site="s1", edge="e1", clock=clock, max_bytes=1 << 20) as outbox:
        intake = Intake(
            as_client(inbox),
            outbox,
            {"pump": MachineView()},
            clock,
            CollectorRegistry(),
            site="s1",
            edge="e1",
            batch=500,
            arrived=lambda *_: None,
            rows_waiting=lambda: None,
        )
        task = asyncio.create_task(intake.run())
        for _ in range(50):
            await turns()
            if len(inbox.acked) == count:
                break
            if intake.blocked:
                await outbox.cut(partial=True)
                await outbox.free([(1, 1_000_000)])
                await clock.advance(5)
        assert inbox.acked == list(range(count))
        assert (await outbox.usage()).bytes <= 1 << 20
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_acks_for_another_edge_or_epoch_free_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    payload = b'{"ts": %d, "value": 1, "unit": "bar"}' % NOW_MS
    async with open_outbox(tmp_path / "o.db", site="s1", edge="e1", clock=clock) as outbox:
        source = Inbox(("plant/s1/pump/pressure", payload))
        intake = Intake(
            as_client(source),
            outbox,
            {"pump": MachineView()},
            clock,
            CollectorRegistry(),
            site="s1",
            edge="e1",
            batch=10,
            arrived=lambda *_: None,
            rows_waiting=lambda: None,
        )
        task = asyncio.create_task(intake.run())
        await turns()
        await outbox.cut(partial=True)
        acks = Inbox(
            ("a", Ack("e2", outbox.epoch, ((1, 1),)).encode()),
            ("a", Ack("e1", b"x" * 16, ((1, 1),)).encode()),
            ("a", b"nonsense"),
        )
        uplink = Uplink(
            as_client(acks),
            outbox,
            Flight(clock, random.Random(1)),
            clock,
            CollectorRegistry(),
            site="s1",
            edge="e1",
        )
        hearing = asyncio.create_task(uplink.take_acks())
        await turns()
        assert acks.acked == [0, 1, 2]
        assert (await outbox.report())["buffered"] == [[1, 1]]
        acks._messages = [
            MqttMessage(
                "a",
                Ack("e1", outbox.epoch, ((1, 1),)).encode(),
                retain=False,
                dup=False,
                qos=1,
                mid=3,
                connection=1,
            )
        ]
        hearing.cancel()
        hearing = asyncio.create_task(uplink.take_acks())
        await turns()
        assert (await outbox.report())["buffered"] == []
        for each in (task, hearing):
            each.cancel()
            with suppress(asyncio.CancelledError):
                await each


async def test_an_edge_is_not_ready_before_it_hears_its_devices(tmp_path: Path) -> None:
    clock, inbox = ManualClock(), Inbox()
    async with open_outbox(tmp_path / "o.db", site="s1", edge="e1", clock=clock) as outbox:
        intake = Intake(
            as_client(inbox),
            outbox,
            {"pump": MachineView()},
            clock,
            CollectorRegistry(),
            site="s1",
            edge="e1",
            batch=10,
            arrived=lambda _machine, _rows: None,
            rows_waiting=lambda: None,
        )
        assert _trouble(as_client(inbox), intake) == "not connected yet"
        inbox.last_error = "refused"
        assert _trouble(as_client(inbox), intake) == "refused"
        inbox.connected.set()
        assert _trouble(as_client(inbox), intake) == "not subscribed yet"
        running = asyncio.create_task(intake.run())
        await turns()
        assert _trouble(as_client(inbox), intake) == ""
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
