"""Whether who holds answers against the truth sees what is wrong with one."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.faults.answers import Question, Truth, question
from tests.faults.load import Device

Body = dict[str, Any]
SENSOR = "flow"


@pytest.fixture
def asked() -> Question:
    device = Device("m1", "mqtt://127.0.0.1:1", "a:b", seed="1", per_second=1.0)
    while device.numbers(SENSOR) < 20:
        device._next(1)
    return question(device, SENSOR, 0)


def body(asked: Question) -> Body:
    """All that was sent."""
    mine = {each.time_us: value for each, value in asked.device.sent.items() if each.sensor == SENSOR}
    return {"time_us": list(mine), "value": list(mine.values()), "downsampled": False}


def without_last(answer: Body) -> Body:
    return answer | {"time_us": answer["time_us"][:-1], "value": answer["value"][:-1]}


def test_right_answers_grow_or_are_not_modified_or_unavailable(asked: Question) -> None:
    truth = Truth()
    truth.hold(asked, httpx.Response(404))
    truth.hold(asked, httpx.Response(200, json=without_last(body(asked)), headers={"ETag": '"1"'}))
    assert truth.etag(asked) == '"1"'
    truth.hold(asked, httpx.Response(503))
    truth.hold(asked, httpx.Response(304))
    truth.hold(asked, httpx.Response(200, json=body(asked), headers={"ETag": '"2"'}))
    assert not truth.answers.wrong
    assert (truth.answers.right, truth.answers.unchanged) == (4, 1)


WRONG: dict[str, Callable[[Body], httpx.Response]] = {
    "a reading less": lambda right: httpx.Response(200, json=without_last(right)),
    "nothing": lambda right: httpx.Response(200, json=right | {"time_us": [], "value": []}),
    "another value": lambda right: httpx.Response(200, json=right | {"value": [1.5, *right["value"][1:]]}),
    "another time": lambda right: httpx.Response(200, json=right | {"time_us": [1, *right["time_us"][1:]]}),
    "one twice": lambda right: httpx.Response(
        200, json=right | {key: right[key] + right[key][-1:] for key in ("time_us", "value")}
    ),
    "means": lambda right: httpx.Response(200, json=right | {"downsampled": True}),
    "unknown": lambda _: httpx.Response(404),
    "a bug": lambda _: httpx.Response(500),
    "who are you": lambda _: httpx.Response(401),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_is_seen(asked: Question, wrong: str) -> None:
    truth = Truth()
    truth.hold(asked, httpx.Response(200, json=body(asked)))
    assert not truth.answers.wrong
    truth.hold(asked, WRONG[wrong](body(asked)))
    assert len(truth.answers.wrong) == 1


def test_an_old_answer_that_did_not_change_is_seen_when_newer_ones_had_more(asked: Question) -> None:
    truth = Truth()
    truth.hold(asked, httpx.Response(200, json=without_last(body(asked)), headers={"ETag": '"1"'}))
    truth.hold(asked, httpx.Response(200, json=body(asked)))
    truth.hold(asked, httpx.Response(304))
    assert len(truth.answers.wrong) == 1
