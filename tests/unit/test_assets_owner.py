"""The owner of the assets on a real log: they appear, people change them, and a death at any step loses nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloud.assets.app import Owner
from cloud.assets.commands import Commands
from cloud.assets.fold import State
from cloud.assets.logic import decide_observed
from cloud.assets.model import Kind, Status
from cloud.assets.port import Stale, Wanted, WantedOrders
from cloud.assets.sightings import Sightings
from shared.clock import ManualClock, SystemClock
from shared.errors import Conflict, NotFound, Rejected, Unavailable
from shared.eventlog import Record
from shared.events import EdgeStarted, NodeOnline, at, parse_event
from shared.names import ASSETS, WORK_ORDERS
from tests.servers import NatsServer
from tests.unit.assets_plant import FLOW, SEEN, Assets, ada, assets_on, owning


@pytest.fixture
async def assets(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Assets]:
    async with assets_on(nats_server, tmp_path / "app.db") as made:
        yield made


async def same_everywhere(assets: Assets) -> State:
    """What the log says, what the tables hold, and that both are one."""
    fresh = State()
    for topic in (ASSETS, WORK_ORDERS):
        async for record in assets.log.read(topic):
            with contextlib.suppress(Rejected):
                fresh.take(parse_event(record.value))
    await assets.owner.save()
    held, positions = await assets.tables.load()
    assert (held.assets, held.counters, held.orders) == (fresh.assets, fresh.counters, fresh.orders)
    assert dict(held.requests) == dict(fresh.requests)
    assert positions.get(ASSETS, {}) == await assets.log.end(ASSETS)
    return fresh


async def test_assets_appear_by_themselves_once_and_what_a_person_said_stays(assets: Assets) -> None:
    assert await assets.owner.see(SEEN) == 6
    assert await assets.owner.see(SEEN) == 0
    changed = await assets.commands.change(*FLOW, {"normal_low": 36, "name": "Flow"}, ada())
    assert changed.changed
    worn = {"sensors": [{"name": "flow", "low": 30.0, "high": 50.0}]}
    births = [
        EdgeStarted(
            source="edge/e", subject="edge-pump-1", occurred_at=at(1), epoch="0", software="9.9"
        ),
        NodeOnline(
            source="gateway/g", subject="node-1-pump", occurred_at=at(1), edge="gateway-1", group="G",
            node="N", device="Pump", bd_seq=1, metrics=2,
        ),
    ]  # fmt: skip
    again = Sightings(
        assignments=SEEN.assignments, series=SEEN.series, models=[("pump-1", worn)], births=births,
        sites={"replay-x": "s2", "": "s1"},
    )  # fmt: skip
    await assets.owner.see(again)
    state = await same_everywhere(assets)
    flow = state.assets[FLOW]
    assert flow.fields == {"unit": "m3/h", "normal_low": 36.0, "normal_high": 50.0, "name": "Flow"}
    assert dict(flow.sources)["normal_low"] == "edited"
    assert dict(flow.sources)["normal_high"] == "observed"
    assert state.assets[Kind.EDGE, "edge-pump-1"].fields["software"] == "9.9"
    assert state.assets[Kind.MACHINE, "node-1-pump"].fields == {"sparkplug": "G/N/Pump"}
    assert state.assets[Kind.MACHINE, "replay-x"].fields == {"site": "s2"}
    assert (Kind.MACHINE, "") not in state.assets
    back = await assets.commands.change(*FLOW, {"normal_low": None}, ada())
    assert back.thing.fields["normal_low"] == 30.0
    assert assets.registry.get_sample_value("im_asset_events_total", {"type": "asset.edited"}) == 2


async def test_a_request_is_done_once_and_its_key_is_for_nothing_else(assets: Assets) -> None:
    await assets.owner.see(SEEN)
    first = await assets.commands.change(*FLOW, {"name": "Flow"}, ada(request="k1"))
    await assets.commands.change(*FLOW, {"name": "Other"}, ada())
    again = await owning(assets.log, assets.tables).commands.change(
        *FLOW, {"name": "Flow"}, ada(request="k1")
    )
    assert (first.changed, again.changed, again.thing.fields["name"]) == (True, False, "Other")
    with pytest.raises(Conflict, match="something else"):
        await assets.commands.change(*FLOW, {"name": "Third"}, ada(request="k1"))
    opened = await assets.commands.open("pump-1", {"title": "Look"}, ada(request="k2"))
    assert (await assets.commands.open("pump-1", {"title": "Look"}, ada(request="k2"))).thing == opened.thing


async def test_a_change_of_an_old_revision_is_refused(assets: Assets) -> None:
    await assets.owner.see(SEEN)
    changed = await assets.commands.change(*FLOW, {"name": "Flow"}, ada(1))
    with pytest.raises(Stale):
        await assets.commands.change(*FLOW, {"name": "Mine"}, ada(1))
    await assets.commands.change(*FLOW, {"name": "Mine"}, ada(changed.thing.revision))


async def test_components_counters_and_resets(assets: Assets) -> None:
    await assets.owner.see(SEEN)
    bearing = (Kind.COMPONENT, "pump-1.de-bearing")
    made = await assets.commands.create(*bearing, {"attributes": {"balls": 9, "contact_deg": 0.5}}, ada())
    assert made.thing.fields == {"attributes": {"balls": 9, "contact_deg": 0.5}}
    with pytest.raises(Conflict, match="already"):
        await assets.commands.create(*bearing, {}, ada())
    with pytest.raises(NotFound):
        await assets.commands.reset("pump-1.de-bearing.run-hours", "new", ada())
    for value in (8000.0, 8120.0):
        await assets.commands.count("pump-1.de-bearing.run-hours", value, at(5), ada())
    reset = await assets.commands.reset("pump-1.de-bearing.run-hours", "bearing replaced", ada())
    again = await assets.commands.count("pump-1.de-bearing.run-hours", 3.0, None, ada())
    assert (reset.thing.value, again.thing.value) == (0.0, 3.0)
    assert [(one.value, one.reason, one.by) for one in again.thing.resets] == [
        (8120.0, "bearing replaced", "ada")
    ]
    await same_everywhere(assets)
    page = await assets.tables.counters("pump-1.de-bearing", "", 10)
    assert (list(page.items), page.more) == ([again.thing], False)
    assert await assets.tables.counter("pump-1.run-hours") is None


async def test_a_work_order_from_opening_to_closing(assets: Assets) -> None:
    await assets.owner.see(SEEN)
    anomaly = "ab" * 16
    opened = await assets.commands.open("pump-1", {"title": "Hot", "anomaly": anomaly}, ada())
    name = opened.thing.id
    await assets.commands.reword(name, {"priority": "urgent"}, ada())
    await assets.commands.start(name, ada())
    closed = await assets.commands.close(name, "OHE", "greased", ada())
    order = closed.thing
    assert (order.status, order.priority, order.failure_code, order.actions, order.closed_by) == (
        Status.CLOSED, "urgent", "OHE", "greased", "ada",
    )  # fmt: skip
    with pytest.raises(Conflict, match="closed already"):
        await assets.commands.cancel(name, "no", ada())
    other = await assets.commands.open("pump-1", {"title": "Twice"}, ada())
    cancelled = await assets.commands.cancel(other.thing.id, "opened twice", ada())
    assert cancelled.thing.cancelled_why == "opened twice"
    await same_everywhere(assets)
    found = await assets.tables.orders(WantedOrders(anomaly=anomaly), 0, 10)
    assert [one.id for one in found.items] == [name]
    assert found.position == await assets.log.end(WORK_ORDERS)


async def test_a_machine_goes_out_of_use_with_its_parts_and_comes_back(assets: Assets) -> None:
    await assets.owner.see(SEEN)
    with pytest.raises(Conflict, match="refers to"):
        await assets.commands.retire(Kind.SITE, "s1", "sold", ada())
    gone = await assets.commands.retire(Kind.MACHINE, "pump-1", "scrapped", ada())
    assert gone.thing.retired_why == "scrapped"
    state = await same_everywhere(assets)
    assert state.assets[FLOW].retired_at is not None
    with pytest.raises(Conflict, match="retired"):
        await assets.commands.change(*FLOW, {"name": "x"}, ada())
    with pytest.raises(Rejected, match="no machine 'pump-1' in use"):
        await assets.commands.restore(*FLOW, ada())
    assert await assets.owner.see(SEEN) == 0  # what is seen does not bring it back
    assert (await assets.tables.assets(Wanted(Kind.SENSOR), ("", ""), 10)).items[0].id == "replay-x.temp"
    await assets.commands.restore(Kind.MACHINE, "pump-1", ada())
    assert (await assets.commands.restore(*FLOW, ada())).thing.retired_at is None


async def test_files_are_compared_checked_whole_and_taken_in(assets: Assets) -> None:
    await assets.owner.see(SEEN)
    text, _ = await assets.commands.export("yaml")
    same = await assets.commands.load_file(text.encode(), "yaml", ada(), dry_run=False)
    assert (list(same.differences), list(same.faults)) == ([], [])
    end = await assets.log.end(ASSETS)
    wrong = b"machines:\n- id: pump-1\n  site: nowhere\n- id: pump-2\n  site: s1\n- id: Pump 3\n"
    refused = await assets.commands.load_file(wrong, "yaml", ada(), dry_run=False)
    assert [(fault.line, fault.reason.split(":")[0]) for fault in refused.faults] == [
        (2, "site"),
        (6, "machine 'Pump 3' is not an id"),
    ]
    right = b"areas:\n- id: hall\n  site: s1\nmachines:\n- id: pump-1\n  area: hall\n- id: pump-2\n  area: hall\nsensors:\n- id: pump-2.flow\n  unit: l/min\n"
    planned = await assets.commands.load_file(right, "yaml", ada(), dry_run=True)
    assert await assets.log.end(ASSETS) == end
    assert [(one.line, one.action, one.id) for one in planned.differences] == [
        (2, "create", "hall"), (5, "change", "pump-1"), (7, "create", "pump-2"), (10, "create", "pump-2.flow"),
    ]  # fmt: skip
    await assets.commands.load_file(right, "yaml", ada(), dry_run=False)
    state = await same_everywhere(assets)
    assert state.assets[Kind.MACHINE, "pump-1"].edited == {"area": "hall"}
    assert not (await assets.commands.load_file(right, "yaml", ada(), dry_run=False)).differences


async def test_whoever_else_writes_is_read_first_and_only_one_of_two_wins(assets: Assets) -> None:
    other = owning(assets.log, assets.tables)
    await asyncio.gather(assets.owner.see(SEEN), other.owner.look())
    await other.commands.change(*FLOW, {"name": "theirs"}, ada())
    with pytest.raises(Stale):
        await assets.commands.change(*FLOW, {"name": "ours"}, ada(1))


class Dying:
    """A log or a projection that dies before or after its n-th call."""

    def __init__(self, inner: Any, deaths: "Deaths") -> None:  # noqa: ANN401 - any port
        self._inner, self._deaths = inner, deaths

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any call
        found = getattr(self._inner, name)
        if name == "read":
            return found

        async def call(*args: Any, **more: Any) -> Any:  # noqa: ANN401 - any call
            self._deaths.step()
            answer = await found(*args, **more)
            self._deaths.step()
            return answer

        return call


class Deaths:
    """Counts steps; the chosen one is the last."""

    def __init__(self, at_step: int, error: BaseException) -> None:
        self.left, self.error = at_step, error

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


Work = Callable[[Commands, int], Awaitable[object]]
WORK: dict[str, tuple[Work, tuple[int, int]]] = {
    "change": (lambda c, n: c.change(*FLOW, {"name": f"Flow {n}"}, ada(request=f"k{n}")), (1, 0)),
    "open": (lambda c, n: c.open("pump-1", {"title": "Look"}, ada(request=f"k{n}")), (0, 1)),
    "retire": (lambda c, n: c.retire(Kind.MACHINE, f"m{n}", "scrapped", ada(request=f"k{n}")), (2, 0)),
}
"""What is done at step n, and how many events of each topic it makes."""
MOST_STEPS = 30


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("error", [asyncio.CancelledError(), Unavailable("away")], ids=["cancelled", "away"])
async def test_a_death_at_any_step_loses_nothing_and_does_nothing_twice(
    assets: Assets, name: str, error: BaseException
) -> None:
    work, expected = WORK[name]
    more = [(f"m{n}", "t", "K") for n in range(MOST_STEPS if name == "retire" else 0)]
    await assets.owner.see(Sightings(series=[*SEEN.series, *more]))
    for step in range(1, MOST_STEPS):
        before = [sum((await assets.log.end(topic)).values()) for topic in (ASSETS, WORK_ORDERS)]
        deaths = Deaths(step, error)
        dying = owning(Dying(assets.log, deaths), Dying(assets.tables, deaths))
        with contextlib.suppress(asyncio.CancelledError, Unavailable):
            await work(dying.commands, step)
        after = owning(assets.log, assets.tables)  # the process begins anew, and its caller asks again
        await work(after.commands, step)
        await same_everywhere(after)
        ends = [sum((await assets.log.end(topic)).values()) for topic in (ASSETS, WORK_ORDERS)]
        assert tuple(end - old for end, old in zip(ends, before, strict=True)) == expected
        if deaths.left > 0:
            assert step > 8
            return
    raise AssertionError("the steps never ended")


async def test_the_tables_are_made_anew_from_the_log_and_equal(assets: Assets) -> None:
    await assets.owner.see(SEEN)
    await assets.commands.change(*FLOW, {"name": "Flow"}, ada())
    await assets.commands.open("pump-1", {"title": "Look"}, ada())
    before = await assets.tables.load()
    await assets.tables.replace(State(), {})
    told: list[tuple[int, int]] = []
    await assets.owner.rebuild(lambda done, total: told.append((done, total)))
    assert await assets.tables.load() == before
    assert told[-1] == (8, 8)


async def test_tables_of_another_log_are_made_anew(assets: Assets) -> None:
    await assets.owner.see(SEEN)
    state, _ = await assets.tables.load()
    await assets.tables.replace(State(), {ASSETS: {"0": 999}})
    fresh = owning(assets.log, assets.tables)
    await fresh.owner.save()
    assert (await assets.tables.load())[0].assets == state.assets


async def test_an_event_of_a_later_release_is_passed_over(assets: Assets) -> None:
    await assets.log.append(ASSETS, "x", [Record(b'{"specversion": "1.0", "type": "asset.painted"}')])
    assert await assets.owner.see(SEEN) == 6
    await same_everywhere(assets)


class Away:
    """Tables that are away for a time."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401 - a port
        self._inner, self.away = inner, False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any call
        if self.away:
            raise Unavailable("the database is away")
        return getattr(self._inner, name)


async def test_with_the_database_away_changes_are_taken_and_the_tables_follow(assets: Assets) -> None:
    tables = Away(assets.tables)
    owner = Owner(assets.log, tables, SystemClock())
    await owner.see(SEEN)
    tables.away = True
    done = await Commands(owner, SystemClock()).change(*FLOW, {"name": "Flow"}, ada())
    assert (await assets.tables.asset(*FLOW) or done.thing).revision == 1
    with pytest.raises(Unavailable):
        await owner.save()
    tables.away = False
    await owner.save()
    assert await assets.tables.asset(*FLOW) == done.thing


async def test_the_loop_looks_again_and_again_and_waits_out_what_is_away(assets: Assets) -> None:
    clock = ManualClock()
    owner = Owner(assets.log, assets.tables, clock)
    looks = 0

    async def see() -> Sightings:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise Unavailable("the store is away")
        return SEEN

    loop = asyncio.create_task(owner.run(see, 5.0))
    async with asyncio.timeout(10):
        while await assets.tables.asset(*FLOW) is None:
            await clock.advance(5)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop


def test_one_look_makes_a_bounded_number_of_events() -> None:
    sightings = {(Kind.SENSOR, f"m.s{n}"): {"unit": "degC"} for n in range(30)}
    made = decide_observed(State(), sightings, datetime(2026, 1, 1, tzinfo=UTC), 10)
    assert len(made) == 10
