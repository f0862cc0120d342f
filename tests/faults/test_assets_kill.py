"""kill -9 of the assets' owner between log and tables: each confirmed change is there, once, and the tables follow."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloud.assets.fold import State
from shared.asset_events import AssetEdited
from shared.events import parse_event
from shared.names import ASSETS
from shared.settings import child_environment
from tests.servers import NatsServer
from tests.unit.assets_plant import assets_on

ROOT = Path(__file__).parents[2]
KILLS = 3

pytestmark = pytest.mark.real


def run_and_kill(server: NatsServer, path: Path, first: int, seconds: float) -> list[int]:
    """The changes that were confirmed until the owner was killed, so many seconds after the first one."""
    command = [
        sys.executable,
        "-m",
        "tests.faults.assets_writer",
        server.url,
        server.credentials,
        str(path),
        str(first),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=child_environment()
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lines.append(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
        assert child.wait() == -signal.SIGKILL
    return [int(line) for line in lines if line.endswith("\n")]


async def test_what_was_confirmed_survives_kill_9_and_is_done_once(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    path, rng = tmp_path / "app.db", random.Random(7)
    async with assets_on(nats_server, path):
        pass  # the topics, and tables that no process holds
    confirmed: list[int] = []
    for _ in range(KILLS):
        # The change that was under way is asked for again, under its key.
        confirmed += run_and_kill(nats_server, path, len(confirmed) + 1, rng.uniform(0.1, 0.4))
        assert confirmed == list(range(1, len(confirmed) + 1))
        async with assets_on(nats_server, path) as assets:
            events = [parse_event(record.value) async for record in assets.log.read(ASSETS)]
            names = [event.fields["name"] for event in events if isinstance(event, AssetEdited)]
            # One more than was confirmed may be in the log: the owner died before it could say so.
            assert len(names) - len(confirmed) in {0, 1}
            assert names == [f"n{number}" for number in range(1, len(names) + 1)]
            fresh = State()
            for event in events:
                fresh.take(event)
            await assets.owner.save()
            held, positions = await assets.tables.load()
            assert (held.assets, dict(held.requests)) == (fresh.assets, dict(fresh.requests))
            assert positions[ASSETS] == await assets.log.end(ASSETS)
