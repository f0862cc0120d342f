"""The event log on JetStream: a stream a topic (`log-{topic}`), subjects `log.{topic}.{key}`, one partition."""

from shared.jetstream.log import JetStreamLog, LogOptions, open_jetstream
from shared.jetstream.topics import DEFAULT_FILE_STORE, TopicBudget, default_budgets, ensure_topics

__all__ = [
    "DEFAULT_FILE_STORE",
    "JetStreamLog",
    "LogOptions",
    "TopicBudget",
    "default_budgets",
    "ensure_topics",
    "open_jetstream",
]
