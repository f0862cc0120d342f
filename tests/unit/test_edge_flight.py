"""Which frame goes out next: the bound, the order, the resends and their backoff."""

import random

from edge.flight import Flight
from edge.outbox_frames import FrameRef
from shared.clock import ManualClock
from shared.frames import Kind
from shared.uplink import MAX_IN_FLIGHT, RESEND_AFTER_SECONDS, RESEND_CAP_SECONDS


def refs(first: int, count: int, *, urgent: bool = False) -> list[FrameRef]:
    return [FrameRef(n, n, "pump", urgent) for n in range(first, first + count)]


def made() -> tuple[Flight, ManualClock]:
    clock = ManualClock()
    return Flight(clock, random.Random(1)), clock


def test_ordinary_frames_leave_room_for_urgent_ones() -> None:
    flight, _ = made()
    flight.add(refs(1, 100))
    assert len(flight.take()) == MAX_IN_FLIGHT - 8
    assert not flight.has_room
    flight.add(refs(101, 10, urgent=True))
    assert [ref.first for ref in flight.take()] == list(range(101, 109))
    assert flight.in_flight == MAX_IN_FLIGHT
    assert flight.take() == []
    flight.free([101])
    assert [ref.first for ref in flight.take()] == [109]


def test_newest_and_oldest_take_turns() -> None:
    flight, _ = made()
    flight.add(refs(1, 6))
    assert [ref.first for ref in flight.take()] == [6, 1, 5, 2, 4, 3]


def test_known_frames_are_not_added_twice_and_freed_ones_never_sent() -> None:
    flight, _ = made()
    flight.add(refs(1, 3))
    flight.add(refs(1, 3))
    flight.free([2])
    assert flight.unsent == 2
    assert sorted(ref.first for ref in flight.take()) == [1, 3]
    assert flight.unsent == 0


async def test_a_frame_is_resent_after_5_s_then_doubling_up_to_60_s() -> None:
    flight, clock = made()
    flight.add(refs(1, 1))
    assert flight.next_due() is None
    flight.take()
    waits = []
    for _ in range(7):
        due = flight.next_due()
        assert due is not None
        await clock.advance(due - 0.01)
        assert flight.take() == []
        await clock.advance(0.02)
        assert len(flight.take()) == 1
        waits.append(due)
    expected = [5, 10, 20, 40, 60, 60, 60]
    assert all(
        base - 1e-6 <= wait <= min(base * 1.25, 60) for wait, base in zip(waits, expected, strict=True)
    )
    assert (RESEND_AFTER_SECONDS, RESEND_CAP_SECONDS) == (5, 60)
    assert flight.resent == 7


async def test_a_new_connection_makes_everything_in_flight_due() -> None:
    flight, clock = made()
    flight.add([*refs(1, 3), *refs(4, 1, urgent=True)])
    flight.take()
    await clock.advance(1)
    assert flight.take() == []
    flight.link_up()
    assert flight.next_due() == 0
    assert [ref.first for ref in flight.take()] == [4, 1, 2, 3]


async def test_history_leaves_at_its_rate_and_live_frames_do_not_wait_for_it() -> None:
    clock = ManualClock()
    flight = Flight(clock, random.Random(1), drain_rows=2)
    flight.add(refs(1, 6))
    flight.link_up()
    assert [ref.first for ref in flight.take()] == [6, 1, 5], "what was saved up, and one frame on credit"
    flight.add(refs(7, 2))
    assert [ref.first for ref in flight.take()] == [8, 7], "live"
    assert flight.next_due() == 0.5
    await clock.advance(0.51)
    assert [ref.first for ref in flight.take()] == [2]
    flight.free(range(1, 9))
    assert flight.next_due() is None


def test_aggregates_and_what_thinning_left_are_history() -> None:
    flight, _ = made()
    flight.add(refs(1, 2))
    flight.add([FrameRef(9, 9, "pump", urgent=False, kind=Kind.AGGREGATE)])
    flight.free([1])
    flight.add(refs(3, 1), old=True)
    flight.link_up()
    flight.add(refs(20, 2))
    assert [ref.first for ref in flight.take()] == [21, 9, 20, 3, 2]
