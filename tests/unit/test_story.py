"""What `up` tells and does once the plant is live; the machines' states are a script, the processes are real."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from industrialmind import story as story_module
from industrialmind.children import Ports, Processes
from industrialmind.client import Client
from industrialmind.embedded import EmbeddedNats
from industrialmind.plant import DEMO_PLANT, DataDir
from industrialmind.story import SimulatorLines, Story, tell_demo, tell_replay
from industrialmind.trainer_job import Job
from industrialmind.trainer_jobs import TrainerJobs
from shared.clock import SystemClock
from shared.errors import NotFound, Unavailable
from shared.supervise import Child, Supervisor

MACHINE = DEMO_PLANT.machines[0]
MODEL = {"name": "m", "version": 1}
# The simulator as its supervisor sees it: what it did, and a fault on demand.
SIM = """
echo 'a line that is no event'; echo '[1]'; echo '{"event": "backfilled", "rows": 7}'
echo '{"event": "fit-part-sent", "rows": 5, "readings": 5}'
while read line; do case "$line" in
  *continue*) echo '{"event": "replayed", "rows": 9, "readings": 9}';;
  *fault*) echo '{"event": "fault", "sensors": ["flow", "pressure"]}';;
esac; done
"""


def state(**part: Any) -> dict[str, Any]:  # noqa: ANN401 - a machine's fields
    found = {
        "machine": MACHINE.id,
        "state": "normal",
        "listening": True,
        "last": [1],
        "model": MODEL,
        "leading": [],
    }
    return {**found, **part}


class Scripted(Client):
    """The data API's answers, one after the other; the last one stays."""

    def __init__(self, machines: list[Any], ledgers: list[Any]) -> None:
        super().__init__("http://127.0.0.1:1", "")
        self._answers = {"/v1/machines": machines, "/v1/ledger": ledgers}
        self.counts: list[Any] = [NotFound("nothing yet"), 3, 5, 14]

    def get(self, path: str, **_: str | float) -> Any:  # noqa: ANN401 - JSON
        if path == f"/v1/machines/{MACHINE.id}":
            count = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
            if isinstance(count, Exception):
                raise count
            return {"readings": count}
        answers = self._answers[path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"machines": answer} if path == "/v1/machines" else {"sources": answer}


@dataclass(frozen=True)
class Trained(Processes):
    """Processes whose trainer runs this shell script."""

    script: str = ""

    def trainer(self, job: Job, on_line: Callable[[str], None]) -> Child:
        del on_line
        assert list(job.machines) == [MACHINE.id]
        return Child("trainer", ("sh", "-c", self.script), self.data.logs / "t.log", restart="never")


class Told:
    """A story and what it said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        self.lines = SimulatorLines()
        self.stop = asyncio.Event()
        self.supervisor = Supervisor()

    async def start(self) -> None:
        child = Child("sim", ("sh", "-c", SIM), self.root / "sim.log", on_line=self.lines.on_line)
        await self.supervisor.start(child)

    def story(self, machines: list[Any], ledgers: list[Any] | None = None, script: str = "exit 0") -> Story:
        nats = EmbeddedNats(self.root, DEMO_PLANT.edges())
        processes = Trained(DataDir(self.root), DEMO_PLANT, nats, Ports(1, 2, 3, 4, 5), script)
        clock = SystemClock()
        client = Scripted(machines, ledgers or [[ledger(0, 0, 0)]])
        began = clock.monotonic() - 100
        jobs = TrainerJobs(self.supervisor, processes, clock, self.stop, self.say)
        return Story(
            client, self.supervisor, processes, [MACHINE], clock, self.stop, self.say, began, "", jobs
        )

    def say(self, text: str) -> None:
        self.said.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self.said)


def ledger(produced: int | None, waiting: int, stored: int, *, edge: str = MACHINE.edge) -> dict[str, Any]:
    found = {"edge": edge, "epoch": "e", "produced": produced, "waiting": waiting}
    return {**found, "stored": stored, "rejected": 1 if stored else 0}


@pytest.fixture
async def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Told]:
    monkeypatch.setattr(story_module, "POLL_SECONDS", 0.01)
    made = Told(tmp_path)
    await made.start()
    yield made
    await made.supervisor.stop(grace=2)


async def test_the_demonstration_is_told_to_its_end(told: Told) -> None:
    first = {"sensor": "flow", "share": 0.75, "seen": 1.5, "unit": "l/min", "expected": 2.25}
    machines = [
        Unavailable("not yet"),
        [],
        [state(last=[], model=None)],
        [state(state="stale", model=None)],
        [state(model=None)],
        [state(model=None)],
        [state(model=None), state(machine="another")],
        [state()],
        [state()],
        [state(state="anomalous", leading=[first])],
    ]
    ledgers = [
        Unavailable("not yet"),
        [ledger(None, 0, 0)],
        [ledger(5, 3, 4)],
        [ledger(9, 3, 6)],
        [ledger(9, 0, 7)],
    ]
    history = told.root / "stored"
    await tell_demo(told.story(machines, ledgers), told.lines, history=history, fault_after=0.0)
    assert history.exists()
    assert re.fullmatch(
        r"live: 1 machines, 10\d\.\d s after the command\n"
        r"backfilling simulated history .*\n"
        r"history stored: 7 readings, 10\d s\n"
        r"fitting the first models .*\n"
        r"models active on 1 edges, 10\d s\n"
        r"a fault follows in 0 s: .*\n"
        r"fault injected: cavitation on pump-01; it shows in flow, pressure\n"
        r"pump-01 is anomalous: flow leads with 75%, seen 1.5 l/min, expected 2.25",
        told.text,
    ), told.text


async def test_the_anomaly_is_told_with_its_leading_sensor(told: Told) -> None:
    first = {"sensor": "flow", "share": 0.75, "seen": 1.5, "unit": "l/min", "expected": 2.25}
    story = told.story([[state()], [state(state="anomalous", leading=[first])]])
    assert await story.anomaly(MACHINE.id)
    assert told.said == [f"{MACHINE.id} is anomalous: flow leads with 75%, seen 1.5 l/min, expected 2.25"]
    told.said.clear()
    assert await told.story([[state(state="anomalous")]]).anomaly(MACHINE.id)
    assert told.said == []


async def test_a_second_start_waits_for_no_history_and_trains_nothing(told: Told) -> None:
    await tell_demo(told.story([[state()]], script="exit 9"), told.lines, history=None, fault_after=None)
    assert [line.split(":")[0].split(" on ")[0] for line in told.said] == ["live", "models active"]


async def test_training_that_fails_says_where_to_look(told: Told) -> None:
    story = told.story([[state(model=None)]], script="exit 2")
    await tell_demo(story, told.lines, history=None, fault_after=0.0)
    assert "training failed with exit code 2" in told.said[-1]
    assert "trainer.log" in told.said[-1]


async def test_a_replay_is_told_to_its_end(told: Told) -> None:
    await tell_replay(told.story([[state()]], [[ledger(2, 0, 2)]]), told.lines)
    assert told.said[0] == "first part stored: 5 rows; fitting a model on it ..."
    assert re.fullmatch(r"model active, 10\d s; replaying the rest", told.said[1])
    assert told.said[2] == "replayed: 14 rows with 14 readings are in the store"


async def test_a_replay_whose_training_fails_waits_and_says_so(told: Told) -> None:
    await tell_replay(told.story([[state()]], [[ledger(2, 0, 2)]], script="exit 2"), told.lines)
    assert "training failed" in told.said[-1]


Step = Callable[[Story, SimulatorLines, Path], Any]


@pytest.mark.parametrize(
    "step",
    [
        lambda story, lines, root: tell_demo(story, lines, history=root / "h", fault_after=1.0),
        lambda story, lines, _: tell_replay(story, lines),
        lambda story, _lines, _root: story.listening(),
        lambda story, _lines, _root: story.stored(),
        lambda story, _lines, _root: story.models_active(),
        lambda story, _lines, _root: story.anomaly(MACHINE.id),
    ],
)
async def test_stop_ends_every_wait(told: Told, step: Step) -> None:
    story = told.story([[]], [[]])
    task = asyncio.create_task(step(story, SimulatorLines(), told.root))
    await asyncio.sleep(0)
    told.stop.set()
    assert not await asyncio.wait_for(task, 5)
    assert told.said == []


async def test_stop_before_the_fault_injects_none(told: Told) -> None:
    story = told.story([[state()]])
    task = asyncio.create_task(tell_demo(story, told.lines, history=None, fault_after=60.0))
    while not told.said or "a fault follows" not in told.said[-1]:
        await asyncio.sleep(0.01)
    told.stop.set()
    await asyncio.wait_for(task, 5)
    assert "fault injected" not in told.text


async def test_stop_after_the_fault_waits_for_no_answer(told: Told) -> None:
    await told.supervisor.stop_one("sim", grace=2)
    await told.supervisor.start(Child("sim", ("sh", "-c", "exec cat > /dev/null"), told.root / "deaf.log"))
    story = told.story([[state()]])
    task = asyncio.create_task(tell_demo(story, SimulatorLines(), history=None, fault_after=0.0))
    while not told.said or "a fault follows" not in told.said[-1]:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.02)
    told.stop.set()
    await asyncio.wait_for(task, 5)
    assert "fault injected" not in told.text


async def test_stop_while_history_is_on_its_way_marks_nothing(told: Told) -> None:
    history = told.root / "stored"
    story = told.story([[state()]], [[ledger(None, 0, 0)]])
    task = asyncio.create_task(tell_demo(story, told.lines, history=history, fault_after=None))
    while len(told.said) < 2:
        await asyncio.sleep(0.01)
    told.stop.set()
    await asyncio.wait_for(task, 5)
    assert not history.exists()


async def test_readings_that_never_come_are_named_and_waited_for_no_longer(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story_module, "NO_MORE_SECONDS", 0.05)
    assert await told.story([[state()]]).counted(20)
    assert told.said == ["14 of 20 readings reached the store; the dead letters tell of the others"]


async def test_stop_ends_the_wait_for_readings(told: Told) -> None:
    told.stop.set()
    assert not await told.story([[state()]]).counted(20)
