"""The inference API over a real log, object store and telemetry store."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from cloud.inference.schemas import ScoreAnswer, ScoreRequest
from cloud.registry.app import decide_for, register
from cloud.telemetry.port import Entry
from shared.access import Principal, Role
from shared.artifact import unpack
from shared.eventlog import Stored
from shared.frames import Header, Kind
from shared.joserfc import Issuer, SigningKey
from shared.loaded import TRIAL_BYTES, load_tried
from shared.names import INFERENCE, INFERENCE_API, SENSOR_READINGS
from tests.servers import NatsServer
from tests.unit.edge_models import SECOND, SENSORS, START, UNITS, artifact, greedy, loaded, plant, rows
from tests.unit.inference_parts import CLOCK, Inference, open_inference
from tests.unit.test_signed_tokens import served

TABLE = plant(60, 3)
UNIT_OF = dict(zip(SENSORS, UNITS, strict=True))


def body(count: int = 60, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Rows of the pump."""
    table = {name: TABLE[:count, at].tolist() for at, name in enumerate(SENSORS)}
    times = [START + row * SECOND for row in range(count)]
    return {"machine": "pump", "rows": {"time_us": times, "values": table, "units": UNIT_OF}, **more}


@pytest.fixture
async def inference(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Inference]:
    async with open_inference(tmp_path, nats_server) as made:
        yield made


@pytest.fixture
async def serving(inference: Inference) -> AsyncIterator[Inference]:
    """With a champion of the pump, and following what is promoted."""
    await inference.promoted(artifact())
    following = asyncio.create_task(inference.models.follow(inference.events))
    async with asyncio.timeout(10):
        while inference.models.problem():
            await asyncio.sleep(0.005)
    yield inference
    assert not following.done()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_posted_rows_are_scored_by_the_champion(serving: Inference) -> None:
    found = await serving.post(body())
    wanted = loaded().scorer.score(TABLE[None, -8:])
    assert np.float32(found["score"][0]) == wanted.score[0]
    assert found["limit"] == wanted.limit
    assert found["time_us"] == [START + 59 * SECOND]
    assert found["state"] == ["normal"]
    assert found["model"]["version"] == 1
    assert found["model"]["version_hash"] == unpack(artifact()).version_hash
    assert serving.figure("im_inference_windows_total", outcome="scored") == 1


async def test_the_latest_data_is_what_the_store_has(serving: Inference) -> None:
    problem = await serving.get("/v1/machines/pump/score", 404)
    assert "no readings of 'pump'" in problem["title"]
    readings = rows(TABLE)
    header = Header("s1", "gateway-1", "pump", Kind.READINGS, b"e" * 16, 1, len(readings))
    place = Stored(SENSOR_READINGS, "pump", b"", {}, "0", 1, START)
    await serving.store.write([Entry(place, header, readings)])
    found = await serving.get("/v1/machines/pump/score", most=3)
    assert found["time_us"] == [
        START + row * SECOND for row in (55, 56, 57)
    ]  # two steps stay open for late rows
    posted = await serving.post(body(58, most=3))
    assert found["score"] == posted["score"]


async def test_another_version_is_named_by_its_hash(serving: Inference) -> None:
    other = await register(serving.events, serving.control, artifact(seed=2), CLOCK)
    async with asyncio.timeout(10):
        while serving.models._known().versions.get(other.version_hash) is None:
            await asyncio.sleep(0.005)
    found = await serving.post(body(version_hash=other.version_hash))
    assert found["model"]["version"] == 2
    assert found["score"] != (await serving.post(body()))["score"]
    await serving.post(body(version_hash="00" * 32), 404)
    await serving.post(body(version_hash=other.version_hash, machine="fan"), 404)


async def test_without_a_model_there_is_no_score_and_no_life(serving: Inference) -> None:
    assert "no model is promoted" in (await serving.post(body(machine="fan"), 404))["title"]
    assert "no model is promoted" in (await serving.get("/v1/machines/fan/score", 404))["title"]
    asked = {"machine": "pump", "cycles": [1.0], "values": {"flow": [1.0]}}
    assert "no life model" in (await serving.post(asked, 404, "/v1/life"))["title"]
    assert "no life model" in (await serving.get("/v1/machines/pump/life", 404))["title"]


async def test_before_the_registry_was_read_it_is_not_ready(inference: Inference) -> None:
    response = await inference.http.post("/v1/score", json=body())
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert inference.models.problem()


@pytest.mark.parametrize(
    ("wrong", "title"),
    [
        ({"rows": None}, "give either rows or windows"),
        ({"windows": {"time_us": [START], "sensors": ["flow"], "values": [[[1.0]]]}}, "give either rows"),
        ({"most": 0}, "most"),
        ({"most": 513}, "most"),
        ({"machine": "../x"}, "machine"),
        ({"version_hash": "abc"}, "version_hash"),
        ({"more": 1}, "more"),
        ({"rows": {"time_us": [START], "values": {"flow": [1.0, 2.0]}}}, "a value"),
        ({"rows": {"time_us": [START], "values": {"flow": ["hot"]}}}, "rows.values.flow"),
        ({"rows": {"time_us": [7], "values": {"flow": [1.0]}}}, "rows.time_us"),
        ({"rows": {"time_us": [], "values": {}}}, "rows"),
    ],
)
async def test_rubbish_is_named_and_refused(serving: Inference, wrong: dict[str, Any], title: str) -> None:
    assert title in (await serving.post(body() | wrong, 422))["title"]


async def test_bodies_that_are_no_json_or_too_large_are_refused(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with open_inference(tmp_path, nats_server, body_bytes=4096) as inference:
        for content, status in (
            (b"{", 422),
            (b"\xff\xfe", 422),
            (b"", 422),
            (b'{"machine": NaN}', 422),
            (b"[" * 4000, 400),
            (b" " * 5000, 413),
        ):
            response = await inference.http.post(
                "/v1/score", content=content, headers={"content-type": "application/json"}
            )
            assert response.status_code == status, (content[:20], response.text)


async def test_the_document_has_examples_and_says_who_may_ask(inference: Inference) -> None:
    document = await inference.get("/openapi.json")
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert len(operations) == 5
    assert all(each["x-right"] == "read" and each["security"] for each in operations)
    examples = document["paths"]["/v1/score"]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ]
    for example in examples.values():
        ScoreRequest.model_validate_json(orjson.dumps(example["value"]))
    answer = document["paths"]["/v1/score"]["post"]["responses"]["200"]["content"]["application/json"][
        "example"
    ]
    ScoreAnswer.model_validate(answer)


async def test_nobody_is_served_without_a_token(inference: Inference) -> None:
    for path in ("/v1/machines/pump/score", "/openapi.json", "/metrics"):
        response = await inference.http.get(path, headers={"Authorization": "Bearer guess"})
        assert response.status_code == 401
    assert (await inference.http.get("/livez", headers={"Authorization": ""})).status_code == 200


async def test_people_are_known_by_tokens_that_the_data_api_signed(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    key, viewer = SigningKey.new(), Principal.of("vera", Role.VIEWER)
    issuer = Issuer([key], CLOCK)
    good, elsewhere = (issuer.issue(viewer, audience).token for audience in (INFERENCE_API, "data-api"))
    nothing = issuer.issue(viewer, INFERENCE_API, ()).token
    async with (
        served(orjson.dumps(issuer.key_set())) as url,
        open_inference(tmp_path, nats_server, keys_url=url) as inference,
    ):
        for token, status in ((good, 404), ("secret", 404), (elsewhere, 401), (nothing, 403), ("x.y.z", 401)):
            headers = {"Authorization": f"Bearer {token}"}
            answer = await inference.http.get("/v1/machines/pump/life", headers=headers)
            assert answer.status_code == status, (token, answer.text)


async def test_a_promotion_under_load_fails_no_request(serving: Inference) -> None:
    """Every answer is the old version's or the new one's, each with that version's own score; none fails."""
    scores: dict[int, set[float]] = {1: set(), 2: set()}
    ended = asyncio.Event()

    async def client() -> None:
        while not ended.is_set():
            found = await serving.post(body())
            scores[found["model"]["version"]].add(found["score"][0])

    clients = [asyncio.create_task(client()) for _ in range(8)]
    async with asyncio.timeout(20):
        while not scores[1]:
            await asyncio.sleep(0.005)
        await serving.promoted(artifact(seed=2))
        while not scores[2]:
            assert not any(each.done() for each in clients)
            await asyncio.sleep(0.005)
    ended.set()
    await asyncio.gather(*clients)
    one, two = (loaded(seed=seed).scorer.score(TABLE[None, -8:]).score[0] for seed in (1, 2))
    np.testing.assert_allclose(sorted(scores[1]), one, rtol=1e-6)
    np.testing.assert_allclose(sorted(scores[2]), two, rtol=1e-6)
    assert serving.figure("im_inference_reloads_total", outcome="swapped") == 1


async def test_a_promoted_file_that_was_altered_leaves_the_old_model_at_work(serving: Inference) -> None:
    await serving.post(body())
    data = artifact(seed=2)
    model = await register(serving.events, serving.control, data, CLOCK)
    await serving.control.put_model(model.object_name, data[:-1] + bytes([data[-1] ^ 1]))
    await serving.promoted(artifact(seed=3))
    await decide_for(serving.events, model.version_hash, INFERENCE, CLOCK)
    async with asyncio.timeout(10):
        while not serving.figure("im_inference_reloads_total", outcome="refused"):
            await asyncio.sleep(0.005)
    assert (await serving.post(body()))["model"]["version"] in {1, 3}


async def test_a_champion_that_takes_all_memory_takes_a_childs_and_the_old_one_serves_on(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with open_inference(tmp_path, nats_server, load_tried) as inference:
        following = asyncio.create_task(inference.models.follow(inference.events))
        await inference.promoted(artifact())
        await inference.models._refresh(asyncio.TaskGroup())
        assert (await inference.post(body()))["model"]["version"] == 1
        await inference.promoted(greedy(artifact(seed=2), TRIAL_BYTES // 4 + 1))
        async with asyncio.timeout(30):
            while not inference.figure("im_inference_reloads_total", outcome="refused"):
                await asyncio.sleep(0.01)
        assert (await inference.post(body()))["model"]["version"] == 1
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_champion_that_can_not_be_loaded_is_an_answer(serving: Inference) -> None:
    data = artifact("fan")
    model = await register(serving.events, serving.control, data, CLOCK)
    await serving.control.put_model(model.object_name, b"half")
    await decide_for(serving.events, model.version_hash, INFERENCE, CLOCK)
    async with asyncio.timeout(10):
        while "fan" not in serving.models._known().champions:
            await asyncio.sleep(0.005)
    assert "hash" in (await serving.post(body(machine="fan"), 422))["title"]


async def test_versions_beyond_the_bound_make_room_and_come_back(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with open_inference(tmp_path, nats_server, models_kept=1) as inference:
        hashes = [(await inference.promoted(artifact(seed=seed))).version_hash for seed in (1, 2)]
        await inference.models._refresh(asyncio.TaskGroup())
        for _ in range(2):
            for number, version_hash in enumerate(hashes, 1):
                found = await inference.post(body(version_hash=version_hash))
                assert found["model"]["version"] == number
                assert inference.figure("im_inference_loaded_models") == 1
