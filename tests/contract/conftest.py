"""The suites' servers: one nats-server a test, one Kafka and one PostgreSQL a run."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.servers.postgresql import PostgreSQL
from shared.eventlog import EventLog
from tests.contract.log_backends import Backend, JetStreamBackend, KafkaBackend, KafkaServer, Names


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    with PostgreSQL(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.fixture(params=["jetstream", pytest.param("kafka", marks=pytest.mark.real)])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made: Backend
    if request.param == "kafka":
        made = KafkaBackend(request.getfixturevalue("kafka_server"))
    else:
        made = JetStreamBackend(tmp_path / "log")
    await made.start()
    yield made
    made.end()


@pytest.fixture
def at(backend: Backend) -> Names:
    return backend.names


@pytest.fixture
async def log(backend: Backend) -> AsyncIterator[EventLog]:
    async with backend.open() as opened:
        yield opened
