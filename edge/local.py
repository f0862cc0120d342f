"""The machines' states and alarms on the devices' own broker, for whoever stands beside them; no uplink is needed.

Retained messages say what is so now, not what happened: a panel that comes late, or missed one, sees the same. State is
said with each scored window (QoS 0, said anew every half minute), alarms when they change (QoS 1). Where the broker is slower
than the windows, the states in between are left out. It runs before the commit: a full disk silences nothing here.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter

from edge.limits import URGENT_SIDES
from edge.scoring import MachineScoring
from edge.waiting import event_or_time
from shared.clock import Clock
from shared.errors import Rejected
from shared.event import at
from shared.machine_events import alarm_id, limit_rule
from shared.names import LocalTopic
from shared.paho import MqttClient
from shared.scoring import RULE

log = structlog.get_logger()

VERSION: Final = 1
RETELL_SECONDS: Final = 30.0
FAREWELL_SECONDS: Final = 1.0
Will = tuple[str, bytes, int, bool]


def presence(site: str, edge: str, clock: Clock, *, online: bool) -> Will:
    """Whether the agent is there: topic, payload, QoS and retain. `online: false` is also the connection's last will."""
    said = {"version": VERSION, "online": online, "at": _time(clock.now_us())}
    return str(LocalTopic(site, edge, "agent")), orjson.dumps(said), 1, True


class LocalBroker:
    """Publishes the machines' states and alarms. `tell` never waits; what is told is bounded by the machines."""

    def __init__(
        self,
        client: MqttClient,
        scoring: Mapping[str, MachineScoring],
        clock: Clock,
        registry: CollectorRegistry,
        *,
        site: str,
        edge: str,
    ) -> None:
        self._client, self._scoring, self._clock = client, scoring, clock
        self._site, self._edge = site, edge
        self._untold = set(scoring)
        self._filled = asyncio.Event()
        self._alarms: dict[str, list[dict[str, Any]]] = {}
        self._connection = 0
        self._moved = asyncio.Event()
        self._published = Counter(
            "im_edge_local_messages", "States and alarms said on the devices' broker", registry=registry
        )

    def tell(self, machine: str) -> None:
        """Say soon how the machine stands."""
        self._untold.add(machine)
        self._filled.set()

    def speak_through(self, client: MqttClient) -> None:
        """Publish everything anew by this connection from now on; what the other one has not confirmed is let be."""
        self._client = client
        self._moved.set()

    async def run(self) -> None:
        """Publish for ever, by the connection that it is told."""
        while True:
            self._moved.clear()
            self._connection = 0
            publishing = asyncio.ensure_future(self._publish())
            moved = asyncio.ensure_future(self._moved.wait())
            try:
                await asyncio.wait((publishing, moved), return_when=asyncio.FIRST_COMPLETED)
                if publishing.done():
                    publishing.result()
            finally:
                publishing.cancel()
                moved.cancel()

    async def _publish(self) -> None:
        """For ever; after a reconnect and every half minute everything anew."""
        retell = self._clock.monotonic() + RETELL_SECONDS
        while True:
            await self._client.connected.wait()
            if self._client.connections != self._connection or self._clock.monotonic() >= retell:
                await self._anew()
                retell = self._clock.monotonic() + RETELL_SECONDS
            machines, self._untold = self._untold, set()
            self._filled.clear()
            try:
                await asyncio.gather(*(self._say(machine) for machine in machines))
            except Rejected as error:
                log.error("the devices' broker refuses states and alarms", reason=error.reason)  # noqa: TRY400
            if not self._untold:
                await event_or_time(self._filled, self._clock, max(0.0, retell - self._clock.monotonic()))

    async def _anew(self) -> None:
        self._connection = self._client.connections
        self._alarms.clear()
        self._untold |= set(self._scoring)
        await self._send(*presence(self._site, self._edge, self._clock, online=True))

    async def _say(self, machine: str) -> None:
        scoring, now = self._scoring[machine], self._clock.now_us()
        alarms = alarms_of(machine, scoring)
        if self._alarms.get(machine) != alarms:
            body = orjson.dumps({"version": VERSION, "machine": machine, "at": _time(now), "alarms": alarms})
            await self._send(self._topic(machine, "alarms"), body, 1, True)
            self._alarms[machine] = alarms
        body = orjson.dumps(state_of(machine, scoring, now))
        await self._send(self._topic(machine, "state"), body, 0, True)

    def _topic(self, machine: str, what: str) -> str:
        return str(LocalTopic(self._site, self._edge, f"{machine}/{what}"))

    async def _send(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:  # noqa: FBT001 - as a will has it
        await self._client.publish(topic, payload, qos=qos, retain=retain)
        self._published.inc()


async def farewell(client: MqttClient, site: str, edge: str, clock: Clock) -> None:
    """Say that the agent goes; what can't be said within a second stays unsaid: an orderly end sends no will."""
    topic, payload, qos, retain = presence(site, edge, clock, online=False)
    try:
        async with asyncio.timeout(FAREWELL_SECONDS):
            await client.publish(topic, payload, qos=qos, retain=retain)
    except (TimeoutError, Rejected) as error:
        log.info("the devices' broker could not be told that the agent goes", reason=str(error))


def state_of(machine: str, scoring: MachineScoring, now_us: int) -> dict[str, Any]:
    """What is said of a machine's state, JSON-ready."""
    model, totals = scoring.model, scoring.operating.totals
    return {
        "version": VERSION,
        "machine": machine,
        "at": _time(now_us),
        "state": scoring.state,
        "operating": str(scoring.operating.state(now_us)),
        "maintenance": scoring.maintenance is not None,
        "kept": not scoring.beside,
        "window": _time(scoring.window_us) if scoring.window_us else None,
        "score": scoring.score,
        "limit": None if model is None else model.manifest.limit,
        "reason": scoring.reason,
        "model": None if model is None else model.desired.model,
        "model_version": None if model is None else model.desired.version,
        "leading": [sensor.model_dump() for sensor in scoring.leading],
        "run_hours": totals.run_us / 3.6e9,
        "starts": totals.starts,
        "cycles": totals.cycles,
    }


def alarms_of(machine: str, scoring: MachineScoring) -> list[dict[str, Any]]:
    """What is on at a machine, oldest first. The ids are those of the events that go upstream."""
    found: list[tuple[int, dict[str, Any]]] = []
    for (sensor, side), crossed in scoring.limits.crossed.items():
        rule = limit_rule(sensor, side)
        said = {
            "id": alarm_id(rule, machine, at(crossed.onset_us)),
            "rule": rule,
            "urgent": side in URGENT_SIDES,
            "onset": _time(crossed.onset_us),
            "sensor": sensor,
            "side": side,
            "value": crossed.value,
            "limit": crossed.limit,
            "unit": crossed.unit,
        }
        found.append((crossed.onset_us, said))
    onset = scoring.anomaly
    if onset is not None:
        said = {
            "id": alarm_id(RULE, machine, at(onset.first_us)),
            "rule": RULE,
            "urgent": False,
            "onset": _time(onset.first_us),
            "sensors": [sensor.sensor for sensor in scoring.leading],
        }
        found.append((onset.first_us, said))
    return [said for _, said in sorted(found, key=lambda one: (one[0], one[1]["rule"]))]


def _time(time_us: int) -> str:
    return at(time_us).isoformat()
