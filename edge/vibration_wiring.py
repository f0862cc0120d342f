"""Where waveform blocks touch the rest of the agent: scoring, the local alarms, the operating states, the uplink."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from edge.flight import Flight
from edge.local import LocalBroker, alarms_of
from edge.outbox import Outbox
from edge.scorer import ScoringLoop
from edge.scoring import MachineScoring
from edge.settings import EdgeSettings
from edge.uplink import Uplink
from edge.vibration import VibrationLoop
from shared.clock import Clock
from shared.frames import Readings
from shared.machine_view import MachineView
from shared.paho import MqttClient
from shared.states import Phase


class VibrationWiring:
    """The loop of waveform blocks, and what others call to let it know."""

    def __init__(
        self,
        settings: EdgeSettings,
        outbox: Outbox,
        views: Mapping[str, MachineView],
        scoring: Mapping[str, MachineScoring],
        clock: Clock,
        registry: CollectorRegistry,
        *,
        devices: MqttClient,
        link: MqttClient,
        flight: Flight,
        uplink: Uplink,
        scorer: ScoringLoop,
    ) -> None:
        self._scoring, self._scorer = scoring, scorer
        self.loop = VibrationLoop(
            settings.vibration,
            outbox,
            views,
            clock,
            registry,
            site=settings.site,
            edge=settings.edge,
            folder=settings.folder / "waves",
            ack=devices.ack,
            committed=scorer.offer,
            rows_waiting=uplink.rows_waiting,
            room=lambda: link.connected.is_set() and flight.has_room,
            condition=self._condition,
        )

    def arrived(self, machine: str, rows: Readings) -> None:
        """Devices' rows that are being committed: the speeds among them are wanted, and all are scored."""
        self.loop.seen(machine, rows)
        self._scorer.offer(machine, rows)

    def tell(self, local: LocalBroker, machine: str) -> None:
        """How the machine stands has changed: for the local broker, and for the blocks that an alarm wants kept."""
        local.tell(machine)
        ids = frozenset(each["id"] for each in alarms_of(machine, self._scoring[machine]))
        self.loop.alarms(machine, ids)

    def _condition(self, machine: str, time_us: int) -> str | None:
        """The steady state that a machine is in, empty if it is in none, None if nobody taught its states."""
        operating = self._scoring[machine].operating
        if operating.spec is None:
            return None
        state = operating.state(time_us)
        return str(state) if state.phase is Phase.STEADY else ""
