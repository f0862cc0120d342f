"""The data API with people in it, each with a session, for tests."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from argon2 import PasswordHasher
from prometheus_client import CollectorRegistry

from cloud.api.settings import ApiSettings
from cloud.commands.app import Dispatcher
from cloud.deadletters.app import DeadLetters
from cloud.labels.app import VerdictDesk
from cloud.people.argon2 import Hasher
from cloud.people.audit import AuditTopic
from cloud.people.port import open_people
from cloud.telemetry.port import open_store
from industrialmind.letter_answers import LetterAnswers
from industrialmind.people import Wired, wired
from industrialmind.rebuild_jobs import RebuildJobs
from shared.access import Role
from shared.clock import ManualClock
from shared.eventlog import open_event_log
from shared.nats import open_control
from tests.servers import NatsServer
from tests.unit.api_parts import Api

CLI: Final = {"Authorization": "Bearer secret"}
ROOM: Final = {"Authorization": "Bearer room"}
PASSWORD: Final = "correct horse battery"


def quick_hasher() -> Hasher:
    """By parameters that take no time."""
    return Hasher(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@dataclass
class Plant:
    """The application, and what is behind it."""

    api: Api
    wired: Wired
    clock: ManualClock

    @property
    def http(self) -> httpx.AsyncClient:
        return self.api.http

    async def ask(
        self,
        method: str,
        path: str,
        as_: str | Mapping[str, str] = CLI,
        status: int = 200,
        **body: Any,  # noqa: ANN401 - JSON
    ) -> Any:  # noqa: ANN401 - JSON
        """An answer's JSON; `as_` is a token, or headers."""
        headers = {"Authorization": f"Bearer {as_}"} if isinstance(as_, str) else dict(as_)
        answer = await self.http.request(method, path, headers=headers, json=body or None)
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.json() if answer.content else None

    async def add(self, name: str, role: Role, password: str | None = PASSWORD) -> None:
        """A user."""
        await self.ask("POST", "/v1/users", status=201, name=name, role=role.value, password=password)

    async def enter(self, name: str, password: str = PASSWORD, status: int = 201) -> Any:  # noqa: ANN401 - JSON
        """Sign somebody in by password, as the control room does."""
        body = {"name": name, "password": password, "address": "192.0.2.1"}
        return await self.ask("POST", "/v1/sessions", ROOM, status, **body)

    async def session(self, name: str) -> str:
        """A session of somebody."""
        return str((await self.enter(name))["session"])


@asynccontextmanager
async def people_plant(
    folder: Path,
    server: NatsServer,
    *,
    clock: ManualClock | None = None,
    **settings: Any,  # noqa: ANN401 - of the data API
) -> AsyncIterator[Plant]:
    """The data API with a database of people, a real log and a real store."""
    clock, hasher = clock or ManualClock(), quick_hasher()
    async with AsyncExitStack() as stack:
        stack.callback(hasher.close)
        store = await stack.enter_async_context(open_store(f"sqlite:///{folder}/t.db"))
        control = await stack.enter_async_context(open_control(server.url, credentials=server.credentials))
        events = await stack.enter_async_context(open_event_log(server.url, credentials=server.credentials))
        people = await stack.enter_async_context(open_people(f"sqlite:///{folder}/app.db", clock))
        given = {"token": "secret", "ui_token": "room", "telemetry_url": "", "nats_url": "", **settings}
        chosen = ApiSettings.load(flags=given, environ={})
        made = wired(chosen, people, AuditTopic(events), clock, CollectorRegistry(), hasher)
        api = Api(
            store,
            control,
            clock=clock,
            people=made.parts,
            verify=made.gate.verify,
            letters=LetterAnswers(DeadLetters(events, control.assignments, clock)),
            rebuilds=RebuildJobs({}),
            commands=Dispatcher(events, control, clock),
            verdicts=VerdictDesk(events, store, clock),
            **settings,
        )
        await stack.enter_async_context(api.http)
        yield Plant(api, made, clock)
