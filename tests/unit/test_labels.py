"""Verdicts: given once, superseded, read as of a time, weighed against work orders, capped a person; quiet windows."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.labels.app import VerdictDesk
from cloud.labels.logic import (
    PERSON_SHARE,
    QUIET_US,
    Order,
    State,
    cap,
    decide,
    drawn,
    labels_of,
    verdict_id,
    week_span,
)
from cloud.labels.port import Asked, Verdict
from cloud.telemetry.port import Entry, open_store
from industrialmind.labels import read_words
from shared.access import Role
from shared.clock import ManualClock
from shared.errors import Conflict, NotFound, Rejected
from shared.event import Event, at, to_us
from shared.eventlog import Record, Stored, open_event_log
from shared.events import parse_event
from shared.frames import Header, Kind, Scores, ScoreState
from shared.jetstream import default_budgets, ensure_topics
from shared.names import SCORES, WORK_ORDERS
from shared.verdict_events import VerdictKind
from shared.work_order_events import WorkOrderChanged, WorkOrderClosed, WorkOrderOpened
from tests.servers import NatsServer
from tests.unit.front_door import ONSET, anomaly_started, readings
from tests.unit.front_door import event as entry_of
from tests.unit.people_api import Plant, people_plant

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
WEEK = "2026-W10"
HOUR = timedelta(hours=1)


def asked(request: str = "k1", **more: Any) -> Asked:  # noqa: ANN401 - fields
    made = Asked(
        "pump-1", NOON - 3 * HOUR, NOON - 2 * HOUR, VerdictKind.FAULT, "VIB", 0.9, "", "", "ada", request
    )
    return replace(made, **more)


def verdict(number: int, by: str, **more: Any) -> Verdict:  # noqa: ANN401 - fields
    begins = NOON - 100 * HOUR + number * HOUR
    made = Verdict(f"vd-{number}", "pump-1", begins, begins + HOUR, VerdictKind.NORMAL, "", 1.0, by, "", NOON)
    return replace(made, **more)


def told(state: State, wanted: Asked, now: datetime = NOON) -> str:
    for event in decide(state, wanted, now):
        state.take(parse_event(event.to_json()))
    return verdict_id(wanted)


def test_a_verdict_is_read_as_it_was_known_at_a_time() -> None:
    state = State()
    first = told(state, asked())
    second = told(state, asked("k2", kind=VerdictKind.NORMAL, code="", supersedes=first), NOON + HOUR)
    assert [one.id for one in state.as_of(None)] == [second]
    assert [one.id for one in state.as_of(NOON)] == [first]
    assert state.as_of(NOON - HOUR) == []
    assert [one.superseded_by for one in state.as_of(None, all_of_them=True)] == [second, ""]
    with pytest.raises(Conflict, match="superseded"):
        told(state, asked("k3", supersedes=first))


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (asked(ends=NOON - 3 * HOUR), Rejected),
        (asked(begins=NOON - timedelta(days=91)), Rejected),
        (asked(begins=NOON + HOUR, ends=NOON + 2 * HOUR), Rejected),
        (asked(kind=VerdictKind.NORMAL), Rejected),
        (asked(supersedes="vd-none"), NotFound),
    ],
)
def test_what_can_not_be_said_is_refused(wanted: Asked, error: type[Exception]) -> None:
    with pytest.raises(error):
        decide(State(), wanted, NOON)


def test_another_machines_verdict_can_not_be_superseded() -> None:
    state = State()
    first = told(state, asked())
    with pytest.raises(Rejected, match="pump-1"):
        decide(state, asked("k2", machine="fan-1", supersedes=first), NOON)


def test_a_kind_of_a_later_release_is_no_label() -> None:
    state = State()
    [event] = decide(state, asked(), NOON)
    state.take(event.model_copy(update={"kind": "something-new"}))
    assert [one.kind for one in state.as_of(None)] == [VerdictKind.UNSURE]
    assert labels_of(state.as_of(None), [], NOON).labels == ()


def test_a_closed_work_order_outranks_clicks_whoever_gave_them_and_when() -> None:
    order = Order("wo-1", "pump-1", NOON - 50 * HOUR, NOON - 40 * HOUR, "VIB", "bob")
    people = ["ada", "bea", "cid", "dan"]
    clicks = [verdict(number, people[number % 4]) for number in range(0, 100, 5)]
    found = labels_of(clicks, [order, replace(order, code="")], NOON)
    assert found.overruled == 2
    assert [(one.code, one.confirmed) for one in found.faults] == [("VIB", True)]
    assert all(one.ends <= order.begins or one.begins >= order.closed for one in found.labels[1:])
    assert labels_of(clicks, [order], NOON - 45 * HOUR).faults == ()  # not closed yet, nothing clicked yet


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 20))
def test_nobody_gives_more_than_their_share(counts: list[int], others: int) -> None:
    clicks = [
        verdict(100 * who + number, f"p{who}") for who, count in enumerate(counts) for number in range(count)
    ]
    kept = cap(clicks, others)
    by = Counter(one.by for one in kept)
    total = len(kept) + others
    assert all(count <= PERSON_SHARE * total + 1e-9 for count in by.values())
    longer = max(by.values(), default=0) + 1  # one more of everybody's would be too much for somebody
    more = others + sum(min(count, longer) for count in counts)
    assert len(kept) == len(clicks) or longer > PERSON_SHARE * more


def test_the_surest_and_newest_of_a_persons_verdicts_stay() -> None:
    people = [verdict(number, f"p{number}") for number in range(4)]
    mine = [verdict(50 + n, "ada", confidence=c) for n, c in enumerate((0.2, 0.9, 0.5))]
    kept = [one.confidence for one in cap([*people, *mine], 0) if one.by == "ada"]
    assert kept == [0.9]


def test_quiet_windows_are_drawn_the_same_for_all_and_machines_take_turns() -> None:
    begins, ends = week_span(WEEK)
    whole = {"b": (begins, ends), "a": (begins, ends)}
    first = [one for _, one in zip(range(20), drawn(WEEK, whole), strict=False)]
    again = [one for _, one in zip(range(20), drawn(WEEK, dict(sorted(whole.items()))), strict=False)]
    assert first == again
    assert Counter(one.machine for one in first) == {"a": 10, "b": 10}
    assert all(begins <= one.from_us and one.to_us <= ends for one in first)
    every = list(drawn(WEEK, {"a": (begins, ends)}))
    assert len({one.from_us for one in every}) == len(every) == (ends - begins) // QUIET_US
    for wrong in ("2026", "2026-W60", "0-W1", "x-Wy"):
        with pytest.raises(Rejected):
            week_span(wrong)


def test_no_window_is_drawn_outside_its_machine_s_times() -> None:
    begins, ends = week_span(WEEK)
    young = (ends - 3 * QUIET_US + 1, ends + QUIET_US)
    found = list(drawn(WEEK, {"young": young, "idle": (begins, begins), "old": (0, begins + QUIET_US)}))
    assert sorted((one.machine, one.from_us) for one in found) == [
        ("old", begins),
        ("young", ends - 2 * QUIET_US),
        ("young", ends - QUIET_US),
    ]


def scored(hours: int, alarms: slice) -> Entry:
    """A machine scored each minute from the week's begin on, alarming in `alarms`."""
    begins, _ = week_span(WEEK)
    times = begins + 60_000_000 * np.arange(hours * 60)
    state = np.zeros(len(times), np.uint8)
    state[alarms] = ScoreState.ALARM
    ones = np.ones(len(times))
    body = Scores("m", "ab" * 32, 2.0, ("flow",), times, ones.astype(np.float32), state,
                  np.ones((len(times), 1), np.float32), ones[:, None])  # fmt: skip
    header = Header("s1", "e1", "pump-1", Kind.SCORES, b"s" * 16, 1, len(times))
    return Entry(Stored(SCORES, "pump-1", b"", {}, "0", 1, begins), header, body)


@pytest.fixture
async def plant(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Plant]:
    await ensure_topics(
        nats_server.url,
        credentials=nats_server.credentials,
        budgets=default_budgets(1 << 30),
        max_file_store=1 << 30,
    )
    async with people_plant(tmp_path, nats_server, clock=ManualClock(to_us(NOON))) as made:
        await made.api.store.write([readings(3)])
        yield made


BODY = {
    "machine": "pump-1", "begins": "2026-03-04T08:00:00Z", "ends": "2026-03-04T09:00:00+00:00",
    "kind": "fault", "code": "VIB", "confidence": 0.5,
}  # fmt: skip


async def test_a_technician_gives_a_verdict_once_and_all_read_it_as_of_a_time(plant: Plant) -> None:
    await plant.add("tess", Role.TECHNICIAN)
    await plant.add("olga", Role.OPERATOR)
    tess = {"Authorization": f"Bearer {await plant.session('tess')}", "Idempotency-Key": "k1"}
    olga = {"Authorization": f"Bearer {await plant.session('olga')}", "Idempotency-Key": "k1"}
    await plant.ask("POST", "/v1/verdicts", olga, 403, **BODY)
    await plant.ask("POST", "/v1/verdicts", tess, 404, **{**BODY, "machine": "pump-99"})
    done = await plant.ask("POST", "/v1/verdicts", tess, 201, **BODY)
    again = await plant.ask("POST", "/v1/verdicts", tess, 201, **BODY)
    assert (done["changed"], again["changed"], done["verdict"]) == (True, False, again["verdict"])
    assert (done["verdict"]["by"], done["verdict"]["as_of"]) == ("tess", "2026-03-04T12:00:00Z")
    await plant.ask("POST", "/v1/verdicts", tess, 409, **{**BODY, "code": "BRD"})
    await plant.ask("POST", "/v1/verdicts", {**tess, "Idempotency-Key": "k2"}, 422, **{**BODY, "kind": "odd"})
    now = await plant.ask("GET", "/v1/verdicts?machine=pump-1", olga)
    assert [one["id"] for one in now["verdicts"]] == [done["verdict"]["id"]]
    assert now["position"] == done["position"]
    before = await plant.ask("GET", "/v1/verdicts?as_of=2026-03-04T11:59:59Z", olga)
    assert before["verdicts"] == []
    assert (await plant.ask("GET", "/v1/verdicts/review", olga))["week"] == WEEK


async def test_work_orders_count_from_the_anomaly_that_they_were_opened_for(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    await ensure_topics(
        nats_server.url,
        credentials=nats_server.credentials,
        budgets=default_budgets(1 << 30),
        max_file_store=1 << 30,
    )
    anomaly = anomaly_started()
    opened, closed = ONSET + 2 * HOUR, ONSET + 30 * HOUR

    def order(name: str, revision: int, cls: Any, **more: Any) -> Event:  # noqa: ANN401 - fields
        when = closed if cls is WorkOrderClosed else opened
        made: Event = cls(
            source="cloud/assets", subject=name, occurred_at=when, revision=revision, by="bob", **more
        )
        return made

    words = {"component": "", "kind": "corrective", "priority": "high", "title": "look", "description": ""}
    done = {"failure_code": "VIB", "actions": ""}
    told = [
        order("wo-1", 1, WorkOrderOpened, machine="pump-1", anomaly="", **words),
        order("wo-1", 2, WorkOrderChanged, fields={"anomaly": anomaly.id}),
        order("wo-1", 3, WorkOrderClosed, **done),
        order("wo-2", 1, WorkOrderOpened, machine="fan-1", anomaly="", **words),
        order("wo-2", 2, WorkOrderClosed, **done),
        order("wo-3", 1, WorkOrderOpened, machine="pump-1", anomaly="", **words),
        order("wo-3", 2, WorkOrderClosed, failure_code="", actions="nothing found"),
    ]
    async with (
        open_event_log(nats_server.url, credentials=nats_server.credentials) as events,
        open_store(f"sqlite:///{tmp_path}/t.db") as store,
    ):
        await store.write([entry_of(1, anomaly)])
        for event in told:
            await events.append(WORK_ORDERS, event.subject, [Record(event.to_json(), id=event.id)])
        found = await read_words(events, store, "pump-1", closed)
        early = await read_words(events, store, "pump-1", opened)
    assert [(one.begins, one.ends, one.by) for one in found.labels.faults] == [(ONSET, closed, "bob")]
    assert [(one.kind, one.confirmed) for one in found.judged] == [("fault", True)]
    assert (found.since(opened), found.since(closed)) == (1, 0)
    assert early.judged == ()


async def test_only_windows_in_which_nothing_alarmed_are_offered(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with (
        open_event_log(nats_server.url, credentials=nats_server.credentials) as events,
        open_store(f"sqlite:///{tmp_path}/t.db") as store,
    ):
        await store.write([readings(3), scored(168, slice(0, 160 * 60))])
        desk = VerdictDesk(events, store, ManualClock(to_us(NOON)))
        begins, ends = week_span(WEEK)
        found = await desk.review(WEEK)
        assert 1 <= len(found) <= 20
        assert all(one.from_us >= begins + 160 * 3600 * 1_000_000 for one in found)
        assert at(found[0].from_us) < at(ends)
        assert await desk.review("2026-W11") == []
