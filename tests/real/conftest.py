"""Real servers, one of each a session: started when the first test asks, ended with the session.

A test that stops or kills one starts it again; a test that wants one of its own makes it in its `tmp_path`.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from deploy.servers.chroma import Chroma
from deploy.servers.influxdb import InfluxDB
from deploy.servers.kafka import Kafka
from deploy.servers.mlflow import MLflow
from deploy.servers.mosquitto import Mosquitto
from deploy.servers.nats import Nats
from deploy.servers.neo4j import Neo4j
from deploy.servers.postgresql import PostgreSQL
from deploy.servers.process import Server
from deploy.servers.prometheus import Prometheus
from deploy.servers.redis import Redis

S = TypeVar("S", bound=Server)


def session_server(cls: type[S]) -> Callable[..., Iterator[S]]:
    """The fixture of one server, under its name."""

    @pytest.fixture(scope="session", name=cls.name)
    def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S]:
        with cls(tmp_path_factory.mktemp(cls.name)) as running:
            yield running

    return server


chroma = session_server(Chroma)
influxdb = session_server(InfluxDB)
kafka = session_server(Kafka)
mlflow = session_server(MLflow)
mosquitto = session_server(Mosquitto)
nats = session_server(Nats)
neo4j = session_server(Neo4j)
postgresql = session_server(PostgreSQL)
prometheus = session_server(Prometheus)
redis = session_server(Redis)
