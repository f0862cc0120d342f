"""What a mapping would make of messages that were heard: readings by topic, refusals by reason. Nothing is stored."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from edge.discover.seen import Sample
from edge.input_limits import InputLimits
from edge.mapping.gathered import Gathered
from edge.mapping.inputs import MappedInputs
from edge.mapping.schema import MappingFile
from shared.names import is_id

_EXAMPLES: Final = 3


class _Anyone(Collection[str]):
    """Every machine there could be: a dry run doesn't know yet who will speak for them."""

    def __contains__(self, machine: object) -> bool:
        return isinstance(machine, str) and is_id(machine)

    def __iter__(self) -> Any:  # noqa: ANN401 - never asked
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(slots=True)
class TopicTried:
    """What became of one topic's messages. `examples`: (machine, sensor, value, unit, time in µs) of the newest."""

    topic: str
    messages: int = 0
    readings: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, str], tuple[float, str, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "topic": self.topic,
            "messages": self.messages,
            "readings": self.readings,
            "refused": dict(self.reasons),
            "examples": [
                {"machine": machine, "sensor": sensor, "value": value, "unit": unit, "time_us": time_us}
                for (machine, sensor), (value, unit, time_us) in self.examples.items()
            ],
        }


def dry_run(mapping: MappingFile, samples: Sequence[Sample]) -> list[TopicTried]:
    """Each topic's messages through the mapping, in the order in which they came."""
    inputs = MappedInputs(mapping, _Anyone(), InputLimits(), edge="discover")
    tried: dict[str, TopicTried] = {}
    for sample in samples:
        topic = sample.message.topic
        here = tried.setdefault(topic, TopicTried(topic))
        out = Gathered()
        inputs.take(sample.message, sample.at_us, sample.at_us / 1e6, out)
        here.messages += 1
        here.fates += out.fates
        for letter in out.letters:
            here.reasons[letter.reason] += 1
        for machine, rows in out.rows.items():
            names = list(rows.index)
            here.readings += len(rows.value)
            for index, value, time_us in zip(rows.sensor, rows.value, rows.time_us, strict=True):
                sensor, unit = names[index]
                if (machine, sensor) in here.examples or len(here.examples) < 100:  # noqa: PLR2004 - fields of one message
                    here.examples[machine, sensor] = value, unit, time_us
    return list(tried.values())
