"""Every name that two parts of the system must agree on: ids, topics, log topics, buckets, ports.

Nothing else spells these strings. The grammar is ADR 0002.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal

from shared.errors import Rejected

ID_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,39}"
_ID = re.compile(ID_PATTERN)
_ID_MAX = 40
_FITTED_HEAD = 31  # what leaves room for a dash and eight hex digits

# Event-log topics and who is their record's key.
SENSOR_READINGS: Final = "sensor-readings"
SCORES: Final = "scores"
WAVEFORMS: Final = "waveforms"
MACHINE_EVENTS: Final = "machine-events"
MODELS: Final = "models"
AUDIT: Final = "audit"
DEAD_LETTER: Final = "dead-letter"
ASSETS: Final = "assets"
WORK_ORDERS: Final = "work-orders"
VERDICTS: Final = "verdicts"
COMMANDS: Final = "commands"
LOG_TOPICS: Final = (
    SENSOR_READINGS,
    SCORES,
    WAVEFORMS,
    MACHINE_EVENTS,
    MODELS,
    AUDIT,
    DEAD_LETTER,
    ASSETS,
    WORK_ORDERS,
    VERDICTS,
    COMMANDS,
)

# Headers of a log record that says where the record came from (all values are text).
HEADER_EDGE: Final = "im-edge"
HEADER_EPOCH: Final = "im-epoch"
HEADER_ROW: Final = "im-row"
HEADER_ROWS: Final = "im-rows"  # how many rows from im-row on the record stands for, where not one
HEADER_SITE: Final = "im-site"
HEADER_REPLAYED: Final = (
    "im-replayed-from"  # topic/partition/offset of the record that a replay's one is a copy of
)

REPLAYED: Final = "replay-"
"""How the names of machines begin that are a recording played again, with the recording's own times."""

# Control plane (NATS KV buckets and object store).
ASSIGNMENTS_BUCKET: Final = "assignments"
SCORING_BUCKET: Final = "scoring"
MODEL_OBJECTS: Final = "models"

EDGE_KEYS: Final = "edge."
"""How keys of an edge's buckets begin that are about the edge itself: no id has a dot, so no machine is named so."""
COMMANDS_KEY: Final = "edge.commands"
"""In `desired-{edge}`: the commands that the edge has not answered. In `reported-{edge}`: its newest answers."""
CERTIFICATE_KEY: Final = "edge.certificate"
"""In `desired-{edge}`: the newest certificate for the edge's key."""

# For whom a signed token is.
DATA_API: Final = "data-api"
INFERENCE_API: Final = "inference-api"

# Default ports.
API_PORT: Final = 8000
INFERENCE_PORT: Final = 8001
UI_PORT: Final = 8050
MLFLOW_PORT: Final = 5011
MQTT_PORT: Final = 1883
MQTTS_PORT: Final = 8883
NATS_PORT: Final = 4222

# MQTT subscriptions of the gateway.
UPLINK_FILTERS: Final = ("im/v1/+/+/frames", "im/v1/+/+/urgent")
# Devices publish on four levels; what comes on fewer or one more is dead-lettered rather than lost.
DEVICE_FILTERS: Final = ("plant/+/+", "plant/+/+/+", "plant/+/+/+/+")

UplinkChannel = Literal["frames", "urgent", "acks"]


def check_id(text: str, what: str = "id") -> str:
    """Return `text` if it is a valid id (site, edge, machine, sensor), else raise Rejected."""
    if not _ID.fullmatch(text):
        raise Rejected(
            f"{what} {text[:60]!r} is not an id: use a-z, 0-9 and '-', at most {_ID_MAX} characters"
        )
    return text


def is_id(text: str) -> bool:
    """Whether `text` is a valid id."""
    return _ID.fullmatch(text) is not None


def slug(text: str) -> str:
    """A valid id made from any column or tag name: lower case, runs of other characters become '-'."""
    made = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_ID_MAX].strip("-")
    return made or "x"


def derived(sensor: str, figure: str) -> str:
    """The id of a sensor that is computed from another: `{sensor}-{figure}`.

    Where that is too long, the sensor's part is cut and ends in six hex digits of its hash, so that two never become one.
    """
    made = f"{sensor}-{figure}"
    if len(made) > _ID_MAX:
        digest = hashlib.sha256(sensor.encode()).hexdigest()[:6]
        made = f"{sensor[: _ID_MAX - len(figure) - 8]}-{digest}-{figure}"
    return check_id(made, "sensor")


def fitted(text: str) -> str:
    """The slug of a name. One that a slug can't hold (too long, or nothing left) ends in a hash of the whole name."""
    if re.fullmatch(ID_PATTERN, text):
        return text
    short = slug(text)
    whole = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if short == whole:
        return short
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).hexdigest()
    return f"{short[:_FITTED_HEAD].strip('-')}-{digest}"


def slugs(names: list[str]) -> list[str]:
    """Slugs of `names` in order; a numeric suffix tells colliding ones apart."""
    taken: set[str] = set()
    made: list[str] = []
    for name in names:
        base = candidate = slug(name)
        number = 2
        while candidate in taken:
            suffix = f"-{number}"
            candidate = base[: _ID_MAX - len(suffix)] + suffix
            number += 1
        taken.add(candidate)
        made.append(candidate)
    return made


@dataclass(frozen=True, slots=True)
class DeviceTopic:
    """`plant/{site}/{machine}/{sensor}`: where a device publishes plain JSON readings."""

    site: str
    machine: str
    sensor: str

    def __str__(self) -> str:
        return f"plant/{self.site}/{self.machine}/{self.sensor}"

    @classmethod
    def parse(cls, topic: str) -> "DeviceTopic":
        """Parse a topic. Raises Rejected for any other shape or an id out of grammar."""
        match topic.split("/"):
            case ["plant", site, machine, sensor]:
                return cls(check_id(site, "site"), check_id(machine, "machine"), check_id(sensor, "sensor"))
        raise Rejected(f"topic {topic[:120]!r} is not plant/SITE/MACHINE/SENSOR")


@dataclass(frozen=True, slots=True)
class WaveTopic:
    """`plant/{site}/{machine}/{sensor}/wave`: where a device publishes waveform blocks."""

    site: str
    machine: str
    sensor: str

    def __str__(self) -> str:
        return f"plant/{self.site}/{self.machine}/{self.sensor}/wave"

    @classmethod
    def parse(cls, topic: str) -> "WaveTopic":
        """Parse a topic. Raises Rejected for any other shape or an id out of grammar."""
        match topic.split("/"):
            case ["plant", site, machine, sensor, "wave"]:
                return cls(check_id(site, "site"), check_id(machine, "machine"), check_id(sensor, "sensor"))
        raise Rejected(f"topic {topic[:120]!r} is not plant/SITE/MACHINE/SENSOR/wave")


def is_wave_topic(topic: str) -> bool:
    """Whether a waveform block is what the topic is for; its ids may still be wrong."""
    return topic.startswith("plant/") and topic.endswith("/wave") and topic.count("/") == 4  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class UplinkTopic:
    """`im/v1/{site}/{edge}/{frames|urgent|acks}`: between an edge and the gateway."""

    site: str
    edge: str
    channel: UplinkChannel

    def __str__(self) -> str:
        return f"im/v1/{self.site}/{self.edge}/{self.channel}"

    @classmethod
    def parse(cls, topic: str) -> "UplinkTopic":
        """Parse a topic. Raises Rejected for any other shape or an id out of grammar."""
        match topic.split("/"):
            case ["im", "v1", site, edge, ("frames" | "urgent" | "acks") as channel]:
                return cls(check_id(site, "site"), check_id(edge, "edge"), channel)
        raise Rejected(f"topic {topic[:120]!r} is not im/v1/SITE/EDGE/(frames|urgent|acks)")


@dataclass(frozen=True, slots=True)
class LocalTopic:
    """`im/v1/{site}/{edge}/local/…`: what an edge says on the devices' broker: `agent`, `{machine}/state`, `{machine}/alarms`."""

    site: str
    edge: str
    what: str

    def __str__(self) -> str:
        return f"im/v1/{self.site}/{self.edge}/local/{self.what}"


def desired_bucket(edge: str) -> str:
    """KV bucket with what an edge is to run (written by the cloud)."""
    return f"desired-{edge}"


def reported_bucket(edge: str) -> str:
    """KV bucket with what an edge runs and holds (written by the edge)."""
    return f"reported-{edge}"


def direct_edge(number: int) -> str:
    """The edge id under which gateway `number` frames readings of machines with no edge."""
    return f"gateway-{number}"


INFERENCE: Final = "inference"
"""Who is to run the models of machines that no edge looks after: the edge that their promotions name."""


def scoring_edge(number: int) -> str:
    """The edge id under which inference service `number` frames scores of machines with no edge."""
    return f"{INFERENCE}-{number}"


def prefixed(prefix: str, topic: str) -> str:
    """A log topic's name under a replay's prefix. Raises Rejected (the prefix is no id)."""
    return f"{check_id(prefix, 'prefix')}.{topic}"


def split_prefix(topic: str) -> tuple[str, str]:
    """Prefix and log topic of a name that `prefixed` made. Raises Rejected for every other, a live topic's too."""
    prefix, _, rest = topic.partition(".")
    if rest not in LOG_TOPICS or not is_id(prefix):
        raise Rejected(f"{topic[:100]!r} is no topic of a prefix")
    return prefix, rest
