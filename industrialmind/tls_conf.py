"""mosquitto and nats-server by certificates: configuration and rules made from who speaks for which machine.

mosquitto has a door for each authority. The field's binds the client id to the certificate, since ids are the broker's
alone: whoever could choose one could end, and inherit, another's session. The services' lets ids be chosen, for one
service holds several connections; nobody with a certificate of the field comes in there.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from industrialmind.embedded import MAX_PAYLOAD
from industrialmind.grants import EdgeScope, Grants, all_grants
from industrialmind.nats_conf import authorization, mosquitto_rules, on_nats, text, user_by_certificate
from industrialmind.pki import DOORS, Book, Door, Pki, write_public
from shared.names import MQTTS_PORT, NATS_PORT

WRITTEN: Final = "# Written by industrialmind pki rules; changes are lost.\n"
SERVICES_PORT: Final = 8884
_STORE_BYTES: Final = 4 << 30


def device_name(machine: str) -> str:
    """The certificate of a machine's device: no edge is named so, for ids have no dots."""
    return f"device.{machine}"


def devices_side(edge: str) -> str:
    """The certificate of an edge's connection to the devices' broker, where that is the uplink's broker too.

    With the client id bound to the certificate, two connections to one broker need two.
    """
    return f"{edge}.devices"


def mosquitto_acl(edges: Sequence[EdgeScope], machines: Iterable[tuple[str, str]] = ()) -> str:
    """The rules by the certificates' names; `machines` are (site, machine) with no edge, whose devices publish too."""
    parts = [mosquitto_rules(name, grants) for name, grants in all_grants(edges).items() if name != "devices"]
    for edge in edges:
        heard = tuple(f"plant.{edge.site}.{machine}.*" for machine in edge.machines)
        said = (f"im.v1.{edge.site}.{edge.edge}.local.>",)
        parts.append(mosquitto_rules(devices_side(edge.edge), Grants(said, heard, ("MQTT",))))
    devices = [(edge.site, machine, edge.edge) for edge in edges for machine in edge.machines]
    for site, machine, owner in [*devices, *((site, machine, "") for site, machine in machines)]:
        beside = (f"im.v1.{site}.{owner}.local.>",) if owner else ()
        device = Grants((f"plant.{site}.{machine}.*",), beside, ("MQTT",))
        parts.append(mosquitto_rules(device_name(machine), device))
    return WRITTEN + "\n" + "\n".join(part for part in parts if part)


def mosquitto_conf(
    folder: Path,
    server: str,
    *,
    ports: Mapping[Door, int] | None = None,
    host: str = "",
    settings: Mapping[str, str] | None = None,
    log_denied: bool = False,
) -> str:
    """The configuration of a mosquitto whose files lie in `folder` as `Pki` has them; `server` is its certificate's name.

    `log_denied`: mosquitto tells of publishes that its rules deny, which it does only beside a line for every packet.
    """
    ports = ports or {"field": MQTTS_PORT, "services": SERVICES_PORT}
    lines = [
        "per_listener_settings false",
        "allow_anonymous false",
        f"acl_file {folder / 'acl'}",
        "set_tcp_nodelay true",
        "max_inflight_messages 20000",
        "max_queued_messages 0",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
        *(["log_type debug"] if log_denied else []),
        *(f"{key} {value}" for key, value in (settings or {}).items()),
    ]
    for door in DOORS:
        lines += [
            "",
            f"listener {ports[door]} {host}".rstrip(),
            f"cafile {folder / f'ca-{door}.crt'}",
            f"crlfile {folder / f'crl-{door}.pem'}",
            f"certfile {folder / 'certs' / f'{server}.crt'}",
            f"keyfile {folder / 'certs' / f'{server}.key'}",
            "tls_version tlsv1.2",
            "require_certificate true",
            "use_identity_as_username true",
            *(["use_username_as_clientid true"] if door == "field" else []),
        ]
    return WRITTEN + "\n".join(lines) + "\n"


def nats_users(edges: Sequence[EdgeScope], book: Book) -> str:
    """Users by the generation that the newest certificates carry: what was revoked maps to nobody."""
    users = []
    for name, grants in all_grants(edges).items():
        left, issued = on_nats(grants), book.issued.get(name)
        if left is not None and issued is not None and not issued.revoked:
            users.append(user_by_certificate(f"{name}.g{issued.generation}", left))
    return authorization(users)


def nats_conf(
    folder: Path,
    server: str,
    edges: Sequence[EdgeScope],
    book: Book,
    *,
    listen: str = f"0.0.0.0:{NATS_PORT}",
    store: str = "/data",
    store_bytes: int = _STORE_BYTES,
) -> str:
    """The configuration of a nats-server that takes nobody without a certificate. SIGHUP makes it read all of this again."""
    certificate = folder / "certs" / server
    return f"""{WRITTEN}server_name: industrialmind
listen: {text(listen)}
max_payload: {MAX_PAYLOAD}
write_deadline: "10s"
jetstream {{
  store_dir: {text(store)}
  max_file_store: {store_bytes}
  sync_interval: always
}}
tls {{
  cert_file: {text(f"{certificate}.crt")}
  key_file: {text(f"{certificate}.key")}
  ca_file: {text(str(folder / "ca.crt"))}
  verify_and_map: true
  timeout: 5
}}
{nats_users(edges, book)}"""


def write_rules(
    pki: Pki,
    edges: Sequence[EdgeScope],
    *,
    mosquitto: str,
    nats: str,
    machines: Iterable[tuple[str, str]] = (),
    log_denied: bool = False,
) -> list[Path]:
    """Write `acl`, `mosquitto.conf` and `nats.conf` beside the certificates; returns the files."""
    folder = pki.folder.resolve()
    files = {
        folder / "acl": mosquitto_acl(edges, machines),
        folder / "mosquitto.conf": mosquitto_conf(folder, mosquitto, log_denied=log_denied),
        folder / "nats.conf": nats_conf(folder, nats, edges, pki.book()),
    }
    for path, content in files.items():
        write_public(path, content)
    return list(files)
