"""The event log on JetStream: a stream a topic (`log-{topic}`), subjects `log.{topic}.{key}`, one partition."""

from shared.jetstream.log import JetStreamLog, LogOptions, open_jetstream
from shared.jetstream.topics import TopicBudget, bound_mqtt, default_budgets, ensure_topics

__all__ = [
    "JetStreamLog",
    "LogOptions",
    "TopicBudget",
    "bound_mqtt",
    "default_budgets",
    "ensure_topics",
    "open_jetstream",
]
