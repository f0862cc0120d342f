"""Assets, counters and work orders over HTTP: reading, changing, rights, tags, positions and files."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from cloud.api.app import build_app
from cloud.api.fleet import Reported
from cloud.api.live import Broadcaster
from cloud.api.settings import ApiSettings
from cloud.telemetry.port import TelemetryStore, open_store
from shared.access import Principal, Role
from shared.asgi_access import Access
from shared.clock import SystemClock
from shared.health import Health
from shared.nats import open_control
from tests.servers import NatsServer
from tests.unit.assets_plant import SEEN, assets_on
from tests.unit.front_door import readings

ROLES = {role.value: Principal.of(f"some {role}", role) for role in Role}
FLOW = "/v1/assets/sensor/pump-1.flow"


class Http:
    """A client that asks as any role, under a key of its own each time."""

    def __init__(self, app: Any, store: TelemetryStore) -> None:  # noqa: ANN401 - FastAPI
        self.store = store
        transport = httpx.ASGITransport(app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        self.calls = 0

    async def __call__(
        self,
        method: str,
        path: str,
        status: int = 200,
        *,
        role: str = "technician",
        key: str = "",
        **more: Any,  # noqa: ANN401 - what httpx takes
    ) -> Any:  # noqa: ANN401 - JSON
        self.calls += 1
        headers = {"Authorization": f"Bearer {role}", "Idempotency-Key": key or f"k{self.calls}"}
        answer = await self.http.request(method, path, headers=headers | more.pop("headers", {}), **more)
        assert answer.status_code == status, answer.text
        self.last = answer
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text


@pytest.fixture
async def ask(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Http]:
    async def verify(token: str) -> Principal | None:
        return ROLES.get(token)

    clock = SystemClock()
    async with (
        assets_on(nats_server, tmp_path / "app.db") as assets,
        open_control(nats_server.url, credentials=nats_server.credentials) as control,
        open_store(f"sqlite:///{tmp_path}/telemetry.db") as store,
    ):
        await assets.owner.see(SEEN)
        reported = Reported(control)
        flags = {"token": "t", "telemetry_url": "", "nats_url": "", "credentials": ""}

        async def nothing(*_: object) -> Any:  # noqa: ANN401 - not asked here
            return [], {}

        app = build_app(
            ApiSettings.load(flags=flags, environ={}),
            store=store,
            reported=reported,
            live=Broadcaster(reported, clock, stale_after=10),
            health=Health(),
            registry=CollectorRegistry(),
            clock=clock,
            ledger=nothing,
            models=nothing,
            promote=nothing,
            assets=(assets.tables, assets.commands),
        )
        yield Http(Access(_inside(app), verify=verify, allowed_hosts=["localhost"]), store)


def _inside(app: Any) -> Any:  # noqa: ANN401 - FastAPI
    """The application without the gate that knows the plant's own tokens only."""
    app.user_middleware = [one for one in app.user_middleware if one.cls is not Access]
    return app


async def test_the_tree_and_the_lists_show_what_appeared(ask: Http) -> None:
    tree = await ask("GET", "/v1/assets", role="viewer")
    assert [(node["kind"], node["id"]) for node in tree["assets"]] == [
        ("site", "s1"),
        ("machine", "replay-x"),
    ]
    site, lone = tree["assets"]
    assert [(node["kind"], node["id"]) for node in site["children"]] == [
        ("edge", "edge-pump-1"),
        ("machine", "pump-1"),
    ]
    assert [node["id"] for node in lone["children"]] == ["replay-x.temp"]
    first = await ask("GET", "/v1/assets/sensor", params={"limit": 1})
    assert [one["id"] for one in first["assets"]] == ["pump-1.flow"]
    second = await ask("GET", "/v1/assets/sensor", params={"limit": 1, "cursor": first["next"]})
    assert ([one["id"] for one in second["assets"]], second["next"]) == (["replay-x.temp"], None)
    await ask("GET", "/v1/assets/sensor", 422, params={"cursor": "nonsense"})
    await ask("GET", "/v1/assets/ship", 422)
    await ask("GET", "/v1/assets/sensor/none.at-all", 404)


async def test_a_change_is_read_from_its_position_on_and_guarded_by_its_tag(ask: Http) -> None:
    await ask("GET", FLOW)
    tag = ask.last.headers["etag"]
    done = await ask("PATCH", FLOW, json={"fields": {"normal_low": 36}}, headers={"If-Match": tag})
    assert (done["changed"], done["asset"]["fields"]["normal_low"]) == (True, 36.0)
    assert done["asset"]["sources"]["normal_low"] == "edited"
    assert done["asset"]["changed_by"] == "some technician"
    await ask("PATCH", FLOW, 412, json={"fields": {"normal_low": 35}}, headers={"If-Match": tag})
    await ask("PATCH", FLOW, 412, json={"fields": {}}, headers={"If-Match": "other"})
    place = ",".join(f"{partition}-{offset}" for partition, offset in done["position"].items())
    shown = await ask("GET", FLOW, params={"min_position": place})
    assert shown == done["asset"]
    assert ask.last.headers["etag"] == f'"{shown["revision"]}"'
    await ask("GET", FLOW, 304, headers={"If-None-Match": ask.last.headers["etag"]})
    await ask("GET", FLOW, 202, params={"min_position": "0-999"})
    assert ask.last.headers["retry-after"] == "1"
    await ask("GET", FLOW, 422, params={"min_position": "x"})
    again = await ask("PATCH", FLOW, key="one", json={"fields": {"name": "Flow"}})
    twice = await ask("PATCH", FLOW, key="one", json={"fields": {"name": "Flow"}})
    assert (again["changed"], twice["changed"]) == (True, False)
    await ask("PATCH", FLOW, 409, key="one", json={"fields": {"name": "Other"}})


async def test_what_can_t_be_is_refused_and_says_why(ask: Http) -> None:
    refused = await ask("PATCH", FLOW, 422, json={"fields": {"normal_low": 99}})
    assert "above normal_high" in refused["title"]
    assert "colour" in (await ask("PATCH", FLOW, 422, json={"fields": {"colour": 1}}))["title"]
    await ask("POST", "/v1/assets/sensor", 409, json={"id": "pump-1.flow"})
    await ask("POST", "/v1/assets/sensor", 422, json={"id": "flow"})
    await ask("PATCH", "/v1/assets/sensor/pump-1.none", 404, json={"fields": {}})
    await ask("POST", "/v1/assets/site/s1/retire", 409, role="engineer", json={"why": "sold"})


async def test_a_machine_s_life(ask: Http) -> None:
    made = await ask("POST", "/v1/assets/machine", 201, json={"id": "fan-9", "fields": {"site": "s1"}})
    assert made["asset"]["revision"] == 1
    gone = await ask("POST", "/v1/assets/machine/fan-9/retire", json={"why": "sold"})
    assert gone["asset"]["retired_why"] == "sold"
    assert not (await ask("GET", "/v1/assets/machine", params={"text": "FAN"}))["assets"]
    assert (await ask("GET", "/v1/assets/machine", params={"text": "FAN", "retired": True}))["assets"]
    back = await ask("POST", "/v1/assets/machine/fan-9/restore")
    assert back["asset"]["retired_at"] is None


GUARDED: list[tuple[str, str, Any, str]] = [
    ("POST", "/v1/assets/site", {"id": "s9"}, "engineer"),
    ("POST", "/v1/assets/area", {"id": "a9", "fields": {"site": "s1"}}, "engineer"),
    ("PATCH", "/v1/assets/edge/edge-pump-1", {"fields": {"name": "x"}}, "engineer"),
    ("POST", "/v1/assets/machine", {"id": "m9"}, "technician"),
    ("PATCH", FLOW, {"fields": {"name": "x"}}, "technician"),
    ("PUT", "/v1/counters/pump-1.starts", {"value": 3}, "technician"),
    ("POST", "/v1/work-orders", {"machine": "pump-1", "title": "Look"}, "technician"),
    ("GET", "/v1/assets/export", None, "viewer"),
]


async def test_each_right_begins_at_its_role(ask: Http) -> None:
    order = [one.value for one in Role]
    for method, path, body, role in GUARDED:
        for below in order[: order.index(role)]:
            await ask(method, path, 403, role=below, json=body)
        headers = {"Authorization": f"Bearer {role}", "Idempotency-Key": f"{method} {path}".replace(" ", "-")}
        answer = await ask.http.request(method, path, json=body, headers=headers)
        assert answer.is_success, (method, path)


async def test_counters_and_work_orders(ask: Http) -> None:
    await ask("PUT", "/v1/counters/pump-1.run-hours", json={"value": 8120.0, "as_of": "2026-01-01T00:00:00Z"})
    reset = await ask("POST", "/v1/counters/pump-1.run-hours/reset", json={"reason": "overhaul"})
    assert (reset["counter"]["value"], reset["counter"]["resets"][0]["value"]) == (0.0, 8120.0)
    one = await ask("GET", "/v1/counters/pump-1.run-hours")
    assert one == reset["counter"]
    await ask("GET", "/v1/counters/pump-1.none", 404)
    await ask("PUT", "/v1/counters/nowhere.run-hours", 422, json={"value": 1})
    assert (await ask("GET", "/v1/counters", params={"owner": "pump-1", "limit": 1}))["next"] is None
    made = [
        await ask("POST", "/v1/work-orders", 201, json={"machine": "pump-1", "title": f"Look {n}"})
        for n in range(3)
    ]
    name = made[0]["work_order"]["id"]
    path = f"/v1/work-orders/{name}"
    await ask("POST", f"{path}/start")
    await ask("PATCH", path, json={"description": "noise"})
    await ask("PATCH", path, 412, json={"description": "x"}, headers={"If-Match": '"1"'})
    closed = await ask("POST", f"{path}/close", json={"failure_code": "NOI", "actions": "greased"})
    assert closed["work_order"]["status"] == "closed"
    await ask("POST", f"{path}/cancel", 409, json={"why": "no"})
    assert (await ask("GET", path)) == closed["work_order"]
    page = await ask("GET", "/v1/work-orders", params={"status": "open", "limit": 1})
    assert page["work_orders"][0]["title"] == "Look 2"
    rest = await ask("GET", "/v1/work-orders", params={"status": "open", "cursor": page["next"]})
    assert [one["title"] for one in rest["work_orders"]] == ["Look 1"]
    await ask("GET", "/v1/work-orders/wo-99", 404)
    await ask("POST", "/v1/work-orders", 422, json={"machine": "pump-1"})


async def test_files_go_out_and_come_in(ask: Http) -> None:
    for layout in ("yaml", "csv"):
        text = await ask("GET", "/v1/assets/export", role="viewer", params={"format": layout})
        path, wanted = "/v1/assets/import", {"format": layout}
        same = await ask("POST", path, params=wanted, content=text.encode())
        assert same["differences"] == []
    file = b"machines:\n- id: pump-1\n  criticality: A\n"
    dry = await ask("POST", "/v1/assets/import", params={"dry_run": True}, content=file)
    assert (dry["applied"], dry["differences"]) == (
        False,
        [
            {
                "line": 2,
                "kind": "machine",
                "id": "pump-1",
                "action": "change",
                "fields": {"criticality": [None, "A"]},
            }
        ],
    )
    assert "criticality" not in (await ask("GET", "/v1/assets/machine/pump-1"))["fields"]
    assert (await ask("POST", "/v1/assets/import", content=file))["applied"]
    assert (await ask("GET", "/v1/assets/machine/pump-1"))["fields"]["criticality"] == "A"
    wrong = await ask("POST", "/v1/assets/import", 422, content=b"machines:\n- id: A\n- id: B\n")
    assert wrong["title"].startswith("line 2: ")
    assert "\nline 3: " in wrong["title"]
    await ask("POST", "/v1/assets/import", 403, content=b"sites:\n- id: other\n")
    await ask("POST", "/v1/assets/import", role="engineer", content=b"sites:\n- id: other\n")


async def test_a_machine_s_sensors_have_the_band_that_a_person_gave_them(ask: Http) -> None:
    await ask.store.write([readings(3)])
    path = "/v1/machines/pump-1/sensors"
    bare = (await ask("GET", path))["sensors"][0]
    assert (bare["sensor"], bare["low"], bare["learnt"], bare["range_low"]) == ("flow", None, None, None)
    words = {"normal_low": 0.06, "normal_high": 0.12, "range_low": 0.0}
    await ask("PATCH", FLOW, json={"fields": {**words, "unit": "m3/h"}})
    said = (await ask("GET", path))["sensors"][0]
    assert (said["unit"], said["learnt"]) == ("l/min", True)
    assert (said["low"], said["high"], said["range_low"], said["range_high"]) == (
        pytest.approx(1.0),
        pytest.approx(2.0),
        0.0,
        None,
    )
    await ask("PATCH", FLOW, json={"fields": {"unit": "degC"}})
    assert (await ask("GET", path))["sensors"][0]["low"] is None
