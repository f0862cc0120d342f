"""Devices' messages read: rows by machine, and what can't be read as letters. What the sensors' limits leave out is counted."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from edge.input_limits import InputLimits
from edge.mapping.gathered import Gathered, Letter
from shared.clock import MICROSECONDS, Clock
from shared.device_json import parse_device
from shared.errors import Rejected
from shared.event import at
from shared.frames import Readings, concat_readings
from shared.machine_events import ReadingsHeld
from shared.names import DeviceTopic
from shared.paho import MqttMessage

if TYPE_CHECKING:
    from edge.mapping.inputs import MappedInputs


class MessageReader:
    """Reads plain JSON on the site's own topics, and by a mapping whatever else there is.

    It remembers what limits and Sparkplug's sessions need: a copy of it goes on from there by itself.
    """

    def __init__(
        self,
        site: str,
        machines: Collection[str],
        limits: InputLimits | None = None,
        mapped: "MappedInputs | None" = None,
        *,
        edge: str = "",
    ) -> None:
        self._edge = edge
        self._site, self._machines = site, frozenset(machines)
        self._limits = limits or InputLimits()
        self.mapped = mapped
        self._plain = f"plant/{site}/"
        self._own = [f"{self._plain}{machine}/+" for machine in machines]

    def plain_filters(self) -> list[str]:
        """The machines' plain topics."""
        return list(self._own)

    def filters(self) -> list[str]:
        """What to subscribe to: this agent's machines only, and the mapping's topics."""
        return self._own + ([] if self.mapped is None else self.mapped.filters())

    def read(self, messages: Sequence[MqttMessage], clock: Clock, out: Gathered) -> dict[str, list[Readings]]:
        """The rows of plain messages, machine by machine; everything else goes into `out`."""
        readings: dict[str, list[Readings]] = {}
        now = clock.monotonic()
        for message in messages:
            if self.mapped is None or message.topic.startswith(self._plain):
                self._parse(message, clock.now_us(), readings, out)
            else:
                self.mapped.take(message, clock.now_us(), now, out)
        return readings

    def limited(
        self, readings: dict[str, list[Readings]], out: Gathered
    ) -> tuple[dict[str, Readings], Mapping[str, int]]:
        """Each machine's rows together, those of `out` too, without what the limits leave out; and how much each left out.

        That a deadband begins to leave out becomes an event in `out`, committed with the rows.
        """
        for machine, rows in out.rows.items():
            readings.setdefault(machine, []).append(rows.readings())
        joined: dict[str, Readings] = {}
        left: Counter[str] = Counter()
        for machine, parts in readings.items():
            kept, out_of_it = self._limits.take(machine, concat_readings(parts))
            left.update(out_of_it)
            if len(kept):
                joined[machine] = kept
        for one in self._limits.held():
            event = ReadingsHeld(
                source=f"edge/{self._edge}",
                subject=one.machine,
                occurred_at=at(one.time_us),
                edge=self._edge,
                sensor=one.sensor,
                deadband=one.deadband,
                silence_seconds=one.silence_seconds,
                interval_seconds=one.interval_us / MICROSECONDS,
                unit=one.unit,
            )
            out.events.setdefault(one.machine, []).append(event)
        return joined, left

    def _parse(
        self, message: MqttMessage, now_us: int, readings: dict[str, list[Readings]], out: Gathered
    ) -> None:
        """Add a plain message's rows to `readings`; what can't be accepted to the letters."""
        try:
            topic = DeviceTopic.parse(message.topic)
            if topic.site != self._site or topic.machine not in self._machines:
                raise Rejected(f"{topic.machine} of {topic.site} is not this edge's machine")  # noqa: TRY301
            parsed = parse_device(topic, message.payload, now_us=now_us)
        except Rejected as error:
            machine = self._machine_of(message.topic)
            out.letters.append(Letter(machine, error.reason, message.topic, message.payload, now_us))
            return
        if len(parsed.readings):
            readings.setdefault(topic.machine, []).append(parsed.readings)
            if not (parsed.batch or message.retain or message.dup):
                out.live.append((topic.machine, int(parsed.readings.time_us[0]), now_us))
        out.letters += [
            Letter(topic.machine, reject.reason, message.topic, reject.item, now_us)
            for reject in parsed.rejects
        ]

    def _machine_of(self, topic: str) -> str:
        """The machine that a dead letter is filed under, empty if the topic names none of ours."""
        parts = topic.split("/")
        return parts[2] if len(parts) > 2 and parts[2] in self._machines else ""  # noqa: PLR2004 - plant/site/machine
