"""Registering and delivering over a real log and control plane: repeatable, fenced, and whole after any crash."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import orjson
import pytest

from cloud.registry.app import Promotions, decide_for, deliver, load_registry, promote, register
from cloud.registry.logic import decide_registration
from shared.artifact import unpack
from shared.clock import ManualClock
from shared.errors import Conflict, NotFound, Rejected
from shared.eventlog import EventLog, Position, Record, open_event_log
from shared.events import at
from shared.jetstream import default_budgets, ensure_topics
from shared.names import MODELS
from shared.nats import ControlPlane, open_control
from tests.models import packed
from tests.servers import NatsServer

EDGE = "edge-pump-1"
CLOCK = ManualClock()
HASH = unpack(packed()).version_hash


@dataclass
class Parts:
    log: EventLog
    control: ControlPlane

    async def records(self) -> list[str]:
        """The types of all events in the log."""
        return [orjson.loads(stored.value)["type"] async for stored in self.log.read(MODELS)]

    async def desired(self) -> dict[str, str]:
        """What the edge is to run, by machine: the hash."""
        found = {}
        async for change in self.control.watch_desired(EDGE):
            if change is None:
                break
            assert change[1] is not None
            found[change[0]] = orjson.loads(change[1])["sha256"]
        return found


@pytest.fixture
async def parts(nats_server: NatsServer) -> AsyncIterator[Parts]:
    url, credentials = nats_server.url, nats_server.credentials
    await ensure_topics(url, credentials=credentials, budgets=default_budgets(nats_server.max_file_store))
    async with (
        open_event_log(url, credentials=credentials) as log,
        open_control(url, credentials=credentials) as control,
    ):
        await control.ensure_buckets([EDGE], models_bytes=64 << 20)
        yield Parts(log, control)


async def test_registered_and_promoted_once_however_often_it_is_asked(parts: Parts) -> None:
    for _ in range(2):
        model = await register(parts.log, parts.control, packed(), CLOCK)
        assert (model.machine, model.version, model.version_hash) == ("pump-1", 1, HASH)
    for _ in range(2):
        model = await promote(parts.log, parts.control, HASH, EDGE, CLOCK)
        assert model.promoted_to == (EDGE,)
    assert await parts.records() == ["model.registered", "model.promoted"]
    assert await parts.control.get_model(model.object_name) == packed()
    assert await parts.desired() == {"pump-1": HASH}


async def test_a_second_model_is_the_next_version_and_replaces_the_first(parts: Parts) -> None:
    other = packed("speed")
    for artifact in (packed(), other):
        model = await register(parts.log, parts.control, artifact, CLOCK)
        await promote(parts.log, parts.control, model.version_hash, EDGE, CLOCK)
    assert model.version == 2
    assert await parts.desired() == {"pump-1": unpack(other).version_hash}
    registry, _ = await load_registry(parts.log)
    assert [m.promoted_to for m in registry.models] == [(), (EDGE,)]


async def test_an_unknown_model_is_not_promoted(parts: Parts) -> None:
    with pytest.raises(NotFound, match="models list"):
        await promote(parts.log, parts.control, "ab" * 32, EDGE, CLOCK)
    assert await parts.desired() == {}


async def test_what_is_no_artifact_is_rejected_before_anything_is_kept(parts: Parts) -> None:
    with pytest.raises(Rejected):
        await register(parts.log, parts.control, b"half a model", CLOCK)
    assert await parts.records() == []


class Contended:
    """The log, on which someone else writes just before each of the first appends."""

    def __init__(self, log: EventLog, others: int) -> None:
        self._log = log
        self.others = others

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def append(
        self, topic: str, key: str, records: Sequence[Record], *, fence: Position | None = None
    ) -> Position:
        if self.others:
            self.others -= 1
            machine = f"other-{self.others}"
            manifest = unpack(packed()).manifest.model_copy(update={"machines": (machine,)})
            registry, _ = await load_registry(self._log)
            event = decide_registration(registry, manifest, f"{self.others}" * 64, at(1))
            assert event is not None
            await self._log.append(topic, machine, [Record(event.to_json(), id=event.id)])
        return await self._log.append(topic, key, records, fence=fence)


async def test_who_loses_a_race_reads_again_and_decides_anew(parts: Parts) -> None:
    contended = Contended(parts.log, others=2)
    model = await register(contended, parts.control, packed(), CLOCK)  # type: ignore[arg-type]
    assert model.version == 1
    registry, _ = await load_registry(parts.log)
    assert {m.machine for m in registry.models} == {"pump-1", "other-0", "other-1"}


async def test_who_loses_every_race_says_so(parts: Parts) -> None:
    with pytest.raises(Conflict, match="someone else"):
        await register(Contended(parts.log, others=9), parts.control, packed(), CLOCK)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_after_a_crash_between_two_steps_running_again_ends_in_the_same_place(
    parts: Parts, steps: int
) -> None:
    """0: nothing done; 1: the object kept; 2: registered; 3: promoted in the log, the edge not told."""
    if steps == 1:
        await parts.control.put_model(HASH, packed())
    if steps >= 2:
        await register(parts.log, parts.control, packed(), CLOCK)
    if steps == 3:
        with pytest.raises(Rejected):  # an edge whose key no bucket takes: the step after the log's fails
            await promote(parts.log, _Deaf(parts.control), HASH, EDGE, CLOCK)  # type: ignore[arg-type]
        assert await parts.records() == ["model.registered", "model.promoted"]
        assert await parts.desired() == {}
    await register(parts.log, parts.control, packed(), CLOCK)
    await promote(parts.log, parts.control, HASH, EDGE, CLOCK)
    assert await parts.records() == ["model.registered", "model.promoted"]
    assert await parts.desired() == {"pump-1": HASH}
    assert await parts.control.get_model(HASH) == packed()


async def two_versions(parts: Parts) -> Promotions:
    """Both registered, none promoted; the machine is assigned to the edge."""
    await parts.control.assign("s1", "pump-1", EDGE)
    for artifact in (packed(), packed("speed")):
        await register(parts.log, parts.control, artifact, CLOCK)
    return Promotions(parts.log, parts.control, CLOCK)


async def test_a_person_s_promotion_is_done_once_under_its_key(parts: Parts) -> None:
    promotions = await two_versions(parts)
    first = await promotions.promote("pump-1", 1, "key-1")
    assert (first.changed, first.model.promoted_to, dict(first.position)) == (True, (EDGE,), {"0": 3})
    await promotions.promote("pump-1", 2, "key-2")
    again = await promotions.promote("pump-1", 1, "key-1")  # sent again after a lost answer
    assert not again.changed
    assert await parts.desired() == {"pump-1": unpack(packed("speed")).version_hash}
    same = await promotions.promote("pump-1", 2, "key-3")
    assert not same.changed
    assert (await parts.records()).count("model.promoted") == 2
    with pytest.raises(Conflict, match="another promotion"):
        await promotions.promote("pump-1", 2, "key-1")


async def test_a_machine_with_no_edge_is_promoted_to_the_inference_service(parts: Parts) -> None:
    for artifact in (packed(), packed("speed")):
        await register(parts.log, parts.control, artifact, CLOCK)
    promotions = Promotions(parts.log, parts.control, CLOCK)
    done = await promotions.promote("pump-1", 1, "k")
    assert (done.changed, done.model.promoted_to) == (True, ("inference",))
    registry, _ = await load_registry(parts.log)
    champion = registry.champion("pump-1")
    assert champion is not None
    assert champion.version == 1
    assert await parts.desired() == {}


async def test_a_promotion_of_what_there_is_not_says_what_there_is(parts: Parts) -> None:
    promotions = await two_versions(parts)
    with pytest.raises(NotFound, match="no version 3: there are 1, 2"):
        await promotions.promote("pump-1", 3, "k")
    with pytest.raises(NotFound, match="pump-9 has no version 1, and no model at all"):
        await promotions.promote("pump-9", 1, "k")
    await parts.control.assign("s1", "fan-1", "edge-fan-1")
    with pytest.raises(NotFound, match="no model at all"):
        await promotions.promote("fan-1", 1, "k")


class Late:
    """A control plane on whose way another decision is written into the log before the first write arrives."""

    def __init__(self, parts: Parts, version_hash: str) -> None:
        self._parts, self._version_hash = parts, version_hash
        self.written: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._parts.control, name)

    async def desire(self, edge: str, key: str, value: bytes) -> None:
        if not self.written:
            await promote(self._parts.log, self._parts.control, self._version_hash, EDGE, CLOCK)
        self.written.append(orjson.loads(value)["sha256"])
        await self._parts.control.desire(edge, key, value)


async def test_who_writes_the_desired_state_last_has_seen_the_last_decision(parts: Parts) -> None:
    await two_versions(parts)
    other = unpack(packed("speed")).version_hash
    await decide_for(parts.log, HASH, EDGE, CLOCK)
    late = Late(parts, other)
    position = await deliver(parts.log, late)  # type: ignore[arg-type]
    assert late.written == [HASH, other]
    assert await parts.desired() == {"pump-1": other}
    assert position == await parts.log.end(MODELS)


class _Deaf:
    """A control plane that ends before the edge is told."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def desired(self, edge: str) -> dict[str, bytes]:
        return await self._control.desired(edge)

    async def desire(self, *_: object) -> None:
        raise Rejected("the process ended here")
