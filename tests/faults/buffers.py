"""How full every buffer on the way is, asked of those who keep it: brokers, metrics, files, log and store."""

import asyncio
import contextlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

from cloud.ingest.logic import TOPICS
from cloud.telemetry.port import TelemetryReader
from deploy.servers.mosquitto import Mosquitto
from shared.errors import IndustrialMindError
from shared.eventlog import EventLog, open_event_log
from shared.paho import open_mqtt
from tests.faults.backbone import Backbone

_COUNT = "$SYS/broker/store/messages/count"
_IN_FLIGHT = tuple(
    f'im_gateway_in_flight_messages{{lane="{lane}"}}' for lane in ("urgent", "frames", "direct")
)
_ASK_S = 3.0
_PACE_S = 0.5


@dataclass
class Fill:
    """What waits where. `outboxes` are rows of all edges, `log` records that the store has not taken."""

    devices: float = 0
    devices_broker: float = 0
    outboxes: float = 0
    broker: float = 0
    gateway: float = 0
    log: float = 0

    def copy(self) -> "Fill":
        """Another with the same."""
        return replace(self)

    def most(self, other: "Fill") -> None:
        """Keep the larger of each."""
        for each in fields(self):
            setattr(self, each.name, max(getattr(self, each.name), getattr(other, each.name)))

    def grew(self, before: "Fill") -> dict[str, float]:
        """By how much each is more than before."""
        return {each.name: getattr(self, each.name) - getattr(before, each.name) for each in fields(self)}


class Buffers:
    """Looks at a backbone that runs. A part that does not answer keeps its last figure."""

    def __init__(self, plant: Backbone) -> None:
        self._plant = plant
        self._counts: dict[str, float] = {}
        self._last = Fill()
        self._lag = 0.0
        plant.background.start(self._follow_lag())
        for name, broker in (("devices", plant.wiring.devices_broker), ("uplink", plant.wiring.broker)):
            plant.background.start(self._follow(name, broker))

    def look(self) -> Fill:
        """All of them now."""
        now = Fill(
            devices=sum(device.in_flight for device in self._plant.load.devices.values()),
            devices_broker=self._counts.get("devices", 0),
            outboxes=self._outboxes(),
            broker=self._counts.get("uplink", 0),
            gateway=self._gateway(),
            log=self._lag,
        )
        self._last = now
        return now

    async def _follow(self, name: str, broker: Mosquitto) -> None:
        async with open_mqtt(
            broker.url,
            client_id=f"watch-{name}",
            username=broker.username,
            password=broker.password,
            clean=True,
        ) as client:
            await client.subscribe(_COUNT, qos=0)
            while True:
                for message in await client.receive(10):
                    self._counts[name] = float(message.payload)

    def _outboxes(self) -> float:
        found = [self._plant.figures(edge).get("im_edge_outbox_rows") for edge in self._plant.wiring.edges]
        known = [rows for rows in found if rows is not None]
        return sum(known) if len(known) == len(found) else max(self._last.outboxes, sum(known))

    def _gateway(self) -> float:
        figures = self._plant.figures(self._plant.wiring.gateways[0])
        return sum(figures.get(name, 0.0) for name in _IN_FLIGHT) if figures else self._last.gateway

    async def _follow_lag(self) -> None:
        wiring = self._plant.wiring
        async with (
            wiring.store() as store,
            open_event_log(wiring.log[0], credentials=wiring.log[1]) as log,
        ):
            while True:
                with contextlib.suppress(TimeoutError, IndustrialMindError):
                    async with asyncio.timeout(_ASK_S):
                        self._lag = float(await _lag(log, store))
                await asyncio.sleep(_PACE_S)


async def _lag(log: EventLog, store: TelemetryReader) -> int:
    positions = await store.positions()
    lag = 0
    for topic in TOPICS:
        held = positions.get(topic, {})
        end = await log.end(topic)
        lag += sum(max(0, offset - held.get(partition, 0)) for partition, offset in end.items())
    return lag


def telemetry_file(plant: Backbone) -> Path:
    """The store's file."""
    return Path(plant.wiring.telemetry_url.removeprefix("sqlite:///"))
