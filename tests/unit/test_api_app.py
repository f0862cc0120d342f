"""The data API over a real store and a real control plane."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client import CollectorRegistry, Counter

from cloud.api.app import MAX_EVENTS, MAX_POINTS, Reported, build_app
from cloud.api.settings import ApiSettings
from cloud.telemetry.port import END_US, TelemetryStore, open_store
from shared.clock import ManualClock
from shared.errors import Rejected, Unavailable
from shared.health import Health
from shared.nats import ControlPlane, open_control
from tests.models import STEP_US
from tests.servers import NatsServer
from tests.unit.front_door import ONSET, T0, anomaly_ended, anomaly_started, event, readings, reported


class Api:
    """The application with its parts in a test's hands."""

    def __init__(self, store: TelemetryStore, control: ControlPlane) -> None:
        self.control = control
        self.reported = Reported(control)
        self.health = Health()
        self.registry = CollectorRegistry()
        Counter("im_test", "for the test", registry=self.registry).inc()
        settings = ApiSettings.load(
            flags={"token": "secret", "telemetry_url": "", "nats_url": "", "credentials": ""}, environ={}
        )
        self.answers: dict[str, Any] = {"models": ([], {"0": 3}), "ledger": b'{"findings": []}'}
        app = build_app(
            settings,
            store=store,
            reported=self.reported,
            health=self.health,
            registry=self.registry,
            clock=ManualClock(T0 + 2_000_000),
            ledger=lambda: self._answer("ledger"),
            models=lambda: self._answer("models"),
            promote=lambda *_: self._answer("promotion"),
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://localhost",
            headers={"Authorization": "Bearer secret"},
        )

    async def _answer(self, name: str) -> Any:  # noqa: ANN401 - JSON
        if isinstance(self.answers[name], Exception):
            raise self.answers[name]
        return self.answers[name]

    async def get(self, path: str, status: int = 200, **query: str | int) -> Any:  # noqa: ANN401 - JSON
        response = await self.http.get(path, params=query)
        assert response.status_code == status, response.text
        if status != 200:
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == status
        return response.json()

    async def until(self, holds: Any) -> None:  # noqa: ANN401 - a plain predicate
        """Wait for what the watchers bring."""
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.005)


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


async def test_readings_are_the_newest_of_a_range_oldest_first(api: Api) -> None:
    path = "/v1/machines/pump-1/readings/flow"
    found = await api.get(path)
    assert len(found["time_us"]) == len(found["value"]) == len(found["quality"]) == 1100
    assert found["time_us"] == sorted(found["time_us"])
    assert set(found["units"]) == {"l/min"}
    part = await api.get(path, **{"from": T0, "to": T0 + 10 * STEP_US, "limit": 3})
    assert part["time_us"] == [T0 + n * STEP_US for n in (7, 8, 9)]
    assert (await api.get(path, **{"from": T0 + 10**12}))["value"] == []


async def test_a_machine_s_data_are_counted(api: Api) -> None:
    found = await api.get("/v1/machines/pump-1")
    assert found["machine"] == "pump-1"
    assert found["sensors"]["flow"] == "l/min"
    assert found["readings"] >= 1100


UNANSWERABLE: list[tuple[str, dict[str, str | int], int, str]] = [
    ("/v1/machines/pump-1/readings/flow", {"limit": 0}, 422, "limit: "),
    ("/v1/machines/pump-1/readings/flow", {"limit": MAX_POINTS + 1}, 422, "limit: "),
    ("/v1/machines/pump-1/readings/flow", {"from": -1}, 422, "from: "),
    ("/v1/machines/pump-1/readings/flow", {"to": END_US + 1}, 422, "to: "),
    ("/v1/machines/pump-1/readings/flow", {"from": "monday"}, 422, "from: "),
    ("/v1/machines/pump-1/readings/colour", {}, 404, "'colour'"),
    ("/v1/machines/pump-9/readings/flow", {}, 404, "'pump-9'"),
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
    assert [a["machine"] for a in (await api.get("/v1/anomalies", machine="pump-1"))["anomalies"]] == [
        "pump-1"
    ]
    assert [e["type"] for e in (await api.get("/v1/events", machine="pump-1"))["events"]] == [
        "anomaly.ended",
        "anomaly.started",
    ]
    assert len((await api.get("/v1/events", limit=2))["events"]) == 2


async def test_models_and_ledger_are_their_services_answers(api: Api) -> None:
    assert await api.get("/v1/models") == {"models": [], "position": {"0": 3}}
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
        "/v1/machines",
        "/v1/machines/{machine}",
        "/v1/machines/{machine}/readings/{sensor}",
        "/v1/anomalies",
        "/v1/events",
        "/v1/models",
        "/v1/ledger",
    }
    assert all(path["get"]["description"] for path in schema["paths"].values())
    assert (await api.http.get("/docs")).status_code == 404
    assert (await api.http.get("/openapi.json", headers={"Authorization": ""})).status_code == 401
