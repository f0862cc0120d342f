"""Every server there is, by its name."""

from collections.abc import Mapping
from typing import Final

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
from shared.errors import NotFound

_CLASSES: Final[tuple[type[Server], ...]] = (
    Chroma,
    InfluxDB,
    Kafka,
    MLflow,
    Mosquitto,
    Nats,
    Neo4j,
    PostgreSQL,
    Prometheus,
    Redis,
)
SERVERS: Final[Mapping[str, type[Server]]] = {cls.name: cls for cls in _CLASSES}


def server_class(name: str) -> type[Server]:
    """The server's class. Raises NotFound."""
    try:
        return SERVERS[name]
    except KeyError as error:
        raise NotFound(f"there is no server {name!r}, only {', '.join(SERVERS)}") from error
