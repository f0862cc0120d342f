"""The plant of docker-compose.yml on real servers, all at once: devices, edges, log, stores, models, a fault found, no row lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from cloud.api.settings import ApiSettings
from cloud.ledger.app import edge_reports
from cloud.ledger.audit import audit
from cloud.ledger.report import AuditReport
from cloud.registry.app import decide_for, deliver, register
from cloud.telemetry.port import TelemetryStore, open_store
from cloud.training.app import train_machine_models
from industrialmind.plant import DEMO_PLANT, Machine
from industrialmind.story import FAULT
from shared.clock import SystemClock
from shared.eventlog import EventLog, open_event_log
from shared.nats import ControlPlane, open_control
from tests.e2e.composed import Composed

pytestmark = [pytest.mark.real, pytest.mark.e2e, pytest.mark.timeout(300)]

EDGES = tuple(machine.edge for machine in DEMO_PLANT.machines)
MACHINES = {machine.id for machine in DEMO_PLANT.machines}
STEP_S = 90.0


class Asked:
    """The plant's data API, asked as the command line does."""

    def __init__(self, plant: Composed) -> None:
        headers = {"Authorization": f"Bearer {plant.variables['API_TOKEN']}"}
        self._http = httpx.Client(base_url=plant.url("api"), headers=headers, trust_env=False, timeout=30)

    def get(self, path: str, **query: str) -> Any:  # noqa: ANN401 - JSON
        answer = self._http.get(path, params=query)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def machines(self) -> dict[str, dict[str, Any]]:
        """Each machine's status."""
        return {each["machine"]: each for each in self.get("/v1/machines")["machines"]}

    def readings(self) -> int:
        """How many are stored, of all machines; one that has none is not known yet."""
        answers = [self._http.get(f"/v1/machines/{machine}") for machine in MACHINES]
        assert {answer.status_code for answer in answers} <= {httpx.codes.OK, httpx.codes.NOT_FOUND}, answers
        return sum(answer.json().get("readings", 0) for answer in answers)

    def anomalies(self, machine: str, since_ms: int) -> list[dict[str, Any]]:
        """A machine's whose onset is since then, newest first."""
        since = datetime.fromtimestamp(since_ms / 1000, UTC)
        found: list[dict[str, Any]] = self.get("/v1/anomalies", machine=machine)["anomalies"]
        return [each for each in found if datetime.fromisoformat(each["onset"]) >= since]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()


def told(plant: Composed, event: str) -> dict[str, Any] | None:
    """What the simulator said of an event, if it said it."""
    lines = plant.services["sim"].said(100_000).splitlines()
    found = (json.loads(line) for line in lines if line.startswith("{"))
    return next((each for each in found if each.get("event") == event), None)


def wait_told(plant: Composed, event: str) -> dict[str, Any]:
    plant.until(lambda: told(plant, event) is not None, STEP_S, f"the simulator says {event}")
    found = told(plant, event)
    assert found is not None
    return found


@asynccontextmanager
async def opened(plant: Composed) -> AsyncIterator[tuple[EventLog, TelemetryStore, ControlPlane]]:
    """Log, store and control plane by the environment of the data API."""
    api = ApiSettings.load(environ=plant.services["api"].environment)
    log_url, log_credentials = api.log
    async with (
        open_event_log(log_url, credentials=log_credentials) as log,
        open_store(api.telemetry_url, read_only=True, access=api.telemetry_access) as store,
        open_control(api.nats_url, credentials=api.credentials.get_secret_value()) as control,
    ):
        yield log, store, control


async def train(plant: Composed, machine: Machine) -> None:
    """Fit a machine's models, register them, and deliver the better one: the trainer's steps without MLflow."""
    clock = SystemClock()
    async with opened(plant) as (log, store, control):
        trained = await train_machine_models(store, machine.id, machine.type, clock)
        model = await register(log, control, trained.chosen.artifact, clock)
        await decide_for(log, model.version_hash, machine.edge, clock)
        await deliver(log, control, machine.id)


async def audited(plant: Composed) -> AuditReport:
    """Log, store and outboxes compared."""
    async with opened(plant) as (log, store, control):
        outboxes = {edge: plant.services[edge].folder / "outbox.db" for edge in EDGES}
        return await audit(log, store, await edge_reports(control), outboxes=outboxes)


def test_a_plant_by_the_compose_file_finds_a_fault_and_loses_nothing(tmp_path: Path) -> None:
    with Composed(tmp_path, {"sim": {"IM_SIM__BACKFILL_HOURS": "3"}}) as plant:
        plant.services["prepare"].run(STEP_S)
        plant.up("gateway", "ingest", "api", "inference", *EDGES)
        plant.start("sim")
        with Asked(plant) as api:
            backfilled = wait_told(plant, "backfilled")
            plant.until(lambda: set(api.machines()) == MACHINES, STEP_S, "five machines live")
            plant.until(lambda: api.readings() >= backfilled["rows"], STEP_S, "the history is stored")
            machine = str(FAULT["machine"])
            asyncio.run(train(plant, next(each for each in DEMO_PLANT.machines if each.id == machine)))
            plant.until(lambda: bool(api.machines()[machine]["model"]), STEP_S, "the model runs on its edge")
            plant.services["sim"].tell(json.dumps(dict(FAULT)))
            fault = wait_told(plant, "fault")
            plant.until(lambda: bool(api.anomalies(machine, fault["at"])), STEP_S, "an anomaly")
            anomaly = api.anomalies(machine, fault["at"])[-1]
            assert anomaly["sensors"][0]["sensor"] in fault["sensors"], anomaly
        for name in ("sim", *EDGES, "gateway", "inference", "ingest", "api"):
            plant.services[name].stop()
        report = asyncio.run(audited(plant))
        assert not report.findings, report
        assert report.rows_in_store >= backfilled["rows"]
