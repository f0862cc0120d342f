"""The inference API as a process against its own OpenAPI document, as each role by a signed token: `tests/unit/fuzz.py`."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import orjson
import pytest

from cloud.telemetry.port import Entry
from shared.access import RIGHTS, Principal, Right, Role
from shared.clock import SystemClock
from shared.eventlog import Stored
from shared.frames import Header, Kind
from shared.joserfc import Issuer, SigningKey
from shared.names import INFERENCE_API, SENSOR_READINGS
from tests.parts import Part
from tests.servers import NatsServer
from tests.unit.edge_models import START, artifact, plant, rows
from tests.unit.fuzz import Fuzz
from tests.unit.inference_parts import open_inference


class _Keys(BaseHTTPRequestHandler):
    keys = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.keys)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Service:
    url: str
    issuer: Issuer
    version_hash: str


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The process, with a champion, rows in its store, and the keys of an issuer."""
    root, issuer = tmp_path_factory.mktemp("inference"), Issuer([SigningKey.new()], SystemClock())
    _Keys.keys = orjson.dumps(issuer.key_set())
    with NatsServer(root / "nats") as nats, HTTPServer(("127.0.0.1", 0), _Keys) as keys:
        version_hash = asyncio.run(prepared(root, nats))
        threading.Thread(target=keys.serve_forever).start()
        made = {
            "token": "secret",
            "keys_url": f"http://127.0.0.1:{keys.server_port}/v1/keys",
            "telemetry_url": f"sqlite:///{root / 'telemetry.db'}",
            "nats_url": nats.url,
            "credentials": nats.credentials,
        }
        part = Part(root, "cloud run inference", "inference", made).start()
        try:
            part.wait()
            yield Service(part.url, issuer, version_hash)
        finally:
            part.stop()
            keys.shutdown()


async def prepared(root: Path, nats: NatsServer) -> str:
    async with open_inference(root, nats) as inference:
        readings = rows(plant(60, 3))
        header = Header("s1", "gateway-1", "pump", Kind.READINGS, b"e" * 16, 1, len(readings))
        await inference.store.write(
            [Entry(Stored(SENSOR_READINGS, "pump", b"", {}, "0", 1, START), header, readings)]
        )
        return (await inference.promoted(artifact())).version_hash


def fuzz_of(service: Service, role: Role, rights: frozenset[Right], examples: int) -> Fuzz:
    token = service.issuer.issue(Principal.of("eve", role), INFERENCE_API, rights).token
    real = {"machine": "pump", "version_hash": service.version_hash}
    return Fuzz(service.url, token, rights, examples, real)


@pytest.mark.parametrize("rights", [RIGHTS[Role.VIEWER], frozenset({Right.ENGINEER})])
def test_the_inference_api_keeps_to_its_document(service: Service, rights: frozenset[Right]) -> None:
    fuzz = fuzz_of(service, Role.ENGINEER, rights, 8)
    fuzz.run()
    assert not fuzz.problems, "\n\n".join(fuzz.problems)
    assert fuzz.sent > 50


@pytest.mark.nightly
@pytest.mark.parametrize("role", list(Role))
def test_the_inference_api_keeps_to_its_document_whatever_is_sent(service: Service, role: Role) -> None:
    fuzz = fuzz_of(service, role, RIGHTS[role], 60)
    fuzz.run()
    assert not fuzz.problems, "\n\n".join(fuzz.problems[:20])
