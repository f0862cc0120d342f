"""Trainer children of `up`: one at a time, tried again, and one whenever the log is ahead of MLflow."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from industrialmind import trainer_jobs
from industrialmind.children import Ports, Processes
from industrialmind.embedded import Account, EmbeddedNats
from industrialmind.plant import DEMO_PLANT, DataDir
from industrialmind.trainer_job import Job, read_reconciled, trainer_lock, trainer_works, write_reconciled
from industrialmind.trainer_jobs import TrainerJobs
from shared.clock import SystemClock
from shared.eventlog import Record, open_event_log
from shared.jetstream import default_budgets, ensure_topics
from shared.names import MODELS
from shared.supervise import Child, Supervisor
from tests.servers import NatsServer


@dataclass(frozen=True)
class Scripted(Processes):
    """Processes whose trainer runs this shell script; `jobs` are those that were asked for."""

    script: str = ""
    jobs: list[Job] = field(default_factory=list)

    def trainer(self, job: Job, on_line: Callable[[str], None]) -> Child:
        self.jobs.append(job)
        return Child(
            "trainer", ("sh", "-c", self.script), self.data.logs / "t.log", on_line=on_line, restart="never"
        )


class Bench:
    """Jobs, what they said, and what they may be stopped with."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, DataDir(root)
        self.said: list[str] = []
        self.stop = asyncio.Event()
        self.supervisor = Supervisor()

    def jobs(self, script: str, nats: EmbeddedNats | None = None) -> tuple[TrainerJobs, list[Job]]:
        nats = nats or EmbeddedNats(self.root, DEMO_PLANT.edges())
        processes = Scripted(self.data, DEMO_PLANT, nats, Ports(1, 2, 3, 4, 5), script)
        made = TrainerJobs(self.supervisor, processes, SystemClock(), self.stop, self.said.append)
        return made, processes.jobs


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    for name in ("RETRY_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(trainer_jobs, name, 0.01)
    monkeypatch.setattr(trainer_jobs, "BEHIND_SECONDS", 0.05)
    made = Bench(tmp_path)
    yield made
    await made.supervisor.stop(grace=2)


def once(flag: Path, then: str) -> str:
    """A script that does `then` the first time, and ends well the second."""
    return f"test -e '{flag}' || {{ touch '{flag}'; {then}; }}"


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("exit 3", "training found the server away and starts again ..."),
        ("kill -9 $$", "training was killed and starts again ..."),
    ],
)
async def test_training_that_was_cut_off_is_tried_again(bench: Bench, end: str, said: str) -> None:
    jobs, asked = bench.jobs(once(bench.root / "tried", end))
    assert await jobs.train(["pump-01"], missing=True)
    assert bench.said == [said]
    assert asked == [Job(["pump-01"], missing=True)] * 2


async def test_a_trainer_that_dies_each_time_is_given_up(bench: Bench) -> None:
    jobs, asked = bench.jobs("kill -9 $$")
    assert not await jobs.train([], missing=False)
    assert len(asked) == trainer_jobs.DEATHS + 1
    assert "training failed with exit code -9" in bench.said[-1]


async def test_training_that_fails_says_where_to_look(bench: Bench) -> None:
    jobs, _ = bench.jobs("exit 2")
    assert not await jobs.train([], missing=False)
    assert "training failed with exit code 2" in bench.said[-1]
    assert "trainer.log" in bench.said[-1]


async def test_training_that_takes_too_long_is_ended_and_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_jobs, "TRAINER_SECONDS", 0.3)
    jobs, _ = bench.jobs(once(bench.root / "tried", "exec sleep 60"))
    assert await jobs.train([], missing=False)
    assert "training took longer" in bench.said[0]


async def test_stop_ends_the_wait_for_training(bench: Bench) -> None:
    jobs, _ = bench.jobs("exec sleep 60")
    task = asyncio.create_task(jobs.train([], missing=False))
    while bench.supervisor.pid("trainer") is None:
        await asyncio.sleep(0.01)
    bench.stop.set()
    assert not await asyncio.wait_for(task, 5)
    assert bench.said == []
    assert not await jobs.train([], missing=False)


async def test_what_came_of_a_step_is_said(bench: Bench) -> None:
    lines = [
        '{"event": "step", "machine": "m", "step": "fit", "method": ""}',
        '{"event": "refused", "machine": "m", "reason": "too few rows"}',
        "no event",
        "[1]",
    ]
    jobs, _ = bench.jobs("; ".join(f"echo '{line}'" for line in lines))
    assert await jobs.train([], missing=False)
    assert bench.said == ["m: no model: too few rows"]


async def test_a_log_that_is_ahead_starts_a_trainer_that_reconciles(
    bench: Bench, nats_server: NatsServer
) -> None:
    """None is started while the log is empty, while another trainer works, nor once its end is noted."""
    url, credentials = nats_server.url, nats_server.credentials
    await ensure_topics(url, credentials=credentials, budgets=default_budgets(nats_server.max_file_store))
    nats = AsAdmin(bench.root, DEMO_PLANT.edges(), nats_port=nats_server.port)
    note = bench.data.reconciled
    note.parent.mkdir(parents=True)
    written = '{"position":{"0":1}}'
    jobs, asked = bench.jobs(once(bench.root / "tried", "exit 1") + f" && echo '{written}' > '{note}'", nats)
    running = asyncio.create_task(jobs.run())
    async with open_event_log(url, credentials=credentials) as log:
        async with trainer_lock(bench.data, lambda: None):
            assert trainer_works(bench.data)
            await log.append(MODELS, "pump-01", [Record(b"{}")])
            await asyncio.sleep(0.2)
            assert asked == []
        async with asyncio.timeout(20):
            while read_reconciled(bench.data) != {"0": 1}:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
    assert asked[0] == Job(reconcile=True)
    told = len(asked)
    nats_server.kill()  # away: nothing is known, nothing is started
    await asyncio.sleep(0.1)
    bench.stop.set()
    await asyncio.wait_for(running, 10)
    assert len(asked) == told


async def test_what_is_due_for_training_is_looked_at_now_and_then(
    bench: Bench, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_jobs, "DUE_SECONDS", 0.05)
    url, credentials = nats_server.url, nats_server.credentials
    await ensure_topics(url, credentials=credentials, budgets=default_budgets(nats_server.max_file_store))
    write_reconciled(bench.data, {})
    nats = AsAdmin(bench.root, DEMO_PLANT.edges(), nats_port=nats_server.port)
    jobs, asked = bench.jobs("exit 2", nats)  # nothing that can be trained is no reason to stop looking
    running = asyncio.create_task(jobs.run())
    async with asyncio.timeout(20):
        while len(asked) < 2:
            await asyncio.sleep(0.02)
    bench.stop.set()
    await asyncio.wait_for(running, 10)
    assert set(asked) == {Job(due=True)}


class AsAdmin(EmbeddedNats):
    """The test server knows one account."""

    def credentials(self, name: str) -> Account:
        return Account("admin", "secret", name)


async def test_a_trainer_that_died_at_work_is_followed_by_one_that_reconciles(
    bench: Bench, nats_server: NatsServer
) -> None:
    """Though it left the log as it was: its run in MLflow is still open."""
    url, credentials = nats_server.url, nats_server.credentials
    await ensure_topics(url, credentials=credentials, budgets=default_budgets(nats_server.max_file_store))
    write_reconciled(bench.data, None)
    nats = AsAdmin(bench.root, DEMO_PLANT.edges(), nats_port=nats_server.port)
    jobs, asked = bench.jobs(f"""echo '{{"position":{{}}}}' > '{bench.data.reconciled}'""", nats)
    running = asyncio.create_task(jobs.run())
    async with asyncio.timeout(20):
        while read_reconciled(bench.data) is None:
            await asyncio.sleep(0.02)
    bench.stop.set()
    await asyncio.wait_for(running, 10)
    assert asked[0] == Job(reconcile=True)


async def test_one_trainer_waits_for_another(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    waited: list[str] = []
    async with trainer_lock(data, lambda: waited.append("first")):
        second = asyncio.create_task(_hold(data, waited))
        while not waited:
            await asyncio.sleep(0.01)
    await asyncio.wait_for(second, 5)
    assert waited == ["second"]
    assert not trainer_works(data)


async def _hold(data: DataDir, waited: list[str]) -> None:
    async with trainer_lock(data, lambda: waited.append("second")):
        pass


def test_the_note_of_how_far_a_trainer_came_survives_or_is_empty(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert read_reconciled(data) == {}
    write_reconciled(data, {"0": 7})
    assert read_reconciled(data) == {"0": 7}
    write_reconciled(data, None)  # at work, and perhaps dead
    assert read_reconciled(data) is None
    data.reconciled.write_text("half writ")
    assert read_reconciled(data) is None
