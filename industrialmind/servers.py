"""A plant on servers of its own: their accounts and rules, the secrets, and what must be there before parts start.

The same grants rule here as on the embedded nats-server. nats-server and mosquitto share the accounts; passwords come
to both from the environment, as `PASSWORD_NAME`, so that no file that is mounted into a container holds a secret.
"""

import base64
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import orjson

from industrialmind.embedded import MAX_PAYLOAD
from industrialmind.grants import EdgeScope, all_grants
from industrialmind.nats_conf import authorization, mosquitto_rules, on_nats, user
from industrialmind.plant import DEMO_PLANT, write_private
from industrialmind.servers_settings import ServersSettings
from shared.errors import Misconfigured
from shared.eventlog import open_event_log
from shared.nats import open_control

ENVIRONMENT_FILE: Final = ".env"
NATS_FILE: Final = Path("deploy/nats/nats.conf")
ACL_FILE: Final = Path("deploy/mosquitto/acl")
OVERRIDE_FILE: Final = Path("docker-compose.override.yml")
DEMO_EDGES: Final = DEMO_PLANT.edges()
_WRITTEN: Final = "# Written by industrialmind servers config; changes are lost.\n"
_STORE_BYTES: Final = 4 << 30
_LINE: Final = re.compile(r"^([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)

URLS: Final[Mapping[str, str]] = {
    "MQTT_URL": "mqtt://mosquitto:1883",
    "NATS_URL": "nats://nats:4222",
    "LOG_URL": "kafka://kafka:9092",
    "TELEMETRY_URL": "influxdb://influxdb:8086/im/im",
    "APP_URL": "postgresql://im:${POSTGRES_PASSWORD}@postgres:5432/im",
    "MLFLOW_URL": "http://mlflow:5011",
    "CACHE_URL": "redis://:${REDIS_PASSWORD}@redis:6379/0",
}
"""Where each server is. A server that is elsewhere is named here, and its service left out of `up`."""
SECRETS: Final = (
    "KAFKA_PASSWORD",
    "INFLUXDB_PASSWORD",
    "INFLUXDB_TOKEN",
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "MLFLOW_PASSWORD",
    "API_TOKEN",
    "UI_TOKEN",
    "METRICS_TOKEN",
    "SESSION_KEY",
)


def password_variable(account: str) -> str:
    """The variable that holds an account's password: `PASSWORD_EDGE_PUMP_01` of `edge-pump-01`."""
    return f"PASSWORD_{account.upper().replace('-', '_')}"


def scopes(site: str, edges: Mapping[str, Iterable[str]]) -> tuple[EdgeScope, ...]:
    """What each edge may touch, by the machines it speaks for. Raises Misconfigured (two edges for a machine)."""
    made = tuple(EdgeScope(site, edge, tuple(machines)) for edge, machines in edges.items())
    spoken = [machine for edge in made for machine in edge.machines]
    twice = sorted({machine for machine in spoken if spoken.count(machine) > 1})
    if twice:
        raise Misconfigured(f"two edges speak for {', '.join(twice)}", hint="give each machine to one edge")
    return made


def nats_conf(edges: Sequence[EdgeScope]) -> str:
    """The configuration of a nats-server that keeps models, desired and reported state."""
    left = {name: on_nats(grants) for name, grants in all_grants(edges).items()}
    users = [user(name, f"${password_variable(name)}", one) for name, one in left.items() if one is not None]
    return f"""{_WRITTEN}server_name: industrialmind
listen: "0.0.0.0:4222"
http: "127.0.0.1:8222"
max_payload: {MAX_PAYLOAD}
write_deadline: "10s"
jetstream {{
  store_dir: "/data"
  max_file_store: {_STORE_BYTES}
  sync_interval: always
}}
{authorization(users)}"""


def mosquitto_acl(edges: Sequence[EdgeScope]) -> str:
    """The rules of mosquitto: who publishes and hears which topics."""
    parts = [mosquitto_rules(name, grants) for name, grants in all_grants(edges).items()]
    return _WRITTEN + "\n" + "\n".join(part for part in parts if part)


def environment(edges: Sequence[EdgeScope], known: Mapping[str, str]) -> dict[str, str]:
    """Every variable of the compose file; those that are `known` stay, secrets that are missing are made."""
    spoken = {edge.edge: edge.machines for edge in edges}
    made = {"VERSION": version("industrialmind"), "SITE": edges[0].site}
    made["EDGES"] = orjson.dumps(spoken).decode()
    made |= {password_variable(name): _secret() for name in all_grants(edges)}
    made |= {name: _secret() for name in SECRETS}
    cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    made["KAFKA_CLUSTER_ID"] = cluster.replace("-", "_")  # Kafka's tools take a dash in front for an option
    made |= URLS  # after what they name: Compose fills in what it has read by then
    renewed = {name: made[name] for name in ("VERSION", "SITE", "EDGES")}
    return {**made, **{name: value for name, value in known.items() if value}, **renewed}


def read_environment(text: str) -> dict[str, str]:
    """The variables of an environment file, as they stand there without their quotes."""
    return {name: value.strip("'") for name, value in _LINE.findall(text)}


def expanded(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with `${NAME}` of others filled in, as Compose reads them."""
    return {
        name: re.sub(r"\$\{([A-Z0-9_]+)\}", lambda found: variables[found[1]], value)
        for name, value in variables.items()
    }


def write_servers_config(folder: Path, edges: Sequence[EdgeScope]) -> list[Path]:
    """Write accounts, rules and secrets for these edges into a folder that holds the compose file; returns the files.

    Secrets that are there stay, so that running it again for another edge changes nobody's password.
    """
    env = folder / ENVIRONMENT_FILE
    known = read_environment(env.read_text(encoding="utf-8")) if env.exists() else {}
    wanted = environment(edges, known)
    lines = "".join(f"{name}={_quoted(value)}\n" for name, value in wanted.items())
    write_private(env, f"# Every secret of this plant: keep it, and keep it to yourself.\n{lines}")
    files = {NATS_FILE: nats_conf(edges), ACL_FILE: mosquitto_acl(edges)}
    more = [edge.edge for edge in edges if edge not in DEMO_EDGES]
    if more:
        files[OVERRIDE_FILE] = _override(more)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return [env, *(folder / path for path in files)]


def _override(edges: Sequence[str]) -> str:
    """What Compose merges into the brokers' services: the passwords of edges that are not the demonstration's."""
    names = [password_variable(edge) for edge in edges]
    lines = "".join(f"      {name}: ${{{name}:?}}\n" for name in names)
    return f"{_WRITTEN}services:\n" + "".join(
        f"  {broker}:\n    environment:\n{lines}" for broker in ("mosquitto", "nats")
    )


def _quoted(value: str) -> str:
    """As an environment file has it: quotes around JSON, none where `${NAME}` is to be filled in."""
    return f"'{value}'" if '"' in value else value


def _secret() -> str:
    """192 bits that no shell, URL or configuration file reads as anything but text: nats-server takes digits for a number."""
    return f"s{secrets.token_hex(24)}"


async def ensure_servers(settings: ServersSettings) -> None:
    """Make what a plant's parts find: the log's topics, the buckets, who speaks for which machine. Again: no change.

    Raises Misconfigured, Unavailable.
    """
    edges = scopes(settings.site, settings.edges)
    log_url, log_credentials = settings.log
    if log_url.startswith("kafka:"):
        from shared.kafka import ensure_topics  # noqa: PLC0415 - only the chosen driver loads

        await ensure_topics(log_url, credentials=log_credentials, partitions=settings.partitions)
    else:
        from shared.jetstream import ensure_topics as ensure_streams  # noqa: PLC0415 - the same

        await ensure_streams(
            log_url, credentials=log_credentials, max_file_store=_STORE_BYTES, tls=settings.tls.open()
        )
    async with open_event_log(log_url, credentials=log_credentials, tls=settings.tls.open()):
        pass  # it answers
    credentials = settings.credentials.get_secret_value()
    async with open_control(settings.nats_url, credentials=credentials, tls=settings.tls.open()) as control:
        await control.ensure_buckets([edge.edge for edge in edges])
        for edge in edges:
            for machine in edge.machines:
                await control.assign(settings.site, machine, edge.edge)
