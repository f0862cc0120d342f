"""The event log on Apache Kafka. Only this folder imports the driver."""

from shared.kafka.connection import KafkaOptions
from shared.kafka.log import KafkaLog, open_kafka
from shared.kafka.topics import DEFAULT_PARTITIONS, TopicState, ensure_topics, topic_states

__all__ = [
    "DEFAULT_PARTITIONS",
    "KafkaLog",
    "KafkaOptions",
    "TopicState",
    "ensure_topics",
    "open_kafka",
    "topic_states",
]
