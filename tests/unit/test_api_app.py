"""The data API over a real store and a real control plane."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest

from cloud.api.happenings import MAX_EVENTS
from cloud.api.history import MAX_POINTS
from cloud.api.rebuilds import MAX_KEYS
from cloud.telemetry.port import END_US, open_store
from industrialmind.rebuild_jobs import RebuildJobs
from shared.errors import Rejected, Unavailable
from shared.nats import open_control
from tests.servers import NatsServer
from tests.unit.api_parts import READINGS, Api
from tests.unit.front_door import ONSET, anomaly_ended, anomaly_started, event, readings, reported


@pytest.fixture
async def api(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Api]:
    async with (
        open_store(f"sqlite:///{tmp_path}/t.db") as store,
        open_control(nats_server.url, credentials=nats_server.credentials) as control,
    ):
        await control.ensure_buckets(["edge-pump-1", "edge-fan-1"])
        later = ONSET.replace(day=2)
        events = [anomaly_started(), anomaly_ended(), anomaly_started("fan-1", later)]
        await store.write([readings(1100), *(event(n, each) for n, each in enumerate(events, 1))])
        made = Api(store, control)
        async with made.http:
            yield made


async def follow(api: Api) -> asyncio.Task[None]:
    return asyncio.create_task(api.reported.follow())


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_machines_follow_assignments_and_reports(api: Api) -> None:
    assert await api.get("/v1/machines") == {"machines": []}
    await api.control.assign("s1", "pump-1", "edge-pump-1")
    following = await follow(api)
    await api.until(lambda: api.reported.assignments)
    [pump] = (await api.get("/v1/machines"))["machines"]
    assert (pump["machine"], pump["site"], pump["edge"]) == ("pump-1", "s1", "edge-pump-1")
    assert (pump["state"], pump["data_age_seconds"]) == ("unknown", None)

    state = {
        "machines": {"pump-1": reported("anomalous", score=3.0)},
        "listening": True,
        "outbox": {"rows": 4},
    }
    await api.control.report("edge-pump-1", "state", orjson.dumps(state))
    await api.until(lambda: api.reported.of("edge-pump-1"))
    [pump] = (await api.get("/v1/machines"))["machines"]
    assert (pump["state"], pump["score"], pump["limit"], pump["data_age_seconds"]) == ("anomalous", 3, 1, 2)
    assert pump["leading"][0] == {"sensor": "flow", "share": 1, "seen": 1, "expected": 2, "unit": "l/min"}
    assert pump["model"]["version"] == 2
    assert pump["listening"]

    await api.control.assign("s1", "fan-1", "edge-fan-1")
    await api.until(lambda: len(api.reported.assignments) == 2)
    assert [m["machine"] for m in (await api.get("/v1/machines"))["machines"]] == ["fan-1", "pump-1"]
    await end(following)


@pytest.mark.parametrize(
    "value",
    [b"{half", b"[1]", b'{"machines": 3}', b'{"machines": {"pump-1": {"arrival_us": 1, "last": {"x": {}}}}}'],
)
async def test_a_report_that_can_not_be_read_harms_nobody(api: Api, value: bytes) -> None:
    for machine in ("pump-1", "fan-1"):
        await api.control.assign("s1", machine, f"edge-{machine}")
    good = orjson.dumps({"machines": {"fan-1": reported("normal")}})
    await api.control.report("edge-pump-1", "state", value)
    await api.control.report("edge-pump-1", "ledger", b"{}")
    await api.control.report("edge-fan-1", "state", good)
    following = await follow(api)
    await api.until(lambda: api.reported.of("edge-fan-1") and "edge-pump-1" in api.reported._reports)
    states = {m["machine"]: m["state"] for m in (await api.get("/v1/machines"))["machines"]}
    assert states == {"fan-1": "normal", "pump-1": "unknown"}
    await end(following)


async def test_following_survives_the_death_of_the_server(api: Api, nats_server: NatsServer) -> None:
    await api.control.assign("s1", "pump-1", "edge-pump-1")
    await api.control.report("edge-pump-1", "state", b'{"listening": false}')
    following = await follow(api)
    await api.until(lambda: api.reported.of("edge-pump-1"))
    nats_server.kill()
    nats_server.start()
    async with open_control(nats_server.url, credentials=nats_server.credentials) as edge:
        await edge.report("edge-pump-1", "state", b'{"listening": true}')
        await edge.assign("s1", "fan-1", "edge-fan-1")
    await api.until(lambda: api.reported.of("edge-pump-1")["listening"])
    await api.until(lambda: "fan-1" in api.reported.assignments)
    await end(following)


async def test_an_assignment_or_report_that_ends_is_forgotten(api: Api) -> None:
    await api.control.assign("s1", "pump-1", "edge-pump-1")
    await api.control.report("edge-pump-1", "state", b'{"listening": true}')
    following = await follow(api)
    await api.until(lambda: api.reported.of("edge-pump-1"))
    deleted = {"KV-Operation": "DEL"}
    session = api.control._link.session()
    await session.store("$KV.reported-edge-pump-1.state", b"", headers=deleted)
    await api.until(lambda: not api.reported.of("edge-pump-1"))
    await session.store("$KV.assignments.pump-1", b"", headers=deleted)
    await api.until(lambda: not api.reported.assignments)
    await end(following)


async def test_a_machine_s_data_are_counted(api: Api) -> None:
    found = await api.get("/v1/machines/pump-1")
    assert found["machine"] == "pump-1"
    assert found["sensors"]["flow"] == "l/min"
    assert found["readings"] >= 1100


UNANSWERABLE: list[tuple[str, dict[str, str | int], int, str]] = [
    (f"{READINGS}/flow", {"max_points": 1}, 422, "max_points: "),
    (f"{READINGS}/flow", {"max_points": MAX_POINTS + 1}, 422, "max_points: "),
    (f"{READINGS}/flow", {"from": -1}, 422, "from: "),
    (f"{READINGS}/flow", {"to": END_US + 1}, 422, "to: "),
    (f"{READINGS}/flow", {"from": "monday"}, 422, "from: "),
    (f"{READINGS}/flow", {"from": "2026-01-01T00:00:00"}, 422, "from: "),
    (READINGS, {"to": "-25h"}, 422, "to: it is before from"),
    (f"{READINGS}/colour", {}, 404, "'colour'"),
    ("/v1/machines/pump-9/readings/flow", {}, 404, "'pump-9'"),
    ("/v1/machines/pump-9/readings", {}, 404, "'pump-9'"),
    ("/v1/machines/pump-9/sensors", {}, 404, "'pump-9'"),
    ("/v1/machines/pump-9/status", {}, 404, "'pump-9'"),
    ("/v1/machines/pump-1/scores", {"max_points": "many"}, 422, "max_points: "),
    ("/v1/anomalies", {"from": "soon"}, 422, "from: "),
    ("/v1/anomalies", {"limit": MAX_EVENTS + 1}, 422, "limit: "),
    ("/v1/events", {"limit": 0}, 422, "limit: "),
    ("/v1/machines/pump-9", {}, 404, "pump-9"),
    ("/v1/nothing", {}, 404, "Not Found"),
]


async def test_what_can_not_be_answered_is_a_problem(api: Api) -> None:
    for path, query, status, said in UNANSWERABLE:
        assert said in (await api.get(path, status, **query))["title"]


async def test_a_wrong_method_is_a_problem_too(api: Api) -> None:
    response = await api.http.post("/v1/machines")
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["allow"] == "GET"


async def test_anomalies_and_events(api: Api) -> None:
    found = (await api.get("/v1/anomalies"))["anomalies"]
    assert [(a["machine"], a["ended_at"] is None, a["score"]) for a in found] == [
        ("fan-1", True, 2.0),
        ("pump-1", False, 5.0),
    ]
    assert len((await api.get("/v1/anomalies", limit=1))["anomalies"]) == 1
    since = {"from": "2026-01-01T12:00:00Z"}
    assert [a["machine"] for a in (await api.get("/v1/anomalies", **since))["anomalies"]] == ["fan-1"]
    assert [a["machine"] for a in (await api.get("/v1/anomalies", machine="pump-1"))["anomalies"]] == [
        "pump-1"
    ]
    assert [e["type"] for e in (await api.get("/v1/events", machine="pump-1"))["events"]] == [
        "anomaly.ended",
        "anomaly.started",
    ]
    assert len((await api.get("/v1/events", limit=2))["events"]) == 2


async def test_models_and_ledger_are_their_services_answers(api: Api) -> None:
    assert await api.get("/v1/models") == {"models": [], "position": {"0": 3}, "next": None}
    assert await api.get("/v1/ledger") == {"findings": []}
    api.answers = {"models": Rejected("not such a model"), "ledger": Unavailable("the log is away")}
    assert (await api.get("/v1/models", 422))["title"] == "not such a model"
    assert (await api.get("/v1/ledger", 503))["title"] == "the log is away"


async def test_probes_answer_anyone_and_metrics_need_the_token(api: Api) -> None:
    problem = ["too early"]
    api.health.add_check("test", lambda: problem[0])
    api.http.headers.pop("Authorization")

    async def status(path: str) -> int:
        return (await api.http.get(path)).status_code

    assert [await status(path) for path in ("/livez", "/startupz", "/readyz")] == [200, 503, 503]
    api.health.started = True
    assert [await status(path) for path in ("/startupz", "/readyz")] == [200, 503]
    problem[0] = ""
    assert await status("/readyz") == 200
    assert await status("/metrics") == 401
    metrics = await api.http.get("/metrics", headers={"Authorization": "Bearer secret"})
    assert "im_test_total 1.0" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_the_schema_is_whole_and_needs_the_token(api: Api) -> None:
    schema = await api.get("/openapi.json")
    assert set(schema["paths"]) == {
        "/v1/models/{version_hash}",
        "/v1/models/promotions",
        "/v1/machines",
        "/v1/machines/{machine}",
        "/v1/machines/{machine}/status",
        "/v1/machines/{machine}/sensors",
        "/v1/machines/{machine}/readings",
        "/v1/machines/{machine}/readings/{sensor}",
        "/v1/machines/{machine}/scores",
        "/v1/stream",
        "/v1/login-links",
        "/v1/sessions",
        "/v1/oidc",
        "/v1/sessions/current",
        "/v1/sessions/{session}",
        "/v1/me",
        "/v1/me/password",
        "/v1/users",
        "/v1/users/{name}",
        "/v1/users/{name}/password",
        "/v1/tokens",
        "/v1/tokens/{token}",
        "/v1/access-tokens",
        "/v1/keys",
        "/v1/anomalies",
        "/v1/anomalies/{anomaly}/similar",
        "/v1/events",
        "/v1/readings",
        "/v1/readings/export",
        "/v1/models",
        "/v1/ledger",
    }
    answer = schema["paths"]["/v1/ledger"]["get"]["responses"]["200"]["content"]["application/json"]
    assert answer["schema"] == {"$ref": "#/components/schemas/LedgerReport"}
    assert {"sources", "findings", "lateness"} <= set(
        schema["components"]["schemas"]["LedgerReport"]["properties"]
    )
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    assert all(operation["description"] for operation in operations)
    assert (await api.http.get("/docs")).status_code == 404
    assert (await api.http.get("/openapi.json", headers={"Authorization": ""})).status_code == 401


async def test_a_rebuild_sent_again_under_its_key_begins_once(api: Api) -> None:
    began = []

    async def job(_: Callable[[int, int], None]) -> None:
        began.append(1)

    mine = Api(api.store, api.control, rebuilds=RebuildJobs({"ledger": job, "other": job}))
    async with mine.http:

        async def start(name: str, key: str | None = None) -> int:
            headers = {} if key is None else {"Idempotency-Key": key}
            answer = await mine.http.post("/v1/rebuilds", json={"name": name}, headers=headers)
            await asyncio.sleep(0)  # until the job ran
            return answer.status_code

        assert [await start("ledger", "k") for _ in range(3)] == [202] * 3
        assert len(began) == 1
        assert await start("other", "k") == 409
        assert [await start("ledger"), await start("ledger", "l"), await start("nothing", "m")] == [
            202,
            202,
            404,
        ]
        assert len(began) == 3
        assert [await start("ledger", f"k{n}") for n in range(MAX_KEYS)] == [202] * MAX_KEYS
        assert await start("other", "k") == 202


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("machin=pump-1", "machin: no such parameter; there are "),
        ("=true", ": no such parameter; there are "),
        ("limit=5&limit=5", "limit: give it once"),
        ("limit=5&l%69mit=6", "limit: give it once"),
    ],
)
async def test_a_query_says_what_the_endpoint_knows_and_says_it_once(
    api: Api, query: str, problem: str
) -> None:
    answer = await api.http.get(f"/v1/anomalies?{query}")
    assert answer.status_code == 422
    assert problem in answer.text


async def test_a_list_is_given_as_often_as_wanted(api: Api) -> None:
    answer = await api.http.get("/v1/readings?series=pump-1/flow&series=pump-1/level&limit=5&")
    assert "give it once" not in answer.text
    assert "no such parameter" not in answer.text
