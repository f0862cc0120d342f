"""Kafka's side of the benchmark: fresh topics for each run, and all that is in them afterwards."""

import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from numpy.typing import NDArray

PARTITIONS: Final = 6
_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Logged:
    """What a topic holds: values, and when the broker appended each (int64[n], ms since 1970)."""

    values: list[bytes]
    appended_ms: NDArray[np.int64]


class Topics:
    """Topics on one cluster, whose broker stamps records with the time of their append."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": 2,
                "group.id": "bench",
                "enable.auto.commit": False,
                "enable.partition.eof": False,
                "queued.max.messages.kbytes": 65_536,
            }
        )

    def make(self, *names: str) -> None:
        """Create topics that are not there."""
        wanted = set(names) - self._held()  # a name that is there twice ends confluent-kafka with a SIGSEGV
        if wanted:
            for made in self._admin.create_topics(
                [NewTopic(name, PARTITIONS, 1) for name in wanted]
            ).values():
                made.result(_WAIT_S)

    def drop(self, *names: str) -> None:
        """Delete topics with all that they hold."""
        held = list(self._held().intersection(names))
        if held:
            for done in self._admin.delete_topics(held).values():
                done.result(_WAIT_S)
            deadline = time.monotonic() + _WAIT_S
            while any(name in self._held() for name in held) and time.monotonic() < deadline:
                time.sleep(0.05)  # between two looks

    def _held(self) -> set[str]:
        return set(self._admin.list_topics(timeout=_WAIT_S).topics)

    def ends(self, topic: str) -> list[int]:
        """How many records each partition has."""
        return [self._end(topic, n) for n in range(PARTITIONS)]

    def _end(self, topic: str, partition: int) -> int:
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                place = TopicPartition(topic, partition)
                return int(self._consumer.get_watermark_offsets(place, timeout=_WAIT_S, cached=False)[1])
            except KafkaException:  # of a topic that was made a moment ago, nobody may be the leader yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)  # between two looks

    def read(self, topic: str) -> Logged:
        """All of it, from the beginning to now."""
        left = sum(self.ends(topic))
        self._consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(PARTITIONS)])
        values: list[bytes] = []
        stamps: list[int] = []
        while left > 0:
            taken = self._consumer.consume(min(left, 20_000), timeout=_WAIT_S)
            if not taken:
                raise RuntimeError(f"{topic} has {left} more records that do not come")
            for message in taken:
                if message.error() is not None:
                    raise KafkaException(message.error())
                values.append(message.value() or b"")
                stamps.append(message.timestamp()[1])
            left -= len(taken)
        self._consumer.unassign()
        return Logged(values, np.array(stamps, np.int64))

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()
