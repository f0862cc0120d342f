"""The inference service on a real log, control plane and store, with its application in a test's hands."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from cloud.inference.app import build_app
from cloud.inference.batching import Batcher, Queue
from cloud.inference.metrics import Metrics
from cloud.inference.models import Models
from cloud.inference.settings import InferenceSettings
from cloud.registry.app import decide_for, register
from cloud.registry.logic import Model
from cloud.telemetry.port import TelemetryStore, open_store
from industrialmind.inference import life_of, looker, open_access
from shared.asgi_access import Verify
from shared.clock import SystemClock
from shared.eventlog import EventLog, open_event_log
from shared.health import Health
from shared.jetstream import default_budgets, ensure_topics
from shared.loaded import Load, LoadedModel, load_model
from shared.names import INFERENCE
from shared.nats import ControlPlane, open_control
from tests.servers import NatsServer

CLOCK = SystemClock()
HEADERS = {"Authorization": "Bearer secret"}


def settings(root: Path, server: NatsServer, **more: Any) -> InferenceSettings:  # noqa: ANN401 - settings
    """The service's settings."""
    flags = {
        "token": "secret",
        "telemetry_url": f"sqlite:///{root / 'telemetry.db'}",
        "nats_url": server.url,
        "credentials": server.credentials,
    }
    return InferenceSettings.load(flags=flags | more, environ={})


class Inference:
    """The service's parts."""

    def __init__(
        self,
        chosen: InferenceSettings,
        events: EventLog,
        control: ControlPlane,
        store: TelemetryStore,
        pool: ThreadPoolExecutor,
        verify: Verify,
        load: Load = load_model,
    ) -> None:
        self.settings, self.events, self.control, self.store = chosen, events, control, store
        self.registry, self.health = CollectorRegistry(), Health()
        self.metrics = Metrics(self.registry)
        queue = Queue(chosen.queue_windows, self.metrics)

        def batcher(model: LoadedModel) -> Batcher:
            return Batcher(model.scorer, pool, queue, self.metrics, most=chosen.batch_windows)

        self.models = Models(
            looker(events), control.get_model, load, batcher, self.metrics, CLOCK, kept=chosen.models_kept
        )
        self.app = build_app(
            chosen,
            models=self.models,
            store=store,
            verify=verify,
            health=self.health,
            registry=self.registry,
            metrics=self.metrics,
            life=life_of(chosen, events, control, store, self.metrics),
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://localhost", headers=HEADERS
        )

    async def promoted(self, artifact: bytes, edge: str = INFERENCE) -> Model:
        """Register a version and let it be its machine's champion."""
        model = await register(self.events, self.control, artifact, CLOCK)
        return await decide_for(self.events, model.version_hash, edge, CLOCK)

    async def post(self, body: Any, status: int = 200, path: str = "/v1/score") -> Any:  # noqa: ANN401 - JSON
        """The answer to a posted body."""
        return _checked(await self.http.post(path, json=body), status)

    async def get(self, path: str, status: int = 200, **query: Any) -> Any:  # noqa: ANN401 - JSON
        """The answer to a question."""
        return _checked(await self.http.get(path, params=query), status)

    def figure(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.registry.get_sample_value(name, labels) or 0.0


def _checked(response: httpx.Response, status: int) -> Any:  # noqa: ANN401 - JSON
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
    return response.json()


@asynccontextmanager
async def open_inference(
    root: Path,
    server: NatsServer,
    load: Load = load_model,
    **more: Any,  # noqa: ANN401
) -> AsyncIterator[Inference]:
    """The parts on a server whose topics and buckets are there."""
    await ensure_topics(
        server.url, credentials=server.credentials, budgets=default_budgets(server.max_file_store)
    )
    chosen = settings(root, server, **more)
    with ThreadPoolExecutor(chosen.threads) as pool:
        async with (
            open_event_log(server.url, credentials=server.credentials) as events,
            open_control(server.url, credentials=server.credentials) as control,
            open_store(chosen.telemetry_url) as store,
            open_access(chosen) as verify,
        ):
            await control.ensure_buckets([], models_bytes=64 << 20)
            made = Inference(chosen, events, control, store, pool, verify, load)
            async with made.http:
                yield made
