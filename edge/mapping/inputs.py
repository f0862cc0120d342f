"""A mapping at work: which of its parts a message is for."""

from collections.abc import Collection
from pathlib import Path

from edge.input_limits import InputLimits
from edge.mapping.gathered import Gathered
from edge.mapping.schema import MappingFile, load_mapping
from edge.mapping.sparkplug import PREFIX, SparkplugInputs
from edge.mapping.translator import Translator
from shared.errors import Misconfigured
from shared.paho import MqttMessage


class MappedInputs:
    """What an agent reads beside plain JSON on its own topics. `has_nodes`: Sparkplug is among it, which time alone moves."""

    def __init__(
        self, mapping: MappingFile, machines: Collection[str], limits: InputLimits, *, edge: str
    ) -> None:
        self._translator = Translator(mapping, machines, limits)
        self._sparkplug = SparkplugInputs(mapping, machines, limits, edge=edge)
        self.has_nodes = bool(mapping.sparkplug)

    def filters(self) -> list[str]:
        """What to subscribe to, with QoS 1."""
        return self._translator.filters()

    def node_filters(self) -> list[str]:
        """Sparkplug's topics. Their messages are QoS 0 by the specification: a queue of them would tell no sequence."""
        return self._sparkplug.filters()

    def take(self, message: MqttMessage, now_us: int, now: float, out: Gathered) -> None:
        """One message."""
        if self.has_nodes and message.topic.startswith(PREFIX):
            self._sparkplug.take(message, now_us, now, out)
        else:
            self._translator.take(message, now_us, out)

    def tick(self, now_us: int, now: float, out: Gathered) -> None:
        """What time alone brings."""
        self._sparkplug.tick(now_us, now, out)


def open_mapping(
    path: Path, machines: Collection[str], limits: InputLimits, *, edge: str, taken: str
) -> MappedInputs:
    """The mapping in a file, for an agent of these machines whose plain topics are under `taken`.

    Raises:
        Misconfigured: The file is wrong, is another agent's, or maps what is plain already.
    """
    mapping = load_mapping(path)
    named = {row.machine for row in mapping.sparkplug}
    named |= {machine for rule in mapping.rules for machine in rule.machines.values()}
    strangers = sorted(named - set(machines))
    if strangers:
        raise Misconfigured(
            f"the mapping {path} names {', '.join(strangers)}, which this edge does not speak for",
            hint="add them to edge.machines, or give the mapping to another edge",
        )
    for rule in mapping.rules:
        if rule.topic.startswith(taken):
            raise Misconfigured(
                f"the mapping {path} has the topic {rule.topic!r}, which is plain JSON of this site",
                hint=f"leave it out: readings under {taken} need no mapping",
            )
    return MappedInputs(mapping, machines, limits, edge=edge)
