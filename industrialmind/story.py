"""What `up` does once the plant is live: wait for history, fit and deliver the first models, inject a fault."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from industrialmind.children import Processes
from industrialmind.client import Client
from industrialmind.login import is_open, login_link
from industrialmind.plant import Machine
from industrialmind.trainer_jobs import TrainerJobs
from shared.clock import Clock
from shared.errors import NotFound, Unavailable
from shared.service import wait_or_stop
from shared.supervise import Supervisor

log = structlog.get_logger()

POLL_SECONDS: Final = 0.25
NO_MORE_SECONDS: Final = 60.0
FAULT: Final[Mapping[str, Any]] = {
    "machine": "pump-01",
    "fault": "cavitation",
    "severity": 8,
    "ramp_s": 20,
    "duration_s": 900,
}

Say = Callable[[str], None]


class SimulatorLines:
    """The simulator's own word on what it did, a JSON line each; `wait` returns the first of a kind."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, Any]] = {}
        self._changed = asyncio.Event()

    def on_line(self, line: str) -> None:
        """Take one line of its standard output; anything else than an event is ignored."""
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            return
        if isinstance(event, dict) and "event" in event:
            self._seen[event["event"]] = event
            self._changed.set()

    async def wait(self, kind: str, stop: asyncio.Event) -> dict[str, Any] | None:
        """The event of this kind, or None if `stop` came first."""
        while kind not in self._seen:
            if await wait_or_stop(stop, POLL_SECONDS):
                return None
        return self._seen[kind]


@dataclass(frozen=True)
class Story:
    """The steps after the start. Each returns False if `stop` came first."""

    client: Client
    supervisor: Supervisor
    processes: Processes
    machines: Sequence[Machine]
    clock: Clock
    stop: asyncio.Event
    say: Say
    began: float
    """When the user gave the command, on `clock`'s monotonic time."""
    room: str
    """Address of the control room."""
    jobs: TrainerJobs

    def waited(self) -> float:
        """Seconds since the command was given."""
        return self.clock.monotonic() - self.began

    async def machine_states(self) -> list[dict[str, Any]]:
        """The API's view of this run's machines; empty while it does not answer."""
        try:
            found = await asyncio.to_thread(self.client.get, "/v1/machines")
        except Unavailable:
            return []
        ours = {machine.id for machine in self.machines}
        return [machine for machine in found["machines"] if machine["machine"] in ours]

    async def until(self, holds: Callable[[list[dict[str, Any]]], bool]) -> bool:
        """Wait until `holds` of all machines' states."""
        while not self.stop.is_set():
            states = await self.machine_states()
            if len(states) == len(self.machines) and holds(states):
                return True
            await wait_or_stop(self.stop, POLL_SECONDS)
        return False

    async def listening(self) -> bool:
        """Wait until every edge hears its devices: what a device sends before is acknowledged by no edge."""
        return await self.until(lambda states: all(s["listening"] for s in states))

    async def way_in(self) -> str | None:
        """Wait for the control room, and say and return the link into it; None if `stop` came first."""
        while not self.stop.is_set():
            try:
                if await asyncio.to_thread(is_open, self.room):
                    link = await asyncio.to_thread(login_link, self.client, self.room)
                    self.say(f"control room, {self.waited():.1f} s after the command: {link}")
                    self.say(
                        "the link works once, within 10 minutes; industrialmind login-link makes another"
                    )
                    return link
            except Unavailable:
                pass  # the data API is between two lives
            await wait_or_stop(self.stop, POLL_SECONDS)
        return None

    async def live(self) -> bool:
        """Wait for readings of every machine."""
        return await self.until(lambda states: all(s["last"] and s["state"] != "stale" for s in states))

    async def counted(self, readings: int) -> bool:
        """Wait until the store has at least so many readings of this run's machines, or takes no more.

        What devices sent may still be with their broker, which no edge and no ledger can see.
        """
        best, since = -1, self.clock.monotonic()
        while not self.stop.is_set():
            found = await self._readings()
            if found >= readings:
                return True
            if found > best:
                best, since = found, self.clock.monotonic()
            elif self.clock.monotonic() - since > NO_MORE_SECONDS:
                self.say(
                    f"{found} of {readings} readings reached the store; the dead letters tell of the others"
                )
                return True
            await wait_or_stop(self.stop, POLL_SECONDS)
        return False

    async def _readings(self) -> int:
        """Readings of this run's machines in the store."""
        found = 0
        for machine in self.machines:
            with contextlib.suppress(NotFound, Unavailable):
                found += (await asyncio.to_thread(self.client.get, f"/v1/machines/{machine.id}"))["readings"]
        return found

    async def stored(self) -> bool:
        """Wait until every row that the edges hold now is in the store."""
        wanted: dict[tuple[str, str], int] | None = None
        while not self.stop.is_set():
            try:
                report = await asyncio.to_thread(self.client.get, "/v1/ledger")
            except Unavailable:
                await wait_or_stop(self.stop, POLL_SECONDS)
                continue
            rows = {(s["edge"], s["epoch"]): s for s in report["sources"] if s["produced"] is not None}
            if wanted is None:
                edges = {edge for edge, _ in rows}
                if edges >= {machine.edge for machine in self.machines}:
                    wanted = {key: s["produced"] + s["waiting"] for key, s in rows.items()}
            elif all(
                rows[key]["stored"] + rows[key]["rejected"] >= n for key, n in wanted.items() if key in rows
            ):
                return True
            await wait_or_stop(self.stop, POLL_SECONDS)
        return False

    async def train(self, *, missing: bool) -> bool:
        """Train this run's machines, with `missing` only those without a promoted model. False if it failed."""
        return await self.jobs.train([machine.id for machine in self.machines], missing=missing)

    async def models_active(self) -> bool:
        """Wait until every machine runs a model."""
        return await self.until(lambda states: all(s["model"] for s in states))

    async def anomaly(self, machine: str) -> bool:
        """Wait until `machine` is anomalous and say what leads."""
        seen = await self.until(
            lambda states: any(s["machine"] == machine and s["state"] == "anomalous" for s in states)
        )
        if not seen:
            return False
        for state in await self.machine_states():
            if state["machine"] == machine and state["leading"]:
                first = state["leading"][0]
                self.say(
                    f"{machine} is anomalous: {first['sensor']} leads with {first['share']:.0%}, "
                    f"seen {first['seen']:.4g} {first['unit']}, expected {first['expected']:.4g}"
                )
        return True


async def tell_demo(
    story: Story, lines: SimulatorLines, *, history: Path | None, fault_after: float | None
) -> None:
    """Live, history, first models, and a fault `fault_after` seconds later (None: no fault).

    `history` is the file to make once the history is stored; None: there is none to wait for.
    """
    if not await story.live():
        return
    story.say(f"live: {len(story.machines)} machines, {story.waited():.1f} s after the command")
    if history is not None:
        story.say("backfilling simulated history through the real path ...")
        done = await lines.wait("backfilled", story.stop)
        if done is None or not (await story.counted(done["rows"]) and await story.stored()):
            return
        history.touch()  # noqa: ASYNC240 - one empty file
        story.say(f"history stored: {done['rows']} readings, {story.waited():.0f} s")
    if not await ensure_models(story):
        return
    story.say(f"models active on {len(story.machines)} edges, {story.waited():.0f} s")
    if fault_after is not None:
        await tell_fault(story, lines, fault_after)


async def ensure_models(story: Story) -> bool:
    """Train where a machine has no model yet, and wait until all run one."""
    if any(not state["model"] for state in await story.machine_states()):
        story.say("fitting the first models (provisional until more has been seen) ...")
        if not await story.train(missing=True):
            return False
    return await story.models_active()


async def tell_fault(story: Story, lines: SimulatorLines, after: float) -> None:
    """Inject the demonstration's fault and say when it is found."""
    story.say(f"a fault follows in {after:.0f} s: watch it with industrialmind status --watch")
    if await wait_or_stop(story.stop, after):
        return
    story.supervisor.send("sim", orjson.dumps(FAULT).decode())
    told = await lines.wait("fault", story.stop)
    if told is None:
        return
    story.say(
        f"fault injected: {FAULT['fault']} on {FAULT['machine']}; it shows in {', '.join(told['sensors'])}"
    )
    await story.anomaly(str(FAULT["machine"]))


async def tell_replay(story: Story, lines: SimulatorLines) -> None:
    """First part, model from it, the rest under the model."""
    sent = await lines.wait("fit-part-sent", story.stop)
    if sent is None or not (await story.counted(sent["readings"]) and await story.stored()):
        return
    story.say(f"first part stored: {sent['rows']} rows; fitting a model on it ...")
    if not await story.train(missing=False) or not await story.models_active():
        return
    story.say(f"model active, {story.waited():.0f} s; replaying the rest")
    story.supervisor.send("sim", orjson.dumps({"continue": True}).decode())
    done = await lines.wait("replayed", story.stop)
    if done is None:
        return
    total = sent["readings"] + done["readings"]
    if await story.counted(total) and await story.stored():
        story.say(f"replayed: {sent['rows'] + done['rows']} rows with {total} readings are in the store")
