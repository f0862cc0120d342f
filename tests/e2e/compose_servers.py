"""The servers of docker-compose.yml without containers: the same programs, given the environment and files that the compose
file gives them. Only what a container changes is changed: addresses, ports and folders.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.servers.influxdb import InfluxDB
from deploy.servers.kafka import Kafka
from deploy.servers.mosquitto import Mosquitto
from deploy.servers.nats import Nats
from deploy.servers.postgresql import PostgreSQL
from deploy.servers.probes import exchange, mqtt_accepts
from deploy.servers.process import HOST, Server
from deploy.servers.redis import Redis
from shared.supervise import free_ports

ROOT: Final = Path(__file__).parents[2]
CONFIG: Final = ROOT / "deploy"
Environment = Mapping[str, str]


class ComposedMosquitto(Mosquitto):
    """By deploy/mosquitto: its start script, its configuration, its rules."""

    def __init__(self, folder: Path, given: Environment) -> None:
        super().__init__(folder, username="admin", password=given["PASSWORD_ADMIN"])
        self._given = given

    def prepare(self) -> None:
        text = (CONFIG / "mosquitto/mosquitto.conf").read_text()
        for inside, here in (
            ("listener 1883", f"listener {self.port} {HOST}"),
            ("/run/mosquitto/passwords", str(self._passwords)),
            ("/mosquitto/config/acl", str(CONFIG / "mosquitto/acl")),
            ("/mosquitto/data/", f"{self.folder}/"),
        ):
            text = replaced(text, inside, here)
        self._config.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))

    def command(self) -> Sequence[str]:
        return ["/bin/sh", str(CONFIG / "mosquitto/start.sh")]

    def environment(self) -> Environment:
        return {
            **self._given,
            "MOSQUITTO_CONF": str(self._config),
            "MOSQUITTO_PASSWORDS": str(self._passwords),
        }

    def answers(self) -> bool:
        return mqtt_accepts(self.port, self.username, self.password)


class ComposedNats(Nats):
    """By deploy/nats/nats.conf."""

    def __init__(self, folder: Path, given: Environment) -> None:
        super().__init__(folder)
        self.credentials = f"admin:{given['PASSWORD_ADMIN']}"
        self._given = given

    def prepare(self) -> None:
        text = (CONFIG / "nats/nats.conf").read_text()
        for inside, here in (
            ("0.0.0.0:4222", f"{HOST}:{self.port}"),
            ("127.0.0.1:8222", f"{HOST}:{free_ports(1)[0]}"),
            ('"/data"', f'"{self.folder}/store"'),
        ):
            text = replaced(text, inside, here)
        self._config.write_text(text)

    def environment(self) -> Environment:
        return self._given


class ComposedKafka(Kafka):
    """By the variables that its image turns into properties: `KAFKA_LOG_DIRS` is `log.dirs`."""

    def __init__(self, folder: Path, given: Environment) -> None:
        super().__init__(folder)
        self._internal_port = free_ports(1)[0]
        self._given = given

    def answers(self) -> bool:
        """Asked where it speaks to itself, for outside it wants a login first."""
        outside, self.port = self.port, self._internal_port
        try:
            return super().answers()
        finally:
            self.port = outside

    def _properties(self) -> dict[str, str]:
        ports = {"9092": self.port, "9093": self._controller_port, "9094": self._internal_port}
        made = {
            key.removeprefix("KAFKA_").lower().replace("_", "."): re.sub(
                r"([A-Za-z0-9.]*):(909[234])\b", lambda found: f"{HOST}:{ports[found[2]]}", value
            )
            for key, value in self._given.items()
            if key.startswith("KAFKA_") and key != "KAFKA_HEAP_OPTS"
        }
        assert made["log.dirs"] == "/var/lib/kafka/data"
        return made | {"log.dirs": str(self._data)}


class ComposedInfluxDB(InfluxDB):
    """With the organisation, bucket and token that its image makes at the first start."""

    def __init__(self, folder: Path, given: Environment) -> None:
        super().__init__(
            folder, org=given["DOCKER_INFLUXDB_INIT_ORG"], bucket=given["DOCKER_INFLUXDB_INIT_BUCKET"]
        )
        self._secret = given["DOCKER_INFLUXDB_INIT_ADMIN_TOKEN"]

    def prepare(self) -> None:
        (self.folder / "token").write_text(self._secret)


class ComposedPostgreSQL(PostgreSQL):
    """With the user and password that its image makes at the first start."""

    def __init__(self, folder: Path, given: Environment) -> None:
        assert given["POSTGRES_DB"] == self.database
        super().__init__(folder, username=given["POSTGRES_USER"], password=given["POSTGRES_PASSWORD"])


class ComposedRedis(Redis):
    """By deploy/redis/redis.conf and its password."""

    def __init__(self, folder: Path, given: Environment) -> None:
        lines = (CONFIG / "redis/redis.conf").read_text().splitlines()
        told = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
        here = {"bind": HOST, "dir": str(folder.resolve())}
        plain = {key: value.strip('"') for key, value in told.items()}
        super().__init__(folder, settings={**plain, **here, "requirepass": given["REDIS_PASSWORD"]})

    def answers(self) -> bool:
        word = f"AUTH {self.settings['requirepass']}\r\n".encode()
        return exchange(self.port, word, 5) == b"+OK\r\n"


SERVERS: Final[Mapping[str, Callable[[Path, Environment], Server]]] = {
    "mosquitto": ComposedMosquitto,
    "nats": ComposedNats,
    "kafka": ComposedKafka,
    "influxdb": ComposedInfluxDB,
    "postgres": ComposedPostgreSQL,
    "redis": ComposedRedis,
}
"""By the names of their services."""


def replaced(text: str, inside: str, here: str) -> str:
    """`text` with what holds in a container turned into what holds here. It must be there: else this page lags behind."""
    assert inside in text, f"no {inside!r} any more"
    return text.replace(inside, here)
