"""One write and one read of each server by its own protocol, to see whether its data are still there."""

import asyncio
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import nats
import paho.mqtt.publish
import paho.mqtt.subscribe
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.servers.bolt import run_statement
from deploy.servers.chroma import Chroma
from deploy.servers.influxdb import InfluxDB
from deploy.servers.kafka import Kafka
from deploy.servers.mlflow import MLflow
from deploy.servers.mosquitto import Mosquitto
from deploy.servers.nats import Nats
from deploy.servers.neo4j import Neo4j
from deploy.servers.postgresql import PostgreSQL, program
from deploy.servers.probes import exchange
from deploy.servers.process import Server
from deploy.servers.prometheus import Prometheus
from deploy.servers.redis import Redis

WAIT_S = 60.0


class Client(ABC):
    """Writes 42 under the name `reading`, and reads it."""

    @abstractmethod
    def write(self) -> None: ...

    @abstractmethod
    def read(self) -> str: ...

    def close(self) -> None:  # noqa: B027 - most open nothing for longer than a call
        """Leave nothing open."""


class HttpClient(Client):
    """To a server on the loopback, past any proxy."""

    def __init__(self, server: Server, **more: Any) -> None:  # noqa: ANN401 - what httpx takes
        self.http = httpx.Client(base_url=server.url, trust_env=False, timeout=WAIT_S, **more)

    def close(self) -> None:
        self.http.close()


class KafkaClient(Client):
    def __init__(self, server: Kafka) -> None:
        self.bootstrap: dict[str, str | int | float | bool] = {"bootstrap.servers": server.bootstrap}

    def write(self) -> None:
        admin = AdminClient(self.bootstrap)  # its answers come as long as it lives
        admin.create_topics([NewTopic("reading", 1, 1)])["reading"].result(WAIT_S)
        producer = Producer({**self.bootstrap, "acks": "all"})
        producer.produce("reading", b"42")
        assert producer.flush(WAIT_S) == 0

    def read(self) -> str:
        again = {"group.id": "reader", "auto.offset.reset": "earliest", "enable.auto.commit": False}
        consumer = Consumer({**self.bootstrap, **again})
        try:
            consumer.subscribe(["reading"])
            message = consumer.poll(WAIT_S)
        finally:
            consumer.close()
        assert message is not None
        assert message.error() is None
        return (message.value() or b"").decode()


class MosquittoClient(Client):
    def __init__(self, server: Mosquitto) -> None:
        self.server = server
        self.where: dict[str, Any] = {
            "hostname": "127.0.0.1",
            "port": server.port,
            "auth": {"username": server.username, "password": server.password},
        }

    def write(self) -> None:
        paho.mqtt.publish.single("reading", "42", qos=1, retain=True, **self.where)
        self.server.save()
        until((self.server.folder / "mosquitto.db").exists)

    def read(self) -> str:
        message = paho.mqtt.subscribe.simple("reading", qos=1, **self.where)  # type: ignore[no-untyped-call]
        return str(message.payload, "utf-8")


class NatsClient(Client):
    def __init__(self, server: Nats) -> None:
        self.url = server.url.replace("//", f"//{server.credentials}@")

    def write(self) -> None:
        async def publish() -> None:
            connection = await nats.connect(self.url)
            stream = connection.jetstream()
            await stream.add_stream(name="reading", subjects=["reading"])
            await stream.publish("reading", b"42")
            await connection.close()

        asyncio.run(publish())

    def read(self) -> str:
        async def last() -> bytes:
            connection = await nats.connect(self.url)
            message = await connection.jetstream().get_last_msg("reading", "reading")
            await connection.close()
            return message.data or b""

        return asyncio.run(last()).decode()


class Neo4jClient(Client):
    def __init__(self, server: Neo4j) -> None:
        self.server = server

    def write(self) -> None:
        self._run("CREATE (:Reading {value: 42})")

    def read(self) -> str:
        return str(*self._run("MATCH (reading:Reading) RETURN reading.value"))

    def _run(self, statement: str) -> list[int]:
        return run_statement(
            self.server.port, self.server.username, self.server.password, statement, wait=WAIT_S
        )


class InfluxDBClient(HttpClient):
    def __init__(self, server: InfluxDB) -> None:
        headers = {"Authorization": f"Token {server.token}"}
        super().__init__(server, headers=headers, params={"org": server.org})
        self.bucket = server.bucket

    def write(self) -> None:
        where = {"bucket": self.bucket, "precision": "s"}
        line = f"reading value=42i {int(time.time())}"
        self.http.post("/api/v2/write", params=where, content=line).raise_for_status()

    def read(self) -> str:
        query = f'from(bucket: "{self.bucket}") |> range(start: -1h) |> keep(columns: ["_value"])'
        headers = {"Content-Type": "application/vnd.flux", "Accept": "application/csv"}
        answer = self.http.post("/api/v2/query", content=query, headers=headers).raise_for_status()
        return answer.text.strip().splitlines()[-1].rsplit(",", 1)[1]


class RedisClient(Client):
    def __init__(self, server: Redis) -> None:
        self.port = server.port

    def write(self) -> None:
        assert exchange(self.port, b"SET reading 42\r\n", 5) == b"+OK\r\n"

    def read(self) -> str:
        return exchange(self.port, b"GET reading\r\n", 8).split(b"\r\n")[1].decode()


class PostgreSQLClient(Client):
    def __init__(self, server: PostgreSQL) -> None:
        self.url = server.url

    def write(self) -> None:
        self._psql("CREATE TABLE reading AS SELECT 42 AS value")

    def read(self) -> str:
        return self._psql("SELECT value FROM reading")

    def _psql(self, statement: str) -> str:
        command = [program("psql") or "psql", self.url, "-tA", "-v", "ON_ERROR_STOP=1", "-c", statement]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=Path("/")
        ).stdout.strip()


class PrometheusClient(HttpClient):
    """It writes by itself: whether it is up, each second. 42 is that once it is asked so."""

    def __init__(self, server: Prometheus) -> None:
        super().__init__(server)
        self.written = 0.0

    def write(self) -> None:
        until(lambda: bool(self._ask(time.time())))
        self.written = time.time()

    def read(self) -> str:
        return str(self._ask(self.written)[0]["value"][1])

    def _ask(self, when: float) -> list[dict[str, Any]]:
        asked = {"query": "up * 42", "time": str(when)}
        found: list[dict[str, Any]] = (
            self.http.get("/api/v1/query", params=asked).raise_for_status().json()["data"]["result"]
        )
        return found


class ChromaClient(HttpClient):
    def __init__(self, server: Chroma) -> None:
        super().__init__(server)
        self.collections = "/api/v2/tenants/default_tenant/databases/default_database/collections"

    def write(self) -> None:
        made = self.http.post(self.collections, json={"name": "reading"}).raise_for_status().json()["id"]
        row = {"ids": ["1"], "embeddings": [[1.0, 0.0]], "documents": ["42"]}
        self.http.post(f"{self.collections}/{made}/add", json=row).raise_for_status()

    def read(self) -> str:
        found = self.http.get(f"{self.collections}/reading").raise_for_status().json()["id"]
        asked = {"query_embeddings": [[1.0, 0.1]], "n_results": 1, "include": ["documents"]}
        answer = self.http.post(f"{self.collections}/{found}/query", json=asked).raise_for_status().json()
        return str(answer["documents"][0][0])


class MLflowClient(HttpClient):
    def write(self) -> None:
        tags = [{"key": "value", "value": "42"}]
        made = {"name": "reading", "tags": tags}
        self.http.post("/api/2.0/mlflow/experiments/create", json=made).raise_for_status()

    def read(self) -> str:
        asked = {"experiment_name": "reading"}
        answer = self.http.get("/api/2.0/mlflow/experiments/get-by-name", params=asked).raise_for_status()
        return {tag["key"]: str(tag["value"]) for tag in answer.json()["experiment"]["tags"]}["value"]


def until(holds: Callable[[], bool]) -> None:
    """Look at another process until it did what it was asked to."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


CLIENTS: dict[str, Callable[[Any], Client]] = {
    Chroma.name: ChromaClient,
    InfluxDB.name: InfluxDBClient,
    Kafka.name: KafkaClient,
    MLflow.name: MLflowClient,
    Mosquitto.name: MosquittoClient,
    Nats.name: NatsClient,
    Neo4j.name: Neo4jClient,
    PostgreSQL.name: PostgreSQLClient,
    Prometheus.name: PrometheusClient,
    Redis.name: RedisClient,
}
