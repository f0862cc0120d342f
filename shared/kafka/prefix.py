"""Topics of a prefix: copies of log topics beside the live ones, bounded, for as long as somebody tries something."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaError
from confluent_kafka.admin import NewTopic

from shared import names
from shared.errors import Rejected
from shared.kafka.connection import KafkaOptions
from shared.kafka.topics import _done, _linked, _spread, _topics, topic_states

_MESSAGE_BYTES: Final = 1 << 20


async def ensure_prefix_topics(
    url: str,
    *,
    credentials: str,
    topics: Sequence[str],
    max_bytes: int,
    max_age_s: float,
    options: KafkaOptions | None = None,
) -> None:
    """Create those that are missing, one partition each, bounded by an equal share of `max_bytes`.

    Kafka keeps to a bound by dropping the oldest. Raises Rejected (a name that is no prefixed topic's), Misconfigured
    (the cluster refuses), Unavailable.
    """
    for topic in topics:
        names.split_prefix(topic)
    config = {
        "cleanup.policy": "delete",
        "retention.ms": str(int(max_age_s * 1000)),
        "retention.bytes": str(max_bytes // max(1, len(topics))),
        "max.message.bytes": str(_MESSAGE_BYTES),
        "message.timestamp.type": "LogAppendTime",
    }
    async with _linked(url, credentials, options) as link:
        held = await _topics(link)
        missing = [NewTopic(topic, 1, 1, config=config) for topic in topics if topic not in held]
        if missing:
            await _done(link.admin.create_topics(missing), unless=KafkaError.TOPIC_ALREADY_EXISTS)
        for topic in topics:
            await _spread(link, topic, 1)


async def prefix_topics(
    url: str, *, credentials: str, options: KafkaOptions | None = None
) -> Mapping[str, int]:
    """Every prefixed topic there is, with how many records were written to it. Raises Misconfigured, Unavailable."""
    found = {}
    for state in await topic_states(url, credentials=credentials, options=options):
        try:
            names.split_prefix(state.name)
        except Rejected:
            continue
        found[state.name] = sum(state.end.values())
    return found


async def drop_prefix_topics(
    url: str, *, credentials: str, topics: Sequence[str], options: KafkaOptions | None = None
) -> None:
    """Delete these topics; those that are gone already are no error. Raises Rejected (a live topic), Unavailable."""
    for topic in topics:
        names.split_prefix(topic)
    async with _linked(url, credentials, options) as link:
        if topics:
            await _done(link.admin.delete_topics(list(topics)), unless=KafkaError.UNKNOWN_TOPIC_OR_PART)
        while not (await _topics(link)).keys().isdisjoint(topics):  # noqa: ASYNC110 - the brokers forget them one by one
            await asyncio.sleep(0.02)
