"""A renewed certificate comes over the control plane: the agent takes what fits its key and name and lasts longer."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge.renewal import Renewal, read_file
from industrialmind.pki import Pki
from industrialmind.pki_delivery import deliver_certificates
from industrialmind.servers_settings import ServersSettings
from shared.certificate import read_certificate
from shared.clock import SystemClock
from shared.names import CERTIFICATE_KEY
from shared.nats import ControlPlane
from shared.tls import TlsFiles
from tests.servers import NatsServer
from tests.unit.test_edge_agent import control


async def until_refused(renewal: Renewal, why: str) -> None:
    async with asyncio.timeout(20):
        while why not in renewal.refused:
            await asyncio.sleep(0.01)


async def until_newer(path: Path, than: int) -> int:
    async with asyncio.timeout(20):
        while (found := read_file(path)) is None or found.serial == than:
            await asyncio.sleep(0.01)
    return found.serial


async def test_what_fits_is_put_in_place_and_everything_else_refused(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    pki = Pki.init(tmp_path / "pki", now)
    pki.issue("e1", "field", now, days=3)
    own = tmp_path / "own"
    own.mkdir()
    for suffix in (".crt", ".key"):
        (own / f"e1{suffix}").write_text(pki.certificate_file("e1", suffix).read_text())
    first = read_certificate((own / "e1.crt").read_text()).serial
    registry = CollectorRegistry()
    files = TlsFiles(cert=own / "e1.crt", key=own / "e1.key")
    renewal = Renewal(files, SystemClock(), registry, edge="e1")
    lasts = registry.get_sample_value("im_edge_certificate_seconds")
    assert lasts == pytest.approx(3 * 86_400, abs=60)
    settings = ServersSettings.load(
        flags={
            "site": "s1",
            "edges": {"e1": ["pump"], "e3": ["fan"]},
            "nats_url": nats_server.url,
            "credentials": nats_server.credentials,
        },
        environ={},
    )

    async def offer(plane: ControlPlane, pem: str) -> None:
        await plane.desire("e1", CERTIFICATE_KEY, pem.encode())

    async with control(nats_server) as plane:
        loop = asyncio.create_task(renewal.watch(plane))
        await offer(plane, "nonsense")
        await until_refused(renewal, "no certificate in PEM")
        pki.issue("e2", "field", now)
        await offer(plane, pki.certificate_file("e2").read_text())
        await until_refused(renewal, "'e2'")
        pki.renew(now, days=2, names=["e1"])
        await offer(plane, pki.certificate_file("e1").read_text())
        await until_refused(renewal, "no later")
        pki.renew(now, days=6, names=["e1"])
        assert await deliver_certificates(pki, settings) == ["e1"]  # e3 has no certificate
        second = await until_newer(own / "e1.crt", first)
        assert renewal.refused == ""
        assert await deliver_certificates(pki, settings) == []
        pki.issue("e1", "field", now + timedelta(days=1), days=9)  # for another key, which the agent has not
        await offer(plane, pki.certificate_file("e1").read_text())
        await until_refused(renewal, "key")
        assert read_certificate((own / "e1.crt").read_text()).serial == second
        assert sorted(path.name for path in own.iterdir()) == ["e1.crt", "e1.key"]
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    TlsFiles(cert=own / "e1.crt", key=own / "e1.key").open()


async def test_an_agent_that_shows_none_takes_none(nats_server: NatsServer, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    pki = Pki.init(tmp_path / "pki", now)
    pki.issue("e1", "field", now)
    registry = CollectorRegistry()
    renewal = Renewal(TlsFiles(), SystemClock(), registry, edge="e1")
    assert registry.get_sample_value("im_edge_certificate_seconds") == float("inf")
    async with control(nats_server) as plane:
        await plane.desire("e1", CERTIFICATE_KEY, pki.certificate_file("e1").read_bytes())
        loop = asyncio.create_task(renewal.watch(plane))
        await until_refused(renewal, "shows no certificate")
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
