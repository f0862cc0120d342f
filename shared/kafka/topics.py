"""The topics on a cluster: made, widened, and given their retention."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from shared import names
from shared.errors import Misconfigured
from shared.kafka.connection import KafkaOptions, Link, client_config, unavailable
from shared.kafka.ends import Ends

TELEMETRY: Final = (names.SENSOR_READINGS, names.SCORES, names.WAVEFORMS, names.DEAD_LETTER)
"""Topics whose records age out; the others keep them for ever."""
DEFAULT_PARTITIONS: Final = 6
TELEMETRY_DAYS: Final = 30.0
_SHARED_OUT: Final = (names.SENSOR_READINGS, names.SCORES, names.WAVEFORMS, names.MACHINE_EVENTS)
_SAFE_REPLICATION: Final = 3
_DAY_MS: Final = 86_400_000
_REFUSALS: Final = (
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_CONFIG,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.POLICY_VIOLATION,
)


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the cluster has it. `records` counts what was ever written; `retention_days` None is for ever."""

    name: str
    partitions: int
    replication: int
    end: Mapping[str, int]
    retention_days: float | None


async def ensure_topics(
    url: str,
    *,
    credentials: str = "",
    partitions: int | None = None,
    named: Mapping[str, int] | None = None,
    replication: int = 1,
    topics: Sequence[str] = names.LOG_TOPICS,
    telemetry_days: float = TELEMETRY_DAYS,
    options: KafkaOptions | None = None,
) -> None:
    """Create the topics that are missing, widen those with too few partitions, and set each one's retention.

    Running it again changes nothing. `partitions` (6 unless given) is for the topics whose key is a machine; the
    others are one stream each. `named` has topics with numbers of their own, also beside `topics`. No topic loses
    partitions or changes its replication. After widening, a key may belong to another partition than before.

    With a replication of 3 or more an append waits for two copies (`min.insync.replicas` 2).

    Raises Misconfigured (the cluster refuses), Unavailable.
    """
    wanted = _wanted(partitions, named or {}, topics)
    async with _linked(url, credentials, options) as link:
        held = await _topics(link)
        missing = [
            NewTopic(topic, count, replication, config=_config(topic, replication, telemetry_days))
            for topic, count in wanted.items()
            if topic not in held
        ]
        narrow = [
            NewPartitions(topic, count)
            for topic, count in wanted.items()
            if topic in held and len(held[topic].partitions) < count
        ]
        kept = [
            _resource(topic, _config(topic, _replication(held[topic]), telemetry_days))
            for topic in wanted
            if topic in held
        ]
        if missing:
            await _done(link.admin.create_topics(missing), unless=KafkaError.TOPIC_ALREADY_EXISTS)
        if narrow:
            await _done(link.admin.create_partitions(narrow))
        if kept:
            await _done(link.admin.incremental_alter_configs(kept))
        for topic, count in wanted.items():
            await _spread(link, topic, count)


async def topic_states(
    url: str, *, credentials: str = "", options: KafkaOptions | None = None
) -> list[TopicState]:
    """The cluster's topics but its own. Raises Misconfigured, Unavailable."""
    async with _linked(url, credentials, options) as link:
        held = {name: topic for name, topic in (await _topics(link)).items() if not name.startswith("__")}
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in sorted(held)]
        configs = await _done(link.admin.describe_configs(asked)) if asked else {}
        ends = Ends(link)
        try:
            return [
                TopicState(
                    name := resource.name,
                    len(held[name].partitions),
                    _replication(held[name]),
                    {str(p): end for p, end in (await ends.raw(name)).items()},
                    _days(entries["retention.ms"].value),
                )
                for resource, entries in configs.items()
            ]
        finally:
            await ends.close()


@asynccontextmanager
async def _linked(url: str, credentials: str, options: KafkaOptions | None) -> AsyncIterator[Link]:
    link = Link(client_config(url, credentials), options or KafkaOptions())
    try:
        await link.open()
        yield link
    finally:
        await link.close()


async def _topics(link: Link) -> Mapping[str, TopicMetadata]:
    try:
        return (await asyncio.to_thread(link.admin.list_topics, timeout=link.options.request)).topics
    except KafkaException as error:
        raise unavailable("asking for the topics", error) from error


async def _spread(link: Link, topic: str, count: int) -> None:
    """Wait until the brokers tell of the topic's partitions: they learn of them one by one."""
    until = asyncio.get_running_loop().time() + link.options.request
    while asyncio.get_running_loop().time() < until:
        held = (await _topics(link)).get(topic)
        if (
            held is not None
            and len(held.partitions) >= count
            and all(p.leader >= 0 for p in held.partitions.values())
        ):
            return
        await asyncio.sleep(0.02)


async def _done(futures: Mapping[Any, Future[Any]], *, unless: int | None = None) -> dict[Any, Any]:
    """What each came to. Raises Misconfigured, Unavailable."""
    found = {}
    for what, future in futures.items():
        try:
            found[what] = await asyncio.wrap_future(future)
        except KafkaException as error:
            code = error.args[0].code()
            if code == unless:
                continue
            if code in _REFUSALS:
                raise Misconfigured(
                    f"Kafka refuses {what}: {error.args[0].str()}",
                    hint="see how many brokers there are, and what these credentials may do",
                ) from error
            raise unavailable(str(what), error) from error
    return found


def _wanted(partitions: int | None, named: Mapping[str, int], topics: Sequence[str]) -> dict[str, int]:
    many = DEFAULT_PARTITIONS if partitions is None else partitions
    wanted = {topic: many if topic in _SHARED_OUT else 1 for topic in topics} | dict(named)
    if min(wanted.values(), default=1) < 1:
        raise Misconfigured("a topic needs a partition", hint="give 1 or more")
    return wanted


def _config(topic: str, replication: int, telemetry_days: float) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(int(telemetry_days * _DAY_MS)) if topic in TELEMETRY else "-1",
        "retention.bytes": "-1",
        "max.message.bytes": str(1 << 20),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": "2" if replication >= _SAFE_REPLICATION else "1",
    }


def _resource(topic: str, config: Mapping[str, str]) -> ConfigResource:
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    return ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)


def _replication(topic: TopicMetadata) -> int:
    return min((len(partition.replicas) for partition in topic.partitions.values()), default=0)


def _days(retention_ms: str) -> float | None:
    return None if int(retention_ms) < 0 else int(retention_ms) / _DAY_MS
