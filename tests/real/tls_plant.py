"""mosquitto and nats-server by certificates, on this machine, with everything that was written for them."""

import os
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from deploy.servers.mosquitto import Mosquitto
from deploy.servers.nats import Nats
from deploy.servers.process import HOST
from industrialmind.grants import EdgeScope
from industrialmind.pki import Door, Pki
from industrialmind.tls_conf import mosquitto_acl, mosquitto_conf, nats_conf
from shared.supervise import free_ports
from shared.tls import TlsFiles

E1 = EdgeScope("s1", "e1", ("pump",))
E2 = EdgeScope("s1", "e2", ("fan",))
EDGES = (E1, E2)
SERVICES = ("admin", "cloud", "gateway", "cli")


def now() -> datetime:
    return datetime.now(UTC)


class TlsMosquitto(Mosquitto):
    """The broker with a door for the field and one for services."""

    def __init__(self, folder: Path, pki: Pki) -> None:
        super().__init__(folder)
        self.pki = pki
        field, services = free_ports(2)
        self.ports: Mapping[Door, int] = {"field": field, "services": services}

    def prepare(self) -> None:
        root = self.pki.folder
        (root / "acl").write_text(mosquitto_acl(EDGES))
        settings = {"persistence": "true", "persistence_location": f"{self.folder}/", "log_dest": "stderr"}
        if os.geteuid() == 0:
            settings["user"] = "root"
        text = mosquitto_conf(root, "broker", ports=self.ports, host=HOST, settings=settings, log_denied=True)
        self._config.write_text(text)

    def answers(self) -> bool:
        return " running" in self.log_file.read_text(errors="replace")

    def url_of(self, door: Door) -> str:
        return f"mqtts://{HOST}:{self.ports[door]}"

    def reload(self) -> None:
        """Certificates, revocation lists and rules are read again."""
        os.kill(self.pid, signal.SIGHUP)

    def said(self) -> str:
        return self.log_file.read_text(errors="replace")


class TlsNats(Nats):
    """nats-server that takes nobody without a certificate."""

    scheme = "tls"

    def __init__(self, folder: Path, pki: Pki) -> None:
        super().__init__(folder)
        self.pki = pki

    def prepare(self) -> None:
        self._config.write_text(
            nats_conf(
                self.pki.folder,
                "broker",
                EDGES,
                self.pki.book(),
                listen=f"{HOST}:{self.port}",
                store=str(self.folder / "store"),
                store_bytes=1 << 30,
            )
        )

    def reload(self) -> None:
        """Users and certificates are read again."""
        self.prepare()
        os.kill(self.pid, signal.SIGHUP)

    def said(self) -> str:
        return self.log_file.read_text(errors="replace")


def new_pki(folder: Path, edges: Sequence[EdgeScope] = EDGES) -> Pki:
    pki = Pki.init(folder, now())
    pki.issue("broker", "services", now(), hosts=(HOST, "localhost"))
    for service in SERVICES:
        pki.issue(service, "services", now())
    for edge in edges:
        pki.issue(edge.edge, "field", now())
        pki.issue(f"{edge.edge}.devices", "field", now())
        for machine in edge.machines:
            pki.issue(f"device.{machine}", "field", now())
    return pki


def files(pki: Pki, name: str | None) -> TlsFiles:
    ca = pki.authority_file("services")
    if name is None:
        return TlsFiles(ca=ca)
    return TlsFiles(ca=ca, cert=pki.certificate_file(name), key=pki.certificate_file(name, ".key"))
