"""`industrialmind discover` as its users call it, on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from industrialmind.cli import app
from shared.errors import Unavailable
from shared.paho import open_mqtt
from shared.supervise import free_ports
from tests.servers import NatsServer
from tests.unit.front_door import logging_of_its_own

WRONG = "version: 1\nrules: [{topic: hall/m1, machine: m1, sensors: {/temp_c: {unit: bar}, /note: {unit: bar}}}]\n"


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    with logging_of_its_own():
        yield


@asynccontextmanager
async def plant(server: NatsServer) -> AsyncIterator[None]:
    """A machine that goes on speaking."""
    url = f"mqtt://127.0.0.1:{server.mqtt_port}"
    async with open_mqtt(url, client_id="plant", username="admin", password="secret") as client:

        async def speak() -> None:
            while True:
                await client.publish("hall/m1", orjson.dumps({"temp_c": 20.5, "note": "fine"}))
                await client.publish("hall/m1/\x1b[2J", b"rubbish")
                await asyncio.sleep(0.05)

        speaking = asyncio.create_task(speak())
        try:
            yield
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)


async def call(server: NatsServer, *arguments: str) -> Result:
    broker = ("--broker", f"mqtt://127.0.0.1:{server.mqtt_port}", "--username", "admin", "--seconds", "0.7")
    return await asyncio.to_thread(CliRunner().invoke, app, ["discover", *broker, *arguments])


async def test_a_proposal_is_printed_written_and_tried(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IM_DISCOVER__PASSWORD", "secret")
    out = tmp_path / "plant.yaml"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(WRONG)
    async with plant(nats_server):
        said = await call(nats_server, "--json", "--topic", "hall/#")
        assert said.exit_code == 0, said.output
        found = orjson.loads(said.stdout)
        assert found["machines"] == ["m1"]
        assert found["topics"][0]["examples"][0]["unit"] == "degC"
        written = await call(nats_server, "--out", str(out), "--topic", "hall/m1")
        assert written.exit_code == 0
        assert "m1/temp-c = 20.5 degC" in written.output
        tried = await call(nats_server, "--mapping", str(out), "--topic", "hall/m1")
        assert tried.exit_code == 0
        refused = await call(nats_server, "--mapping", str(wrong), "--topic", "hall/m1")
        assert refused.exit_code == 1
        assert "'fine\"" in refused.output or '"fine" is a text' in refused.output
        every = await call(nats_server, "--topic", "hall/#")
        assert "\x1b" not in every.output
    silent = await call(nats_server, "--topic", "nobody/here")
    assert silent.exit_code == 1
    assert "nothing was heard" in silent.output


def test_no_broker_is_unavailable() -> None:
    [port] = free_ports(1)
    result = CliRunner().invoke(app, ["discover", "--broker", f"mqtt://127.0.0.1:{port}", "--seconds", "1"])
    assert isinstance(result.exception, Unavailable)
