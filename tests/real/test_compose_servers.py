"""The compose file by Compose's own loader, and what its containers would start, started natively."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
import pytest
import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from paho.mqtt.enums import CallbackAPIVersion

from deploy.checks import read_compose, read_dockerfile
from deploy.servers.install import debian, find, run
from deploy.servers.kafka import Kafka
from deploy.servers.mosquitto import Mosquitto
from deploy.servers.nats import Nats
from deploy.servers.redis import Redis
from industrialmind.embedded import server_binary
from industrialmind.servers import (
    DEMO_EDGES,
    environment,
    expanded,
    password_variable,
    read_environment,
    write_servers_config,
)
from shared.errors import Unavailable
from shared.nats import open_control
from shared.settings import child_environment
from shared.supervise import free_ports

pytestmark = pytest.mark.real

ROOT: Final = Path(__file__).parents[2]
VALUES: Final = expanded(environment(DEMO_EDGES, {}))
SERVICES: Final[Mapping[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
EDGE: Final = DEMO_EDGES[0]


def environ(service: str) -> dict[str, str]:
    """What a service of the compose file is given."""
    return {
        key: re.sub(r"\$\{([A-Z0-9_]+)\}", lambda found: VALUES[found[1]], value)
        for key, value in SERVICES[service]["environment"].items()
    }


def passwords(service: str) -> dict[str, str]:
    return {key: value for key, value in environ(service).items() if key.startswith("PASSWORD_")}


# The files, by those who would read them


def test_compose_reads_the_file_as_our_tests_do(tmp_path: Path) -> None:
    write_servers_config(tmp_path, DEMO_EDGES)
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    project = read_compose(tmp_path / "docker-compose.yml", tmp_path / ".env")
    values = expanded(read_environment((tmp_path / ".env").read_text()))
    assert set(project["services"]) == set(SERVICES)
    for name, service in project["services"].items():
        wanted = {
            key: re.sub(r"\$\{([A-Z0-9_]+)\}", lambda found: values[found[1]], value)
            for key, value in SERVICES[name].get("environment", {}).items()
        }
        assert (service.get("environment") or {}) == wanted, name


def test_compose_refuses_what_the_schema_refuses_and_a_variable_that_is_missing(tmp_path: Path) -> None:
    write_servers_config(tmp_path, DEMO_EDGES)
    text = (ROOT / "docker-compose.yml").read_text()
    (tmp_path / "bad.yml").write_text(text.replace("    read_only: true\n", "    readonly: true\n", 1))
    with pytest.raises(Unavailable, match="readonly"):
        read_compose(tmp_path / "bad.yml", tmp_path / ".env")
    (tmp_path / ".env").write_text((tmp_path / ".env").read_text().replace("POSTGRES_PASSWORD=", "NOTHING="))
    (tmp_path / "docker-compose.yml").write_text(text)
    with pytest.raises(Unavailable, match="POSTGRES_PASSWORD"):
        read_compose(tmp_path / "docker-compose.yml", tmp_path / ".env")


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").rglob("Dockerfile")), ids=lambda p: p.parent.name)
def test_buildkit_reads_the_dockerfiles(path: Path) -> None:
    stages = read_dockerfile(path)
    assert stages[-1]["commands"].count("USER") == 1


# The servers, as their containers start them


class PlantMosquitto(Mosquitto):
    """Started by deploy/mosquitto/start.sh with the configuration of the repository."""

    def prepare(self) -> None:
        debian("mosquitto", program="mosquitto_passwd")
        text = (ROOT / "deploy/mosquitto/mosquitto.conf").read_text()
        text = text.replace("listener 1883", f"listener {self.port} 127.0.0.1")
        text = text.replace("/run/mosquitto/passwords", str(self.folder / "passwords"))
        text = text.replace("/mosquitto/config/", f"{ROOT}/deploy/mosquitto/")
        text = text.replace("/mosquitto/data/", f"{self.folder}/")
        (self.folder / "mosquitto.conf").write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
        self.username, self.password = "admin", VALUES["PASSWORD_ADMIN"]

    def command(self) -> Sequence[str]:
        given = {
            **passwords("mosquitto"),
            "MOSQUITTO_CONF": str(self.folder / "mosquitto.conf"),
            "MOSQUITTO_PASSWORDS": str(self.folder / "passwords"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
        }
        words = [f"{key}={value}" for key, value in given.items()]
        return ["/usr/bin/env", *words, "/bin/sh", str(ROOT / "deploy/mosquitto/start.sh")]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlantMosquitto]:
    with PlantMosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


class Client:
    """An MQTT 5 client, whose broker says what it refuses."""

    def __init__(self, broker: Mosquitto, user: str, password: str = "") -> None:
        self.got: list[str] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.username_pw_set(user, password or VALUES[password_variable(user)])
        self.codes: dict[int, int] = {}
        self.connected: int | None = None
        self._client.on_connect = lambda _c, _u, _f, code, _p: setattr(self, "connected", code.value)
        self._client.on_publish = lambda _c, _u, mid, code, _p: self.codes.update({mid: code.value})
        self._client.on_message = lambda _c, _u, message: self.got.append(message.topic)
        self._client.on_subscribe = lambda _c, _u, mid, codes, _p: self.codes.update({mid: codes[0].value})
        self._client.connect("127.0.0.1", broker.port)
        self.until(lambda: self.connected is not None)

    def until(self, holds: Any) -> None:  # noqa: ANN401 - a condition
        for _ in range(600):
            if holds():
                return
            self._client.loop(0.05)
        raise AssertionError("it never came")

    def subscribe(self, topic: str) -> int:
        _, mid = self._client.subscribe(topic, qos=1)
        assert mid is not None
        self.until(lambda: mid in self.codes)
        return self.codes[mid]

    def publish(self, topic: str) -> int:
        """The broker's reason code: below 128 it took the message."""
        mid = self._client.publish(topic, b"1", qos=1).mid
        self.until(lambda: mid in self.codes)
        return self.codes[mid]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop(0.1)


def test_each_account_may_do_its_own_on_mosquitto_and_nothing_else(broker: PlantMosquitto) -> None:
    machine, edge = EDGE.machines[0], EDGE.edge
    one, gateway, device = (Client(broker, name) for name in (edge, "gateway", "devices"))
    assert one.subscribe(f"plant/demo/{machine}/+") < 128
    assert gateway.subscribe("$share/gateways/im/v1/+/+/frames") < 128
    assert device.publish(f"plant/demo/{machine}/flow") < 128
    one.until(lambda: one.got == [f"plant/demo/{machine}/flow"])
    assert one.publish(f"im/v1/demo/{edge}/frames") < 128
    gateway.until(lambda: gateway.got == [f"im/v1/demo/{edge}/frames"])
    for name, topic in (
        (edge, "im/v1/demo/edge-fan-01/frames"),
        (edge, f"im/v1/demo/{edge}/acks"),
        (edge, f"plant/demo/{machine}/flow"),
        ("devices", f"im/v1/demo/{edge}/frames"),
        ("devices", "plant/other/pump-01/flow"),
    ):
        other = Client(broker, name)  # mosquitto 2.0.11 drops a client whose second publish it refuses
        assert other.publish(topic) >= 128, topic
        other.close()
    assert Client(broker, edge, "wrong").connected == 135
    for client in (one, gateway, device):
        client.close()
    text = (broker.folder / "passwords").read_text()
    assert not any(password in text for password in passwords("mosquitto").values())


def test_the_broker_does_not_start_with_an_empty_password(tmp_path: Path) -> None:
    debian("mosquitto", program="mosquitto_passwd")
    given = {
        **passwords("mosquitto"),
        "PASSWORD_GATEWAY": "",
        "MOSQUITTO_CONF": "/dev/null",
        "MOSQUITTO_PASSWORDS": str(tmp_path / "passwords"),
    }
    with pytest.raises(Unavailable, match="PASSWORD_GATEWAY is empty"):
        run(["/bin/sh", str(ROOT / "deploy/mosquitto/start.sh")], environment=given)


class PlantNats(Nats):
    """With the configuration of the repository, its passwords from the environment."""

    def prepare(self) -> None:
        self.credentials = f"admin:{VALUES['PASSWORD_ADMIN']}"
        text = (ROOT / "deploy/nats/nats.conf").read_text()
        text = text.replace("0.0.0.0:4222", f"127.0.0.1:{self.port}")
        text = text.replace("127.0.0.1:8222", f"127.0.0.1:{self.mqtt_port}")
        text = text.replace('store_dir: "/data"', f'store_dir: "{self.folder / "store"}"')
        self._config.write_text(text)

    def command(self) -> Sequence[str]:
        words = [f"{key}={value}" for key, value in passwords("nats").items()]
        return ["/usr/bin/env", *words, server_binary(), "-c", str(self._config)]


class PlantKafka(Kafka):
    """With the listeners and the account that the compose file gives it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        inside = free_ports(1)[0]
        given = {
            key.removeprefix("KAFKA_").lower().replace("_", "."): value
            for key, value in environ("kafka").items()
            if key.startswith("KAFKA_") and key != "KAFKA_HEAP_OPTS"
        }
        for mine in ("process.roles", "node.id", "controller.quorum.voters", "log.dirs", "heap.opts"):
            given.pop(mine, None)
        outer = f"PLANT://{self.bootstrap},INTERNAL://127.0.0.1:{inside}"
        given["listeners"] = f"{outer},CONTROLLER://127.0.0.1:{self._controller_port}"
        given["advertised.listeners"] = outer
        self.settings = given

    def answers(self) -> bool:
        try:
            admin = AdminClient(self.client("plant", VALUES["KAFKA_PASSWORD"]))
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def client(self, user: str, password: str) -> dict[str, str | int | float | bool]:
        return {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": password,
            "log_level": 0,
        }


async def assignments(nats: Nats) -> Mapping[str, tuple[str, str]]:
    """What the gateway sees."""
    async with open_control(nats.url, credentials=f"gateway:{VALUES['PASSWORD_GATEWAY']}") as control:
        return await control.assignments()


def test_prepare_makes_what_services_find_and_nobody_comes_in_without_a_name(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("nats", "kafka")]
    for folder in folders:
        folder.mkdir()
    with PlantNats(folders[0]) as nats, PlantKafka(folders[1]) as kafka:
        given = environ("prepare") | {
            "IM_SERVERS__NATS_URL": nats.url,
            "IM_SERVERS__LOG_URL": f"kafka://{kafka.bootstrap}",
        }
        command = [sys.executable, "-m", "industrialmind", *SERVICES["prepare"]["command"]]
        for _ in range(2):  # a second time changes nothing
            done = subprocess.run(
                command,
                env=child_environment(**given),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        topics = AdminClient(kafka.client("plant", VALUES["KAFKA_PASSWORD"])).list_topics(timeout=10).topics
        assert {"sensor-readings", "models", "audit"} <= set(topics)
        assert len(topics["sensor-readings"].partitions) == 6
        with pytest.raises(KafkaException):
            AdminClient(kafka.client("plant", "wrong")).list_topics(timeout=2)
        assert asyncio.run(assignments(nats)) == {
            machine: (edge.site, edge.edge) for edge in DEMO_EDGES for machine in edge.machines
        }


class PlantRedis(Redis):
    """By the compose file's own command line."""

    def command(self) -> Sequence[str]:
        [script] = SERVICES["redis"]["command"]
        text = script.replace("$$", "$").replace("/etc/redis/redis.conf", str(self.folder / "redis.conf"))
        return [
            "/usr/bin/env",
            f"REDIS_PASSWORD={VALUES['REDIS_PASSWORD']}",
            *SERVICES["redis"]["entrypoint"],
            text,
        ]

    def prepare(self) -> None:
        text = (ROOT / "deploy/redis/redis.conf").read_text()
        text = text.replace("bind 0.0.0.0", f"bind 127.0.0.1\nport {self.port}").replace(
            "dir /data", f"dir {self.folder}"
        )
        (self.folder / "redis.conf").write_text(text)

    def cli(self, *words: str, password: str = "") -> str:
        program = find("redis-cli")
        assert program is not None
        env = child_environment(**({"REDISCLI_AUTH": password} if password else {}))
        done = subprocess.run(
            [program, "-p", str(self.port), *words], env=env, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def answers(self) -> bool:
        return self.cli("ping", password=VALUES["REDIS_PASSWORD"]) == "PONG"


def test_redis_asks_for_its_password_and_is_bounded(tmp_path: Path) -> None:
    with PlantRedis(tmp_path) as redis:
        assert "NOAUTH" in redis.cli("ping")
        bound = redis.cli("config", "get", "maxmemory", password=VALUES["REDIS_PASSWORD"])
        assert bound.split() == ["maxmemory", str(128 << 20)]


# The image, as its Dockerfile builds it


def test_the_edge_image_is_what_its_dockerfile_says_when_built_natively(tmp_path: Path) -> None:
    """The RUN lines of the build stage, in a copy of what the build context lets through."""
    let = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    context = tmp_path / "src"
    for name in let:
        source, target = ROOT / name, context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    text = (ROOT / "deploy/Dockerfile").read_text().split("\nFROM ")[1].replace("\\\n", " ")
    steps = re.findall(r"^RUN (.*)$", text, re.MULTILINE)
    for step in steps:
        here = step.replace("/opt/", f"{tmp_path}/opt/").replace(
            "python -m", f"{sys.base_prefix}/bin/python3 -m"
        )
        run(["/bin/sh", "-ec", here], cwd=context, environment={"EXTRA": "edge"})
    python = tmp_path / "opt/industrialmind/bin/python"
    script = "import edge.agent, firmware_sim.app, industrialmind.cli, sys; print(sorted({'torch', 'fastapi', 'pyarrow', 'pip'} & sys.modules.keys()))"
    assert run([str(python), "-c", script], cwd=tmp_path).strip() == "[]"
    said = subprocess.run(
        [tmp_path / "opt/industrialmind/bin/industrialmind", "edge", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, "edge" in said.stderr) == (2, True), said.stderr
    assert not (tmp_path / "opt/industrialmind/bin/pip").exists()
