"""What was heard of a plant, within bounds: some messages of each topic, how many there were, and all of Sparkplug's."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from shared.paho import MqttMessage
from shared.sparkplug.topics import NAMESPACE

MAX_TOPICS: Final = 5000
MAX_BYTES: Final = 64 * 1024 * 1024
SAMPLES: Final = 12
_OWN: Final = ("im/v1/", "plant/")


@dataclass(frozen=True, slots=True)
class Sample:
    """A message as it arrived."""

    message: MqttMessage
    at_us: int


@dataclass(slots=True)
class TopicSeen:
    """One topic: its newest messages, and how often one came. `live` counts those that the broker did not keep."""

    topic: str
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    live: int = 0
    first_us: int = 0
    last_us: int = 0

    @property
    def interval_seconds(self) -> float | None:
        """Between two messages, on average; None if there were not two."""
        return (self.last_us - self.first_us) / (self.live - 1) / 1e6 if self.live > 1 else None


class Seen:
    """Bounded: a message of one topic more than 5,000, or after 64 MiB, is counted and not kept."""

    def __init__(self, max_topics: int = MAX_TOPICS, max_bytes: int = MAX_BYTES) -> None:
        self.topics: dict[str, TopicSeen] = {}
        self.sparkplug: list[Sample] = []
        self.plain: set[str] = set()
        self.not_kept = 0
        self._bytes = 0
        self._max_topics, self._max_bytes = max_topics, max_bytes

    def take(self, message: MqttMessage, now_us: int) -> None:
        """One message."""
        if message.topic.startswith(_OWN):
            self.plain.add(message.topic)
            return
        known = self.topics.get(message.topic)
        size = len(message.payload) + len(message.topic)
        if self._bytes + size > self._max_bytes or (known is None and len(self.topics) >= self._max_topics):
            self.not_kept += 1
            return
        if message.topic.startswith(f"{NAMESPACE}/"):
            self._bytes += size
            self.sparkplug.append(Sample(message, now_us))
            return
        if known is None:
            known = self.topics[message.topic] = TopicSeen(message.topic)
        if len(known.samples) == SAMPLES:
            self._bytes -= len(known.samples[0].message.payload) + len(message.topic)
        self._bytes += size
        known.samples.append(Sample(message, now_us))
        if not message.retain:
            known.live += 1
            known.first_us = known.first_us or now_us
            known.last_us = now_us

    @property
    def samples(self) -> list[Sample]:
        """All that is kept, in order of arrival."""
        kept = [sample for topic in self.topics.values() for sample in topic.samples]
        return sorted([*kept, *self.sparkplug], key=lambda sample: sample.at_us)
