"""Settings of each part of the backbone, and who reaches whom through which network."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cloud.telemetry.access import Access
from cloud.telemetry.port import TelemetryStore, open_store
from deploy.servers.influxdb import InfluxDB
from deploy.servers.kafka import Kafka
from deploy.servers.mosquitto import Mosquitto
from deploy.servers.nats import Nats
from deploy.servers.postgresql import PostgreSQL
from deploy.servers.process import Server
from deploy.servers.redis import Redis
from shared.supervise import free_ports
from tests.faults.background import Background
from tests.faults.load import SITE
from tests.faults.tcp_proxy import TcpProxy
from tests.parts import Part

TOKEN = "metrics"
EventLogKind = Literal["kafka", "jetstream"]
SHARE_GROUP = "gateways"


@dataclass(frozen=True)
class Shape:
    """How many of each. Edge eN watches machine mN; machines dN have no edge.

    `persistent`: the uplink's broker keeps its sessions over a restart. `proxied`: edges and gateways reach it, and
    gateways reach Kafka, through networks that can be cut. `api`: the data API and the ledger run too, and with `stores`
    they and ingest keep what they keep in InfluxDB, PostgreSQL and Redis. `settings` are more settings by section.
    """

    edges: int = 2
    direct: int = 1
    gateways: int = 1
    persistent: bool = True
    proxied: bool = False
    api: bool = False
    stores: bool = False
    event_log: EventLogKind = "kafka"
    messages_per_second: float = 60.0
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Wiring:
    """The servers, not started yet, the networks, and the parts' settings."""

    def __init__(self, folder: Path, shape: Shape, background: Background) -> None:
        self.folder, self.shape = folder, shape
        self.edges = tuple(f"e{n}" for n in range(1, shape.edges + 1))
        self.gateways = tuple(f"gateway-{n}" for n in range(1, shape.gateways + 1))
        told = {"sys_interval": "1"}
        self.devices_broker = Mosquitto(folder / "devices", settings=told)
        self.broker = Mosquitto(folder / "uplink", persistence=shape.persistent, settings=told)
        self.nats = Nats(folder / "nats", sync="1s")
        self.kafka = Kafka(folder / "kafka")
        self.influxdb = InfluxDB(folder / "influxdb")
        self.postgresql = PostgreSQL(folder / "postgresql")
        self.redis = Redis(folder / "redis")
        if shape.stores:
            self.influxdb.folder.mkdir(parents=True, exist_ok=True)
            self.influxdb.prepare()  # its token is in the parts' settings, which are written before it starts
        self.networks: dict[str, TcpProxy] = {}
        self._log_port = self.kafka.port
        if shape.proxied:
            self.networks = {name: TcpProxy(background, self.broker.port) for name in ("edges", "gateways")}
            self._proxy_log(background)

    def servers(self) -> list[Server]:
        """Those that this shape needs, in the order in which they are started."""
        needed: list[Server] = [self.devices_broker, self.broker, self.nats]
        if self.shape.event_log == "kafka":
            needed.append(self.kafka)
        return [*needed, self.influxdb, self.postgresql, self.redis] if self.shape.stores else needed

    @property
    def telemetry_url(self) -> str:
        """The store."""
        if self.shape.stores:
            return f"influxdb://127.0.0.1:{self.influxdb.port}/{self.influxdb.org}/{self.influxdb.bucket}"
        return f"sqlite:///{self.folder / 'telemetry.db'}"

    def store(self) -> AbstractAsyncContextManager[TelemetryStore]:
        """The store, to be read."""
        access = Access(self.influxdb.token, self.postgresql.url) if self.shape.stores else None
        return open_store(self.telemetry_url, read_only=True, access=access)

    @property
    def control(self) -> tuple[str, str]:
        """URL and credentials of the control plane."""
        return self.nats.url, self.nats.credentials

    @property
    def log(self) -> tuple[str, str]:
        """URL and credentials of the event log."""
        return (self.kafka.url, "") if self.shape.event_log == "kafka" else self.control

    def outboxes(self) -> dict[str, Path]:
        """Each edge's file."""
        return {edge: self.folder / edge / "outbox" / "outbox.db" for edge in self.edges}

    def parts(self) -> dict[str, Part]:
        """Every part by name, not started yet."""
        made = {
            edge: Part(self.folder / edge, "edge run", "edge", self._edge(edge) | self._more("edge"))
            for edge in self.edges
        }
        for gateway in self.gateways:
            settings = self._gateway(gateway) | self._more("gateway")
            made[gateway] = Part(self.folder / gateway, "gateway run", "gateway", settings)
        settings = self._ingest() | self._more("ingest")
        made["ingest"] = Part(self.folder / "ingest", "cloud run ingest", "ingest", settings)
        if self.shape.api:
            made["api"] = Part(self.folder / "api", "cloud run api", "api", self._api() | self._more("api"))
        return made

    def _proxy_log(self, background: Background) -> None:
        """A second listener of Kafka that tells its clients to come through the network "log"; ingest uses the first."""
        [listener] = free_ports(1)
        proxy = self.networks["log"] = TcpProxy(background, listener)
        self._log_port = proxy.port
        defaults = self.kafka._properties()
        self.kafka.settings |= {
            "listeners": f"{defaults['listeners']},PROXIED://127.0.0.1:{listener}",
            "advertised.listeners": f"{defaults['advertised.listeners']},PROXIED://127.0.0.1:{proxy.port}",
            "listener.security.protocol.map": f"{defaults['listener.security.protocol.map']},PROXIED:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
        }

    def _mqtt_url(self, network: str) -> str:
        return f"mqtt://127.0.0.1:{self.networks[network].port if self.networks else self.broker.port}"

    def _more(self, section: str) -> dict[str, Any]:
        return dict(self.shape.settings.get(section, {}))

    def _control(self) -> dict[str, Any]:
        return {"nats_url": self.nats.url, "credentials": self.nats.credentials}

    def _log(self, port: int) -> dict[str, Any]:
        return {"log_url": f"kafka://127.0.0.1:{port}"} if self.shape.event_log == "kafka" else {}

    def _edge(self, edge: str) -> dict[str, Any]:
        login = {"username": self.broker.username, "password": self.broker.password}
        return {
            "site": SITE,
            "edge": edge,
            "machines": [f"m{edge[1:]}"],
            "folder": str(self.folder / edge / "outbox"),
            "devices": login | {"url": self.devices_broker.url, "client_id": f"{edge}-devices"},
            "uplink": login | {"url": self._mqtt_url("edges"), "client_id": f"{edge}-uplink"},
            "report_seconds": 0.2,
            "token": TOKEN,
            **self._control(),
        }

    def _gateway(self, gateway: str) -> dict[str, Any]:
        shared = {"share_group": SHARE_GROUP} if len(self.gateways) > 1 else {}
        return {
            "mqtt_url": self._mqtt_url("gateways"),
            "mqtt_username": self.broker.username,
            "mqtt_password": self.broker.password,
            "client_id": gateway,
            "number": int(gateway.removeprefix("gateway-")),
            "token": TOKEN,
            **shared,
            **self._log(self._log_port),
            **self._control(),
        }

    def _store(self) -> dict[str, Any]:
        """The telemetry store, and how it is got at."""
        where = {"telemetry_url": self.telemetry_url}
        if not self.shape.stores:
            return where
        return where | {
            "telemetry_token": self.influxdb.token,
            "telemetry_books_url": self.postgresql.url,
        }

    def _ingest(self) -> dict[str, Any]:
        return {
            **self._store(),
            "metrics_token": TOKEN,
            **self._log(self.kafka.port),
            **self._control(),
        }

    def _api(self) -> dict[str, Any]:
        stores = {"app_url": self.postgresql.url, "cache_url": self.redis.url} if self.shape.stores else {}
        return {
            **stores,
            **self._store(),
            "token": TOKEN,
            **self._log(self.kafka.port),
            **self._control(),
        }
