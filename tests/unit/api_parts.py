"""The data API's application for tests, with its parts in a test's hands."""

import asyncio
from typing import Any

import httpx
import numpy as np
from prometheus_client import CollectorRegistry, Counter

from cloud.api.app import build_app
from cloud.api.dead_letters import Answers
from cloud.api.fleet import Reported
from cloud.api.live import Broadcaster
from cloud.api.models import ModelDetail
from cloud.api.rebuilds import Rebuilds
from cloud.api.sessions import Parts
from cloud.api.settings import ApiSettings
from cloud.commands.port import EdgeCommands
from cloud.labels.port import Verdicts
from cloud.similar.app import SimilarAnomalies
from cloud.telemetry.port import Entry, TelemetryStore
from shared.asgi_access import Verify
from shared.clock import Clock, ManualClock
from shared.eventlog import Stored
from shared.frames import Header, Kind, Scores
from shared.health import Health
from shared.names import SCORES
from shared.nats import ControlPlane
from tests.models import STEP_US
from tests.unit.front_door import ONSET, T0

READINGS = "/v1/machines/pump-1/readings"


def scores(rows: int) -> Entry:
    """As many windows a second apart, the last one unscored."""
    score = np.abs(np.sin(np.arange(rows)))
    score[-1] = np.nan
    body = Scores(
        "pump-1/window-pca",
        "ab" * 32,
        2.0,
        ("flow", "pressure"),
        T0 + np.arange(rows) * STEP_US,
        score.astype(np.float32),
        np.zeros(rows, np.uint8),
        np.tile(np.array([0.75, 0.25], np.float32), (rows, 1)),
        np.ones((rows, 2)),
    )
    header = Header("s1", "edge-pump-1", "pump-1", Kind.SCORES, b"s" * 16, 1, rows)
    return Entry(Stored(SCORES, "pump-1", b"", {}, "0", 1, T0), header, body)


def model(**more: Any) -> ModelDetail:  # noqa: ANN401 - fields
    """A registered version of pump-1."""
    return ModelDetail(
        **{
            "machine": "pump-1",
            "name": "pump-1/window-pca",
            "method": "window-pca",
            "version": 1,
            "version_hash": "ab" * 32,
            "provisional": True,
            "registered_at": ONSET,
            "aliases": (),
            "promoted_to": (),
            "metrics": {},
            "manifest": {},
            **more,
        }
    )


class Api:
    """The application with its parts in a test's hands."""

    def __init__(
        self,
        store: TelemetryStore,
        control: ControlPlane,
        *,
        clock: Clock | None = None,
        people: Parts | None = None,
        verify: Verify | None = None,
        letters: Answers | None = None,
        rebuilds: Rebuilds | None = None,
        commands: EdgeCommands | None = None,
        verdicts: Verdicts | None = None,
        similar: SimilarAnomalies | None = None,
        **more: Any,  # noqa: ANN401 - settings
    ) -> None:
        clock = clock or ManualClock(T0 + 2_000_000)
        self.clock = clock
        self.store = store
        self.control = control
        self.reported = Reported(control)
        self.health = Health()
        self.registry = CollectorRegistry()
        Counter("im_test", "for the test", registry=self.registry).inc()
        settings = ApiSettings.load(
            flags={
                "token": "secret",
                "ui_token": "room",
                "telemetry_url": "",
                "nats_url": "",
                "credentials": "",
                **more,
            },
            environ={},
        )
        self.answers: dict[str, Any] = {"models": ([], {"0": 3}), "ledger": b'{"findings": []}'}
        self.live = Broadcaster(self.reported, clock, stale_after=settings.stale_after_seconds)
        self.app = build_app(
            settings,
            store=store,
            reported=self.reported,
            live=self.live,
            health=self.health,
            registry=self.registry,
            clock=clock,
            ledger=lambda: self._answer("ledger"),
            models=lambda: self._answer("models"),
            promote=lambda *_: self._answer("promotion"),
            people=people,
            verify=verify,
            letters=letters,
            rebuilds=rebuilds,
            commands=commands,
            verdicts=verdicts,
            similar=similar,
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://localhost",
            headers={"Authorization": "Bearer secret"},
        )

    async def _answer(self, name: str) -> Any:  # noqa: ANN401 - JSON
        if isinstance(self.answers[name], Exception):
            raise self.answers[name]
        return self.answers[name]

    async def get(self, path: str, status: Any = 200, **query: Any) -> Any:  # noqa: ANN401 - JSON
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
