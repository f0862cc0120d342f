"""Who may publish and subscribe what on the embedded nats-server: the least each part works with.

Two limits of nats-server shape the grants: a consumer may deliver, and a request may be answered, to any subject,
so who may do either with content of its own choosing could write in another's name. Hence edges create no
consumers and do not read back what they report, and devices speak MQTT only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared import names
from shared.errors import Misconfigured
from shared.sparkplug.topics import HEARD, NAMESPACE

Protocol = Literal["STANDARD", "MQTT"]


_SPARKPLUG = NAMESPACE.replace(".", "//")  # how nats-server spells a dot of an MQTT topic


_GATEWAY_WRITES = (
    names.SENSOR_READINGS,
    names.SCORES,
    names.WAVEFORMS,
    names.MACHINE_EVENTS,
    names.DEAD_LETTER,
)


@dataclass(frozen=True, slots=True)
class EdgeScope:
    """An edge and the machines it speaks for."""

    site: str
    edge: str
    machines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grants:
    """Subjects of nats-server (MQTT's `/` is `.`, `+` is `*`). Empty means nothing; `>` means all."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    protocols: tuple[Protocol, ...] = ("STANDARD",)


def all_grants(edges: Sequence[EdgeScope]) -> dict[str, Grants]:
    """User to grants, for every part and edge. Raises Misconfigured (an edge named like a part, or twice)."""
    sites = sorted({edge.site for edge in edges})
    grants = {
        "admin": Grants((">",), (">",), ("STANDARD", "MQTT")),
        "cloud": cloud_grants(edges),
        "ingest": ingest_grants(),
        "gateway": gateway_grants(),
        "inference": inference_grants(),
        "replay": replay_grants(),
        "devices": device_grants(sites),
        "cli": Grants((*_log_read(), "$JS.API.DIRECT.GET.>"), ("stored.>", "changed.>", _inbox("cli"))),
    }
    for edge in edges:
        if edge.edge in grants:
            raise Misconfigured(f"two accounts named {edge.edge!r}", hint="give each edge an id of its own")
        grants[edge.edge] = edge_grants(edge)
    return grants


def device_grants(sites: Sequence[str]) -> Grants:
    """Publish plain JSON for the sites' machines, be a Sparkplug node, and hear what edges say beside the machines."""
    plain = [subject for site in sites for subject in _device_subjects(site)]
    heard = [f"{_SPARKPLUG}.STATE.*", f"{_SPARKPLUG}.*.NCMD.*", f"{_SPARKPLUG}.*.DCMD.*.*"]
    heard += [f"im.v1.{site}.*.local.>" for site in sites]
    return Grants((*plain, *_sparkplug_said()), tuple(heard), ("MQTT",))


def cloud_grants(edges: Sequence[EdgeScope]) -> Grants:
    """Read and write the log, join groups, desire, watch reports, keep assignments and models."""
    models = names.MODEL_OBJECTS
    publish = [*_log_write(), *_log_read(), *_log_groups(), "$JS.API.DIRECT.GET.>"]
    publish += [f"$O.{models}.>", f"$JS.API.STREAM.PURGE.OBJ_{models}", f"$KV.{names.ASSIGNMENTS_BUCKET}.>"]
    publish += [f"$KV.{names.desired_bucket(edge.edge)}.>" for edge in edges]
    return Grants(tuple(publish), ("stored.>", "changed.>", _inbox("cloud")))


def ingest_grants() -> Grants:
    """Join groups on the log, and write what it can't read to the dead letters."""
    publish = [*_log_read(), *_log_groups(), f"log.{names.DEAD_LETTER}.>"]
    return Grants(tuple(publish), ("stored.>", _inbox("ingest")))


def inference_grants() -> Grants:
    """Follow readings and promotions, read work orders, write scores and what they begin and end, and keep its own memory."""
    read = (names.SENSOR_READINGS, names.MODELS, names.WORK_ORDERS)
    publish = [*_log_read(read), *_log_groups((names.SENSOR_READINGS,))]
    publish += [f"log.{topic}.>" for topic in (names.SCORES, names.MACHINE_EVENTS)]
    publish += [*_bucket_read(f"KV_{names.ASSIGNMENTS_BUCKET}"), *_bucket_read(f"OBJ_{names.MODEL_OBJECTS}")]
    publish += [*_bucket_read(f"KV_{names.SCORING_BUCKET}"), f"$KV.{names.SCORING_BUCKET}.>"]
    heard = (f"stored.{names.MODELS}.>", f"changed.{names.ASSIGNMENTS_BUCKET}.>", _inbox("inference"))
    return Grants(tuple(publish), heard)


def gateway_grants() -> Grants:
    """Take what edges, devices and Sparkplug nodes send, append it, answer the edges, be a Sparkplug host."""
    publish = [*(f"log.{topic}.>" for topic in _GATEWAY_WRITES), *_log_read()]
    publish += [*_bucket_read("KV_assignments"), "im.v1.*.*.acks"]
    publish += [f"{_SPARKPLUG}.STATE.*", f"{_SPARKPLUG}.*.NCMD.*"]
    subscribe = [_subject(topic) for topic in (*names.UPLINK_FILTERS, *names.DEVICE_FILTERS)]
    subscribe += [f"{_SPARKPLUG}.STATE.*", *_sparkplug_said()]
    return Grants(
        tuple(publish),
        (*subscribe, "stored.>", "changed.assignments.>", _inbox("gateway")),
        ("STANDARD", "MQTT"),
    )


def replay_grants() -> Grants:
    """Publish once more what was refused: on the topics that the gateway hears, over MQTT alone. The cloud has it."""
    plain = (_subject(topic) for topic in (*names.UPLINK_FILTERS, *names.DEVICE_FILTERS))
    return Grants((*plain, *_sparkplug_said()), protocols=("MQTT",))


def edge_grants(scope: EdgeScope) -> Grants:
    """Its own topics, its own machines' devices, its own buckets, and the models."""
    uplink = f"im.v1.{scope.site}.{scope.edge}"
    desired, reported = names.desired_bucket(scope.edge), names.reported_bucket(scope.edge)
    publish = [
        f"{uplink}.frames",
        f"{uplink}.urgent",
        f"{uplink}.local.>",
        f"$KV.{reported}.>",
        *_bucket_read(f"KV_{desired}"),
        *_bucket_read(f"OBJ_{names.MODEL_OBJECTS}"),
    ]
    subscribe = [f"{uplink}.acks", f"changed.{desired}.>", _inbox(scope.edge)]
    for machine in scope.machines:
        subscribe += [f"plant.{scope.site}.{machine}.*", f"plant.{scope.site}.{machine}.*.wave"]
    return Grants(tuple(publish), tuple(subscribe), ("STANDARD", "MQTT"))


def _subject(topic: str) -> str:
    """nats-server's subject of an MQTT filter."""
    return topic.replace("/", ".").replace("+", "*")


def _device_subjects(site: str) -> list[str]:
    """What a site's devices may publish on: exactly what the gateway hears, so that nothing vanishes unheard."""
    return [_subject(topic).replace("*", site, 1) for topic in names.DEVICE_FILTERS]


def _sparkplug_said() -> list[str]:
    """What Sparkplug nodes say, at any depth, so that a topic of the wrong one is refused aloud."""
    bases = [f"{_SPARKPLUG}.*.{kind}" for kind in HEARD]
    return [*bases, *(f"{base}.>" for base in bases)]


def _inbox(name: str) -> str:
    return f"_INBOX_{name}.>"


def _log_write() -> list[str]:
    return ["log.>"]


def _log_read(topics: Sequence[str] = names.LOG_TOPICS) -> list[str]:
    asks = ("STREAM.INFO", "DIRECT.GET")
    return [f"$JS.API.{ask}.log-{topic}" for ask in asks for topic in topics]


def _log_groups(topics: Sequence[str] = names.LOG_TOPICS) -> list[str]:
    asks = ("CONSUMER.CREATE", "CONSUMER.RESET", "CONSUMER.MSG.NEXT")
    grants = [f"$JS.API.{ask}.log-{topic}.>" for ask in asks for topic in topics]
    grants += [f"$JS.ACK.log-{topic}.>" for topic in topics]
    return [*grants, "$KV.leases.>", "$JS.API.DIRECT.GET.KV_leases"]


def _bucket_read(stream: str) -> list[str]:
    return [f"$JS.API.DIRECT.GET.{stream}"]
