"""The whole agent and the whole gateway by certificates, on real mosquitto and nats-server, renewed under traffic."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from edge.agent import run as run_edge
from edge.settings import EdgeSettings
from gateway.app import run as run_gateway
from gateway.settings import GatewaySettings
from industrialmind.pki import Pki
from industrialmind.pki_delivery import deliver_certificates
from industrialmind.servers_settings import ServersSettings
from shared.certificate import read_certificate
from shared.eventlog import open_event_log
from shared.frame_codec import decode
from shared.frames import Readings
from shared.jetstream import default_budgets, ensure_topics
from shared.names import SENSOR_READINGS
from shared.nats import open_control
from shared.paho import open_mqtt
from tests.real.tls_plant import E1, EDGES, TlsMosquitto, TlsNats, files, new_pki, now

pytestmark = pytest.mark.real

READINGS = 300
WAIT_S = 60.0


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return new_pki(tmp_path / "pki")


@pytest.fixture
def broker(pki: Pki, tmp_path: Path) -> Iterator[TlsMosquitto]:
    with TlsMosquitto(tmp_path / "mosquitto", pki) as running:
        yield running


@pytest.fixture
def server(pki: Pki, tmp_path: Path) -> Iterator[TlsNats]:
    with TlsNats(tmp_path / "nats", pki) as running:
        yield running


def paths(pki: Pki, name: str) -> dict[str, str]:
    return {key: str(path) for key, path in files(pki, name).model_dump().items()}


def on_the_box(pki: Pki, folder: Path) -> dict[str, str]:
    """The agent's own copies: what is renewed comes to it over the control plane."""
    folder.mkdir()
    for suffix in (".crt", ".key"):
        (folder / f"e1{suffix}").write_text(pki.certificate_file("e1", suffix).read_text())
    return {
        "ca": str(pki.authority_file("services")),
        "cert": str(folder / "e1.crt"),
        "key": str(folder / "e1.key"),
    }


def edge_settings(pki: Pki, broker: TlsMosquitto, server: TlsNats, folder: Path, tls: Any) -> EdgeSettings:  # noqa: ANN401
    field = broker.url_of("field")
    flags = {
        "site": "s1",
        "edge": "e1",
        "machines": ["pump"],
        "folder": str(folder),
        "nats_url": server.url,
        "report_seconds": 0.2,
        "tls": tls,
        "uplink": {"url": field, "client_id": "whatever"},
        "devices": {"url": field, "client_id": "whatever", "tls": paths(pki, "e1.devices")},
    }
    return EdgeSettings.load(flags=flags, environ={})


def gateway_settings(pki: Pki, broker: TlsMosquitto, server: TlsNats) -> GatewaySettings:
    flags = {
        "mqtt_url": broker.url_of("services"),
        "nats_url": server.url,
        "credentials": "gateway",
        "tls": paths(pki, "gateway"),
    }
    return GatewaySettings.load(flags=flags, environ={})


@asynccontextmanager
async def both(edge: EdgeSettings, gateway: GatewaySettings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    tasks = [asyncio.create_task(run_gateway(gateway, stop)), asyncio.create_task(run_edge(edge, stop))]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_every_reading_reaches_the_log_while_all_certificates_are_renewed(
    pki: Pki, broker: TlsMosquitto, server: TlsNats, tmp_path: Path
) -> None:
    admin = files(pki, "admin").open()
    budgets = default_budgets(1 << 30)
    await ensure_topics(server.url, credentials="admin", budgets=budgets, tls=admin)
    tls = on_the_box(pki, tmp_path / "box")
    first = read_certificate((tmp_path / "box" / "e1.crt").read_text()).serial
    delivery = ServersSettings.load(
        flags={
            "site": "s1",
            "edges": {"e1": ["pump"]},
            "nats_url": server.url,
            "credentials": "admin",
            "tls": paths(pki, "admin"),
        },
        environ={},
    )
    async with (
        open_control(server.url, credentials="admin", tls=admin) as control,
        open_event_log(server.url, credentials="admin", tls=admin) as log,
    ):
        await control.ensure_buckets([edge.edge for edge in EDGES], models_bytes=64 << 20)
        await control.assign(E1.site, "pump", "e1")
        edge = edge_settings(pki, broker, server, tmp_path / "agent", tls)
        async with (
            both(edge, gateway_settings(pki, broker, server)),
            open_mqtt(
                broker.url_of("field"), client_id="x", clean=False, tls=files(pki, "device.pump").open()
            ) as device,
            asyncio.timeout(WAIT_S),
        ):
            while not orjson.loads((await control.reported("e1")).get("state", b'{"listening": false}'))[
                "listening"
            ]:
                await asyncio.sleep(0.05)
            started = time.time_ns() // 1_000_000
            for number in range(READINGS):
                reading = {"ts": started + number, "value": number, "unit": "mm"}
                await device.publish("plant/s1/pump/flow", orjson.dumps(reading))
                if number == READINGS // 3:
                    pki.renew(now(), days=30, names=["e1", "e1.devices", "device.pump", "gateway", "admin"])
                    assert await deliver_certificates(pki, delivery) == ["e1"]
                if number > READINGS // 3 and device.connections < 2:
                    await asyncio.sleep(0.02)  # traffic goes on until the device too is back
            found: set[float] = set()
            while len(found) < READINGS:
                async for stored in log.read(SENSOR_READINGS):
                    _, body = decode(stored.value)
                    if isinstance(body, Readings):
                        found.update(body.value.tolist())
                await asyncio.sleep(0.1)
        assert found == set(range(READINGS))
        assert read_certificate((tmp_path / "box" / "e1.crt").read_text()).serial != first
    said = broker.said()
    # Each of them came twice: once with each certificate. Nobody was thrown out.
    for name in ("e1", "e1.devices", "device.pump"):
        assert said.count(f" as {name} (p") >= 2, name
    assert "Bad socket" not in said
