"""Certificates on real mosquitto and nats-server: who comes in, who does not and is logged, and renewal under traffic."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.port import Driver, open_broker
from industrialmind.pki import Pki
from shared.errors import IndustrialMindError, Misconfigured, Unavailable
from shared.eventlog import Record, open_event_log
from shared.jetstream import default_budgets, ensure_topics
from shared.nats import ControlPlane, Timeouts, open_control
from shared.paho import MqttClient, open_mqtt
from shared.tls import TlsFiles
from tests.real.tls_plant import EDGES, TlsMosquitto, TlsNats, files, new_pki, now
from tests.servers import NatsServer

pytestmark = pytest.mark.real

QUICK = Timeouts(connect=1, request=1.5, produce=1.5)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return new_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def broker(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsMosquitto]:
    with TlsMosquitto(tmp_path_factory.mktemp("mosquitto"), pki) as running:
        yield running


@pytest.fixture(scope="module")
def server(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsNats]:
    with TlsNats(tmp_path_factory.mktemp("nats"), pki) as running:
        asyncio.run(_prepare(running, pki))
        yield running


async def _prepare(server: TlsNats, pki: Pki) -> None:
    async with open_control(server.url, credentials="admin", tls=files(pki, "admin").open()) as control:
        await control.ensure_buckets([edge.edge for edge in EDGES], models_bytes=64 << 20)
        await control.desire("e1", "pump", b"one")
        await control.desire("e2", "fan", b"two")


@asynccontextmanager
async def client(
    broker: TlsMosquitto, shown: TlsFiles, name: str = "", *, door: str = "field", clean: bool = True
) -> AsyncIterator[MqttClient]:
    url = broker.url_of("field" if door == "field" else "services")
    async with open_mqtt(url, client_id=name or "x", clean=clean, tls=shown.open()) as opened:
        yield opened


async def refused(broker: TlsMosquitto, shown: TlsFiles, door: str = "field") -> str:
    """Why the broker does not take us."""
    async with client(broker, shown, door=door) as opened:
        async with asyncio.timeout(10):
            while not opened.last_error:
                assert not opened.connected.is_set(), "it was taken"
                await asyncio.sleep(0.02)
        assert not opened.connections
        return opened.last_error


async def logged(said: Callable[[], str], *words: str) -> None:
    async with asyncio.timeout(10):
        while not all(word in said() for word in words):
            await asyncio.sleep(0.05)


def foreign(pki: Pki, folder: Path) -> TlsFiles:
    """A certificate of the right name by an authority of somebody else's; we trust the right server all the same."""
    other = new_pki(folder)
    return files(other, "e1").model_copy(update={"ca": pki.authority_file("services")})


def expired(pki: Pki) -> TlsFiles:
    pki.issue("e1.old", "field", now() - timedelta(days=10), days=5)
    return files(pki, "e1.old")


async def test_mosquitto_takes_no_certificate_but_ours_and_logs_who_came(
    pki: Pki, broker: TlsMosquitto, tmp_path: Path
) -> None:
    assert "certificate" in await refused(broker, files(pki, None))
    assert "certificate" in await refused(broker, foreign(pki, tmp_path / "foreign"))
    assert "certificate" in await refused(broker, expired(pki))
    # A certificate of the field opens the field's door alone, and one of a service the services'.
    assert "certificate" in await refused(broker, files(pki, "e1"), door="services")
    assert "certificate" in await refused(broker, files(pki, "gateway"), door="field")
    await logged(broker.said, "peer did not return a certificate", "certificate verify failed")
    async with client(broker, files(pki, "e1")) as opened, asyncio.timeout(10):
        await opened.connected.wait()
    wrong = TlsFiles(ca=pki.authority_file("field"), cert=files(pki, "e1").cert, key=files(pki, "e1").key)
    assert "verify failed" in await refused(broker, wrong)  # a server that is not ours gets nothing from us


async def test_an_edge_is_bound_to_its_topics_and_its_client_id(pki: Pki, broker: TlsMosquitto) -> None:
    async with asyncio.timeout(20):
        async with (
            client(broker, files(pki, "gateway"), "gw", door="services") as gateway,
            client(broker, files(pki, "e2"), "e2") as second,
            client(broker, files(pki, "e1"), "e2") as first,  # says that it is e2
        ):
            await gateway.subscribe("im/v1/+/+/frames")
            await first.connected.wait()
            await second.connected.wait()
            await first.subscribe("im/v1/s1/+/acks")  # mosquitto grants it, and delivers what may be read
            await first.publish("im/v1/s1/e2/frames", b"forged")
            await first.publish("im/v1/s1/e1/frames", b"own")
            (got,) = await gateway.receive(10)
            assert (got.topic, got.payload) == ("im/v1/s1/e1/frames", b"own")
            # The session of e2 was not taken: both are connected, and it gets what is its own.
            await second.subscribe("im/v1/s1/e2/acks")
            await gateway.publish("im/v1/s1/e2/acks", b"ack", qos=1)
            assert (await second.receive(1))[0].payload == b"ack"
            await gateway.publish("im/v1/s1/e1/acks", b"mine", qos=1)
            assert [one.payload for one in await first.receive(10)] == [b"mine"]
            assert second.connections == 1
    await logged(
        broker.said,
        "as e1 (p2",
        "as e2 (p2",
        "Bad socket read/write on client e1",
        "Denied PUBLISH from e1 (d0, q1, r0, m2, 'im/v1/s1/e2/frames'",
    )


async def test_what_is_revoked_comes_in_no_more(pki: Pki, broker: TlsMosquitto) -> None:
    pki.issue("e1.devices", "field", now())
    async with client(broker, files(pki, "e1.devices")) as opened, asyncio.timeout(10):
        await opened.connected.wait()
    pki.revoke("e1.devices", now())
    broker.reload()
    await asyncio.to_thread(_settle, broker)
    assert "certificate" in await refused(broker, files(pki, "e1.devices"))
    await logged(broker.said, "certificate verify failed")
    pki.issue("e1.devices", "field", now())
    async with client(broker, files(pki, "e1.devices")) as opened, asyncio.timeout(10):
        await opened.connected.wait()


def _settle(broker: TlsMosquitto) -> None:
    """mosquitto handles a signal at the next turn of its loop; it answers a TLS hello after that."""
    deadline = time.monotonic() + 5
    while "Reloading config" not in broker.said() and time.monotonic() < deadline:
        time.sleep(0.02)


async def nats_refuses(server: TlsNats, shown: TlsFiles, user: str = "e1") -> str:
    with pytest.raises(IndustrialMindError) as caught:
        async with open_control(server.url, credentials=user, timeouts=QUICK, tls=shown.open()):
            pass
    return str(caught.value)


async def test_nats_takes_no_certificate_but_ours_and_logs_who_came(
    pki: Pki, server: TlsNats, tmp_path: Path
) -> None:
    await nats_refuses(server, files(pki, None))
    await nats_refuses(server, foreign(pki, tmp_path / "foreign"))
    await nats_refuses(server, expired(pki))
    await logged(
        server.said,
        "client didn't provide a certificate",
        "certificate signed by unknown authority",
        "certificate has expired",
    )
    # One that is ours, of a name that is no user here.
    pki.issue("nobody", "field", now())
    await nats_refuses(server, files(pki, "nobody"))
    async with open_control(
        server.url, credentials="e1", timeouts=QUICK, tls=files(pki, "e1").open()
    ) as plane:
        assert await plane.desired("e1") == {"pump": b"one"}
        await plane.report("e1", "state", b"{}")
        for another in (plane.desired("e2"), plane.report("e2", "state", b"{}")):
            with pytest.raises(IndustrialMindError, match="may not publish"):
                await another
    await logged(server.said, "Publish Violation", "KV_desired-e2")


async def test_nats_lets_go_of_who_is_revoked_at_once(pki: Pki, server: TlsNats) -> None:
    stolen = files(pki, "e2").open()
    async with open_control(server.url, credentials="e2", timeouts=QUICK, tls=stolen) as plane:
        assert await plane.desired("e2") == {"fan": b"two"}
        pki.revoke("e2", now())
        server.reload()
        async with asyncio.timeout(10):
            while True:
                try:
                    await plane.desired("e2")
                except (Unavailable, Misconfigured):
                    break
                await asyncio.sleep(0.05)
    await nats_refuses(server, files(pki, "e2"), "e2")
    await logged(server.said, "authentication error")
    pki.issue("e2", "field", now())
    server.reload()
    async with open_control(
        server.url, credentials="e2", timeouts=QUICK, tls=files(pki, "e2").open()
    ) as plane:
        assert await plane.desired("e2") == {"fan": b"two"}


async def test_tls_is_not_left_out_because_a_server_says_so(pki: Pki, tmp_path: Path) -> None:
    with NatsServer(tmp_path / "plain") as plain:
        url = plain.url.replace("nats://", "tls://")
        with pytest.raises(Unavailable, match="offers no TLS"):
            async with open_control(
                url, credentials=plain.credentials, timeouts=QUICK, tls=files(pki, "e1").open()
            ):
                pass


@pytest.mark.parametrize("driver", ["lean", "paho"])
async def test_renewal_under_traffic_loses_nothing(
    pki: Pki, broker: TlsMosquitto, server: TlsNats, driver: Driver
) -> None:
    """Readings go on while the device's, the gateway's and an edge's certificates are replaced."""
    count, seen = 400, set[bytes]()
    pki.issue("device.pump", "field", now())
    pki.issue("gateway", "services", now())
    async with (
        client(broker, files(pki, "device.pump"), clean=False) as device,
        open_broker(
            broker.url_of("services"),
            client_id=f"gateway-{driver}",
            driver=driver,
            tls=files(pki, "gateway").open(),
        ) as gateway,
        open_control(server.url, credentials="e1", timeouts=QUICK, tls=files(pki, "e1").open()) as plane,
        asyncio.timeout(60),
    ):
        await gateway.subscribe("plant/+/+/+")

        async def take() -> None:
            while len(seen) < count:
                arrivals = await gateway.receive(100)
                seen.update(arrivals.payloads)
                gateway.ack(arrivals)

        async def give() -> None:
            for number in range(count):
                await device.publish("plant/s1/pump/flow", b"%s %d" % (driver.encode(), number))
                await _reported(plane, number)
                if number == count // 4:
                    pki.renew(now(), names=["device.pump", "gateway", "e1"])
                if number > count // 4 and (device.connections < 2 or gateway.connections < 2):
                    await asyncio.sleep(0.02)  # traffic goes on until both came back with the new one

        await asyncio.gather(give(), take())
        assert device.connections == 2
        assert gateway.connections == 2
        assert device.sessions_lost == gateway.sessions_lost == 0
    assert len(seen) == count


async def _reported(plane: ControlPlane, number: int) -> None:
    """A report; what meets the change of connections is told again, as the agent does."""
    while True:
        try:
            await plane.report("e1", "state", b"%d" % number)
        except Unavailable:
            await asyncio.sleep(0.05)
        else:
            return


async def test_the_log_is_reached_by_tls_too(pki: Pki, server: TlsNats) -> None:
    tls = files(pki, "admin").open()
    budgets = {"audit": default_budgets(server.max_file_store)["audit"]}
    await ensure_topics(server.url, credentials="admin", budgets=budgets, tls=tls)
    async with open_event_log(server.url, credentials="admin", tls=tls) as log:
        position = await log.append("audit", "k", [Record(b"x")])
        assert await log.end("audit") == position
