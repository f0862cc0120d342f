"""Events: a golden file for each type and shipped version, deterministic ids, upcasts, and refusals."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import Rejected
from shared.events import (
    EVENTS,
    AnomalyEnded,
    EdgeStarted,
    Event,
    Sensor,
    Upcast,
    at,
    deterministic_id,
    parse_event,
    to_us,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "events"
SHIPPED = [(kind, version) for kind, cls in EVENTS.items() for version in range(1, cls.version + 1)]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def golden(kind: str, version: int) -> bytes:
    return (GOLDEN / f"{kind}.v{version}.json").read_bytes()


@pytest.mark.parametrize(("kind", "version"), SHIPPED)
def test_every_shipped_version_has_a_golden_file_that_still_parses(kind: str, version: int) -> None:
    data = golden(kind, version)
    event = parse_event(data)
    assert type(event) is EVENTS[kind]
    envelope = orjson.loads(data)
    assert (envelope["type"], envelope["dataversion"]) == (kind, version)
    if version == event.version:
        assert orjson.loads(event.to_json()) == envelope
        assert parse_event(event.to_json()) == event


def test_every_golden_file_is_of_a_shipped_version() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"{kind}.v{v}.json" for kind, v in SHIPPED}


@pytest.mark.parametrize("kind", EVENTS)
def test_the_fields_that_make_an_identity_exist(kind: str) -> None:
    cls = EVENTS[kind]
    assert cls.identity
    assert set(cls.identity) <= set(cls.model_fields)


def ended(**fields: Any) -> AnomalyEnded:  # noqa: ANN401 - any field
    made: dict[str, Any] = {
        "source": "edge/edge-01",
        "subject": "pump-01",
        "occurred_at": NOON,
        "rule": "pca",
        "edge": "edge-01",
        "onset": NOON - timedelta(minutes=5),
        "peak_score": 3.0,
        "limit": 1.0,
    }
    return AnomalyEnded(**{**made, **fields})


def test_a_fact_told_twice_is_one_event() -> None:
    assert ended().id == ended(peak_score=9.0, occurred_at=NOON + timedelta(hours=1)).id
    assert ended().id != ended(rule="limit").id
    assert ended().id != ended(subject="pump-02").id


def test_one_moment_in_two_zones_is_one_identity() -> None:
    there = timezone(timedelta(hours=2))
    assert ended(onset=NOON).id == ended(onset=NOON.astimezone(there)).id


def test_ids_do_not_run_parts_together() -> None:
    assert deterministic_id("a", "bc") != deterministic_id("ab", "c")
    assert len(deterministic_id("a")) == 32


def test_a_time_with_no_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        ended(onset=datetime(2026, 3, 1))  # noqa: DTZ001 - the very thing under test


def test_events_are_frozen_and_know_their_fields() -> None:
    with pytest.raises(ValidationError):
        ended().limit = 2.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        ended(colour="red")
    with pytest.raises(ValidationError):
        Sensor(sensor="flow", share=1.5, seen=None, expected=None, unit="")


@given(st.integers(-(10**15), 4 * 10**15))
def test_event_time_survives_as_a_datetime(time_us: int) -> None:
    assert to_us(at(time_us)) == time_us


class Renamed(Event):
    """Version 1 said `degrees` in Fahrenheit; 2 renamed it; 3 is in Celsius and adds a note."""

    type: ClassVar[str] = "test.renamed"
    version: ClassVar[int] = 3
    identity: ClassVar[tuple[str, ...]] = ("celsius",)

    celsius: float
    note: str


LOCAL: dict[str, type[Event]] = {"test.renamed": Renamed}
LOCAL_UPCASTS: dict[tuple[str, int], Upcast] = {
    ("test.renamed", 1): lambda data: {"fahrenheit": data["degrees"]},
    ("test.renamed", 2): lambda data: {"celsius": (data["fahrenheit"] - 32) / 1.8, "note": ""},
}


def told(version: object, data: object, **envelope: object) -> bytes:
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": "x",
            "type": "test.renamed",
            "source": "edge/e",
            "subject": "m",
            "time": "2026-03-01T12:00:00Z",
            "dataversion": version,
            "data": data,
            **envelope,
        }
    )


@pytest.mark.parametrize(
    ("version", "data"),
    [(1, {"degrees": 212}), (2, {"fahrenheit": 212}), (3, {"celsius": 100, "note": ""})],
)
def test_each_old_version_is_brought_up_step_by_step(version: int, data: dict[str, Any]) -> None:
    event = parse_event(told(version, data), LOCAL, LOCAL_UPCASTS)
    assert isinstance(event, Renamed)
    assert event.celsius == pytest.approx(100)
    assert (event.note, event.occurred_at) == ("", NOON)


NEWEST = {"celsius": 1, "note": ""}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an event"),
        (b"[]", "not an event"),
        (b"7", "not an event"),
        (told(4, NEWEST), "reads up to 3"),
        (told("3", NEWEST), "reads up to 3"),
        (told(True, NEWEST), "reads up to 3"),
        (told(0, {}), "not an event"),
        (told(1, {"other": 1}), "not an event"),
        (told(3, {"celsius": 1}), "note"),
        (told(3, {"celsius": 1, "note": "", "extra": 1}), "extra"),
        (told(3, {**NEWEST, "subject": "other"}), "envelope"),
        (told(3, NEWEST, specversion="0.3"), "CloudEvents version"),
        (told(3, NEWEST, type="test.unknown"), "unknown event type"),
        (told(3, NEWEST, type=["a"]), "not an event"),
        (told(3, NEWEST, time="yesterday"), "not an event"),
        (told(3, NEWEST, time="2026-03-01T12:00:00"), "timezone"),
        (told(3, NEWEST, time="0001-01-01T00:00:00+10:00"), "not an event"),
        (told(3, 5), "not an event"),
        (told(1, {"degrees": "hot"}), "not an event"),
    ],
)
def test_what_is_no_event_is_rejected(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        parse_event(data, LOCAL, LOCAL_UPCASTS)


@given(
    kind=st.sampled_from(sorted(EVENTS)),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_damaged_events_are_rejected_or_parse(kind: str, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(golden(kind, 1))
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    try:
        event = parse_event(bytes(damaged))
    except Rejected:
        return
    assert parse_event(event.to_json()).id == event.id


def test_the_envelope_carries_causes_and_traces() -> None:
    event = EdgeStarted(
        source="edge/e",
        subject="e",
        occurred_at=NOON,
        correlation_id="c",
        causation_id="d",
        traceparent="00-a-b-01",
        epoch="00",
        software="0.1.0",
    )
    again = parse_event(event.to_json())
    assert (again.correlation_id, again.causation_id, again.traceparent) == ("c", "d", "00-a-b-01")
