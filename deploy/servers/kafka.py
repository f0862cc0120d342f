"""Apache Kafka in KRaft mode: one node that is broker and controller."""

import secrets
import struct
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from deploy.servers.install import java, maven_jars, run
from deploy.servers.probes import exchange
from deploy.servers.process import HOST, Server
from shared.supervise import free_ports

VERSION: Final = "4.3.1"
_JARS: Final = (
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    f"org.apache.kafka:kafka-tools:{VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
)
_QUIET: Final = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
# Metadata, version 1, of no topic: the answer lists the brokers that are alive to the controller.
_METADATA: Final = struct.pack(">hhihi", 3, 1, 1, -1, 0)


class Kafka(Server):
    """A broker without authentication. Topics are made by their users: it makes none by itself.

    `settings` go into server.properties over what stands there by default.
    """

    name: ClassVar[str] = "kafka"
    scheme: ClassVar[str] = "kafka"
    ready_s: ClassVar[float] = 180.0

    def __init__(self, folder: Path, *, port: int | None = None, settings: Mapping[str, str] = {}) -> None:
        super().__init__(folder, port=port)
        self.settings = dict(settings)
        self._controller_port = free_ports(1)[0]

    @property
    def bootstrap(self) -> str:
        """HOST:PORT, as clients want it."""
        return f"{HOST}:{self.port}"

    @classmethod
    def install(cls) -> None:
        """Fetch the jars."""
        maven_jars(f"kafka-{VERSION}", _JARS)

    def prepare(self) -> None:
        """Write server.properties; a new folder is formatted for a cluster of its own."""
        lines = [f"{key}={value}\n" for key, value in self._properties().items()]
        self._config.write_text("".join(lines))
        if not (self._data / "meta.properties").exists():
            cluster = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "_")
            light = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # it runs for a second
            run(
                [
                    *self._java(light),
                    "kafka.tools.StorageTool",
                    "format",
                    "-t",
                    cluster,
                    "-c",
                    str(self._config),
                ]
            )

    def command(self) -> Sequence[str]:
        """One JVM."""
        return [*self._java(["-Xmx512m"]), "kafka.Kafka", str(self._config)]

    def answers(self) -> bool:
        """Whether it names a broker that is alive."""
        answer = exchange(self.port, struct.pack(">i", len(_METADATA)) + _METADATA, 12)
        brokers: int = struct.unpack(">iii", answer)[2]
        return brokers > 0

    @property
    def _config(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _java(self, options: Sequence[str]) -> list[str]:
        libs = maven_jars(f"kafka-{VERSION}", _JARS)
        return [java(self.name), *options, _QUIET, "-cp", f"{libs}/*"]

    def _properties(self) -> dict[str, str]:
        controller = f"{HOST}:{self._controller_port}"
        one_replica = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._data),
            "auto.create.topics.enable": "false",
            **{f"{topic}.replication.factor": "1" for topic in one_replica},
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # One node with small loads: 50 partitions of offsets are 50 folders to open at each start.
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            # After a kill the controller takes the broker back when it no longer counts its former life as alive.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self.settings,
        }
