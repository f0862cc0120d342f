"""The servers of the suites: one nats-server a test; one Kafka, one InfluxDB, one PostgreSQL a run."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cloud.telemetry.port import TelemetryStore
from deploy.servers.influxdb import InfluxDB
from deploy.servers.postgresql import PostgreSQL
from shared.eventlog import EventLog
from tests.contract.log_backends import Backend, JetStreamBackend, KafkaBackend, KafkaServer, Names
from tests.contract.store_backends import Opening, new_database, on_influxdb, on_sqlite


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


@pytest.fixture(scope="session")
def influxdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxDB]:
    with InfluxDB(tmp_path_factory.mktemp("influxdb")) as server:
        yield server


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("influxdb", marks=pytest.mark.real),
        pytest.param("influxdb-postgresql", marks=pytest.mark.real),
    ]
)
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    if request.param == "sqlite":
        return on_sqlite(tmp_path)
    books = f"sqlite:///{tmp_path}/books.db"
    if request.param == "influxdb-postgresql":
        books = new_database(request.getfixturevalue("postgresql"))
    return on_influxdb(request.getfixturevalue("influxdb"), books)


@pytest.fixture
async def store(opening: Opening) -> AsyncIterator[TelemetryStore]:
    async with opening() as opened:
        yield opened
