"""Each stage stopped for a minute under load: which buffer grows, its cap, what health says, how long recovery takes.

`pytest tests/faults/test_backpressure.py -m nightly --write-docs` writes the table of docs/reference/backpressure.md.
"""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.backbone import READY_S, Backbone
from tests.faults.buffers import Buffers, Fill
from tests.faults.rounds import MINUTES
from tests.faults.stages import STAGES, Stage
from tests.faults.wiring import Shape

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "backpressure.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
HEAD = ("stopped for 60 s", "what grew", "its cap", "what health says", "recovery", "rows lost")
STOPPED_S = 60.0
SETTLED = Fill(devices=60, devices_broker=80, outboxes=400, broker=120, gateway=120, log=60)
"""What may wait anywhere while all is well under this load."""
WORDS = {
    "devices": "messages at devices",
    "devices_broker": "messages at the devices' broker",
    "outboxes": "rows in outboxes",
    "broker": "messages at the uplink's broker",
    "gateway": "messages in the gateway",
    "log": "records in the log and not in the store",
}


@dataclass
class Found:
    """One row of the table."""

    stage: Stage
    grew: dict[str, float]
    health: list[str]
    recovery_s: float

    def row(self, lost: int) -> tuple[str, ...]:
        """Its cells."""
        grew = "; ".join(f"{WORDS[name]}: {count:,.0f}" for name, count in self.grew.items()) or "nothing"
        health = "; ".join(self.health) or "all ready"
        return self.stage.name, grew, self.stage.cap, health, f"{self.recovery_s:.0f} s", str(lost)


def table(rows: list[tuple[str, ...]]) -> str:
    """The rows in Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def documented() -> list[tuple[str, ...]]:
    """The page's rows."""
    inside = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    return [tuple(line.strip("| ").split(" | ")) for line in inside.splitlines()[2:]]


def test_the_page_names_the_stages_and_their_caps() -> None:
    assert [(row[0], row[2], row[5]) for row in documented()] == [
        (stage.name, stage.cap, "0") for stage in STAGES
    ]


@pytest.mark.nightly
@pytest.mark.timeout(60 * MINUTES)
def test_each_stage_stopped_for_a_minute(tmp_path: Path, seed: int, request: pytest.FixtureRequest) -> None:
    with Backbone(tmp_path, seed, Shape(proxied=True, api=True)) as plant:
        buffers = Buffers(plant)
        plant.flow(300)
        found = [stopped(plant, buffers, stage) for stage in STAGES]
        plant.drain()
        verdict = plant.judge()
    for one in found:
        if one.stage.grows:
            assert one.grew.keys() & set(one.stage.grows), f"{one.stage.name}: {one.grew}"
    verdict.assert_clean()
    written = table([one.row(0) for one in found])  # none of all is lost, so none of any
    if request.config.getoption("--write-docs"):
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + written + END + rest.partition(END)[2])


def stopped(plant: Backbone, buffers: Buffers, stage: Stage) -> Found:
    """Stop it for a minute and let it recover."""
    plant.until(lambda: settled(buffers.look()), READY_S, f"settled before {stage.name}")
    before = buffers.look()
    marks = {name: len(part.said(None)) for name, part in plant.parts.items()}
    undo = stage.stop(plant)
    most, until = before.copy(), time.monotonic() + STOPPED_S
    while time.monotonic() < until:
        plant.run_for(0.5)
        most.most(buffers.look())
    health = [told(plant, name, marks[name]) for name in plant.parts if not plant.is_ready(name)]
    undo()
    begun = time.monotonic()
    plant.until_ready()
    plant.until(lambda: recovered(buffers, stage, most, before), 3 * READY_S, f"{stage.name} recovered")
    took = time.monotonic() - begun
    slack = SETTLED.grew(Fill())
    grew = {name: count for name, count in most.grew(before).items() if count > slack[name]}
    one = Found(stage, grew, health, took)
    plant.say(" | ".join(one.row(0)))
    return one


def settled(now: Fill) -> bool:
    """Whether nothing waits beyond what always does."""
    return all(excess <= 0 for excess in now.grew(SETTLED).values())


def recovered(buffers: Buffers, stage: Stage, most: Fill, before: Fill) -> bool:
    """Whether all that grew has gone again. A buffer whose keeper stood still can only be seen now."""
    now = buffers.look()
    for name in stage.grows:
        setattr(most, name, max(getattr(most, name), getattr(now, name)))
    slack = SETTLED.grew(Fill())
    return all(excess <= slack[name] for name, excess in now.grew(before).items())


def told(plant: Backbone, name: str, mark: int) -> str:
    """What a part that is not ready says of itself."""
    status, _ = plant.parts[name].get("/readyz")
    if status == 0:
        return f"{name} does not answer"
    why = ""
    for line in plant.parts[name].said(None)[mark:].splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            why = entry.get("problem") or entry.get("why") or entry.get("reason") or why
    why = re.sub(r"127[.]0[.]0[.]1:[0-9]+", "HOST:PORT", why).replace(f"{plant.wiring.folder}/", "")
    return f"{name} is not ready: {why.replace('|', '/')[:160]}"
