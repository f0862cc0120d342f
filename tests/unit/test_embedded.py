"""The embedded server's access, tried with real MQTT and NATS clients against a real server."""

import asyncio
import stat
import subprocess
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest

from industrialmind.embedded import Account, EmbeddedNats, account_of, server_binary
from industrialmind.grants import EdgeScope
from industrialmind.repairs import Repairs
from shared import names
from shared.errors import Misconfigured, NotFound, Unavailable
from shared.eventlog import Record, open_event_log
from shared.jetstream import LogOptions, ensure_topics, open_jetstream
from shared.nats import ControlPlane, Timeouts, open_control, open_link
from shared.supervise import free_ports
from tests.paho_client import Mqtt

E1 = EdgeScope("s1", "e1", ("m1", "m2"))
E2 = EdgeScope("s1", "e2", ("m3",))
REFUSED = 0x80
QUICK = Timeouts(connect=3, request=1.5, produce=1.5)


class Running:
    """The server as a child, and shortcuts to its users."""

    def __init__(self, data: Path) -> None:
        self.nats_port, self.mqtt_port = free_ports(2)
        self.data = data
        self.nats = self.plant(data, E1, E2)
        self.nats.write_config()
        self.log = data / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.nats.command(), stderr=log)

    def plant(self, data: Path, *edges: EdgeScope) -> EmbeddedNats:
        return EmbeddedNats(data, edges, nats_port=self.nats_port, mqtt_port=self.mqtt_port)

    def userinfo(self, name: str) -> str:
        return self.nats.credentials(name).userinfo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("data"))

    async def prepare() -> None:
        await running.nats.wait_ready()
        admin = running.userinfo("admin")
        await ensure_topics(running.nats.nats_url, credentials=admin)
        async with open_control(running.nats.nats_url, credentials=admin) as control:
            await control.ensure_buckets(["e1", "e2"])
            await control.assign("s1", "m1", "e1")
            await control.desire("e1", "machine.m1", b"model one")
            await control.desire("e2", "machine.m3", b"model two")
            await control.put_model("abc", b"weights")

    asyncio.run(prepare())
    yield running
    running.process.terminate()
    running.process.wait(10)


class Clients:
    """Makes MQTT clients and closes them after the test."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self.made: list[Mqtt] = []

    def __call__(self, name: str, password: str | None, session: str = "") -> Mqtt:
        self.made.append(Mqtt(self._server.mqtt_port, name, password, session))
        return self.made[-1]

    def ready(self, name: str, session: str = "") -> Mqtt:
        client = self(name, self._server.nats.credentials(name).password, session)
        assert client.connected.get(timeout=5)
        return client


@pytest.fixture
def clients(server: Running) -> Iterator[Clients]:
    made = Clients(server)
    yield made
    for client in made.made:
        client.close()


@pytest.fixture
async def e1(server: Running) -> AsyncIterator[ControlPlane]:
    async with open_control(
        server.nats.nats_url, credentials=server.userinfo("e1"), timeouts=QUICK
    ) as control:
        yield control


@pytest.mark.parametrize(("name", "password"), [("", None), ("e1", "wrong"), ("e1", None), ("nobody", "x")])
def test_mqtt_refuses_who_has_no_right_password(clients: Clients, name: str, password: str | None) -> None:
    assert not clients(name, password).connected.get(timeout=5)


@pytest.mark.parametrize("credentials", ["", "e1:wrong", "nobody:x", "e1:"])
async def test_nats_refuses_who_has_no_right_password(server: Running, credentials: str) -> None:
    with pytest.raises(Misconfigured, match="refused"):
        async with open_control(server.nats.nats_url, credentials=credentials):
            pass


async def test_devices_do_not_speak_nats(server: Running) -> None:
    with pytest.raises(Misconfigured, match="refused"):
        async with open_control(server.nats.nats_url, credentials=server.userinfo("devices")):
            pass


def test_an_edges_own_topics_work(clients: Clients) -> None:
    gateway, edge, device = clients.ready("gateway"), clients.ready("e1"), clients.ready("devices")
    for topic in (*names.UPLINK_FILTERS, *names.DEVICE_FILTERS):
        assert gateway.subscribe(topic) == 1
    for topic in ("im/v1/s1/e1/acks", "plant/s1/m1/+", "plant/s1/m2/+"):
        assert edge.subscribe(topic) == 1
    edge.publish("im/v1/s1/e1/frames", b"frame")
    assert gateway.came.get(timeout=5) == ("im/v1/s1/e1/frames", b"frame")
    edge.publish("im/v1/s1/e1/urgent", b"event")
    assert gateway.came.get(timeout=5) == ("im/v1/s1/e1/urgent", b"event")
    gateway.publish("im/v1/s1/e1/acks", b"ranges")
    assert edge.came.get(timeout=5) == ("im/v1/s1/e1/acks", b"ranges")
    device.publish("plant/s1/m2/temperature", b"{}")
    assert edge.came.get(timeout=5) == ("plant/s1/m2/temperature", b"{}")
    assert gateway.came.get(timeout=5) == ("plant/s1/m2/temperature", b"{}")


def test_an_edges_session_keeps_what_came_while_it_was_away(server: Running, clients: Clients) -> None:
    session = server.nats.credentials("e1").client_id
    edge, gateway = clients.ready("e1", session), clients.ready("gateway")
    assert edge.subscribe("im/v1/s1/e1/acks") == 1
    edge.close()
    gateway.publish("im/v1/s1/e1/acks", b"while away")
    assert clients.ready("e1", session).came.get(timeout=5) == ("im/v1/s1/e1/acks", b"while away")


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("e1", "im/v1/s1/e2/acks"),
        ("e1", "im/v1/s1/e2/frames"),
        ("e1", "im/v1/s1/e1/frames"),
        ("e1", "im/v1/+/+/acks"),
        ("e1", "plant/s1/m3/+"),
        ("e1", "plant/+/+/+"),
        ("e1", "#"),
        ("e1", "log/#"),
        ("e1", "$JS/#"),
        ("devices", "plant/s1/m1/+"),
        ("devices", "im/v1/s1/e1/acks"),
        ("gateway", "#"),
        ("gateway", "im/v1/+/+/acks"),
    ],
)
def test_foreign_subscriptions_are_refused(clients: Clients, user: str, topic: str) -> None:
    assert clients.ready(user).subscribe(topic) == REFUSED


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("e1", "im/v1/s1/e2/frames"),
        ("e1", "im/v1/s1/e2/urgent"),
        ("e1", "im/v1/s1/e1/acks"),
        ("e1", "im/v1/s2/e1/frames"),
        ("e1", "plant/s1/m1/temperature"),
        ("e1", "log/sensor-readings/m1"),
        ("e1", "$KV/desired-e1/machine.m1"),
        ("devices", "im/v1/s1/e1/frames"),
        ("devices", "plant/s2/m1/temperature"),
        ("gateway", "im/v1/s1/e1/frames"),
    ],
)
def test_foreign_publications_reach_nobody(clients: Clients, user: str, topic: str) -> None:
    """A denied QoS 1 publish gets its PUBACK all the same, so what counts is that nothing arrives."""
    watcher, client = clients.ready("admin"), clients.ready(user)
    assert watcher.subscribe("#") == 1
    client.publish(topic, b"forged")
    watcher.publish("end/of/test", b"last")
    assert watcher.came.get(timeout=5) == ("end/of/test", b"last")


async def test_an_edges_own_buckets_and_models_work(server: Running, e1: ControlPlane) -> None:
    watch = e1.watch_desired("e1")
    assert [await anext(watch), await anext(watch)] == [("machine.m1", b"model one"), None]
    async with open_control(server.nats.nats_url, credentials=server.userinfo("cloud")) as cloud:
        await cloud.desire("e1", "machine.m2", b"new")
        assert await asyncio.wait_for(anext(watch), 5) == ("machine.m2", b"new")
        await e1.report("e1", "state", b"running")
        assert await cloud.reported("e1") == {"state": b"running"}
        assert await cloud.assignments() == {"m1": ("s1", "e1")}
    assert await e1.get_model("abc") == b"weights"
    with pytest.raises(NotFound):
        await e1.get_model("none")
    await watch.aclose()  # type: ignore[attr-defined]


async def test_an_edge_reaches_nothing_else_of_the_control_plane(e1: ControlPlane) -> None:
    attempts: list[Awaitable[object]] = [
        e1.desire("e1", "machine.m1", b"forged"),
        e1.desire("e2", "machine.m3", b"forged"),
        e1.report("e2", "state", b"forged"),
        e1.reported("e2"),
        e1.reported("e1"),
        e1.assign("s1", "m3", "e1"),
        e1.assignments(),
        e1.put_model("abc", b"forged"),
        e1.ensure_buckets(["e1"]),
        anext(e1.watch_desired("e2")),
    ]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Misconfigured] * len(attempts), outcomes


async def test_an_edge_cannot_touch_the_log_nor_overhear(server: Running) -> None:
    options = LogOptions(timeouts=QUICK)
    async with open_jetstream(
        server.nats.nats_url, credentials=server.userinfo("e1"), options=options
    ) as log:
        attempts: list[Awaitable[object]] = [
            log.append(names.SENSOR_READINGS, "m1", [Record(b"forged")]),
            log.append(names.SENSOR_READINGS, "m1", [Record(b"forged")], fence={}),
            log.append(names.AUDIT, "m1", [Record(b"forged"), Record(b"forged")]),
            log.end(names.SENSOR_READINGS),
            anext(log.read(names.SENSOR_READINGS)),
        ]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Misconfigured] * len(attempts), outcomes
    subjects = (
        "log.>",
        "stored.>",
        "_INBOX_cloud.>",
        "im.v1.s1.e2.acks",
        "changed.desired-e2.>",
        ">",
        "$MQTT.>",
    )
    overheard: list[object] = []
    async with (
        open_link(server.nats.nats_url, credentials=server.userinfo("e1")) as link,
        open_control(server.nats.nats_url, credentials=server.userinfo("cloud")) as cloud,
        open_event_log(server.nats.nats_url, credentials=server.userinfo("cloud")) as log,
    ):
        for subject in subjects:
            await link.session().subscribe(subject, overheard.append)
        await link.session().flush()
        await cloud.desire("e2", "machine.m3", b"secret")
        await log.append(names.AUDIT, "a", [Record(b"secret")])
        await link.session().flush()
    assert overheard == []


async def test_the_parts_can_do_their_work(server: Running) -> None:
    url = server.nats.nats_url
    async with (
        open_event_log(url, credentials=server.userinfo("gateway")) as gateway,
        open_event_log(url, credentials=server.userinfo("ingest")) as ingest,
        open_event_log(url, credentials=server.userinfo("cli")) as cli,
        open_control(url, credentials=server.userinfo("gateway")) as assignments,
        ingest.consume([names.SENSOR_READINGS, names.SCORES], "ingest") as member,
    ):
        assert await assignments.assignments() == {"m1": ("s1", "e1")}
        end = await gateway.append(names.SENSOR_READINGS, "m1", [Record(b"1", id="a"), Record(b"2", id="b")])
        await ingest.append(names.DEAD_LETTER, "m1", [Record(b"bad")])
        async with asyncio.timeout(10):
            found: list[bytes] = []
            while len(found) < 2:
                batch = await member.fetch(10, 1.0)
                found += [record.value for record in batch.records]
                await batch.ack()
        assert found == [b"1", b"2"]
        assert await cli.end(names.SENSOR_READINGS) == end
        assert [record.value async for record in cli.read(names.SENSOR_READINGS)] == [b"1", b"2"]
        with pytest.raises(Misconfigured):
            await cli.append(names.AUDIT, "a", [Record(b"forged")])


async def test_inference_may_read_what_renewed_a_machine_and_may_not_write_it(server: Running) -> None:
    async with open_event_log(server.nats.nats_url, credentials=server.userinfo("inference")) as inference:
        assert await Repairs(inference).last_us("m1") is None
        with pytest.raises(Misconfigured):
            await inference.append(names.WORK_ORDERS, "wo-1", [Record(b"forged")])


async def test_the_brokers_own_streams_are_bounded_and_refuse_when_full(server: Running) -> None:
    async with open_link(server.nats.nats_url, credentials=server.userinfo("admin")) as link:
        session = link.session()
        listed = await session.api("STREAM.LIST")
        configs = [stream["config"] for stream in listed["streams"]]
        assert {"$MQTT_msgs", "$MQTT_sess", "log-audit", "KV_desired-e1"} <= {
            config["name"] for config in configs
        }
        assert all(config["max_bytes"] > 0 and config["discard"] == "new" for config in configs)
        assert sum(config["max_bytes"] for config in configs) <= server.nats.max_file_store


def test_secrets_are_private_and_stay_the_same(server: Running) -> None:
    before = server.nats.credentials("e1")
    again = server.plant(server.data, E1, E2)
    again.write_config()
    assert again.credentials("e1") == before
    assert before != server.nats.credentials("e2")
    assert before.userinfo not in repr(before.client_id)
    for path, mode in (
        (server.nats.config_file, 0o600),
        (server.data / "secrets" / "nats.json", 0o600),
        (server.data / "secrets", 0o700),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == mode


async def test_a_new_edge_is_let_in_by_a_reload_and_nobody_is_dropped(
    server: Running, e1: ControlPlane
) -> None:
    more = server.plant(server.data, E1, E2, EdgeScope("s1", "e3", ("m9",)))
    more.write_config()
    session = e1._link.session()
    more.reload(server.process.pid)
    async with asyncio.timeout(10):
        while True:
            try:
                async with open_link(server.nats.nats_url, credentials=more.credentials("e3").userinfo):
                    break
            except Misconfigured:
                await asyncio.sleep(0.02)
    assert await e1.get_model("abc") == b"weights"
    assert e1._link.session() is session


def test_an_edge_named_like_a_part_is_misconfigured(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="gateway"):
        EmbeddedNats(tmp_path, [EdgeScope("s1", "gateway", ())]).write_config()


def test_without_a_plant_there_is_no_account(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        account_of(tmp_path, "cloud")


def test_the_binary_is_named_or_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Path(server_binary()).is_file()
    monkeypatch.setenv("PATH", "")
    assert Path(server_binary()).is_file()  # an environment need not be activated
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(Misconfigured, match="nats-server"):
        server_binary()


async def test_waiting_for_a_server_that_never_comes_ends(tmp_path: Path) -> None:
    nats_port, mqtt_port = free_ports(2)
    nats = EmbeddedNats(tmp_path, [], nats_port=nats_port, mqtt_port=mqtt_port)
    nats.write_config()
    with pytest.raises(Unavailable):
        await nats.wait_ready(0.1)


async def test_another_plants_server_on_the_port_is_named(server: Running, tmp_path: Path) -> None:
    other = server.plant(tmp_path, E1)
    other.write_config()
    with pytest.raises(Misconfigured, match="refuses this plant's password"):
        await other.wait_ready(5)


def test_an_account_is_its_name_and_password() -> None:
    assert Account("a", "b", "c").userinfo == "a:b"
