"""The streams behind the topics: their sizes, their retention, and bounds for the broker's own streams."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared import names
from shared.errors import Misconfigured, NotFound
from shared.nats.link import open_link
from shared.nats.session import Session, Timeouts, ensure_stream
from shared.tls import Certificates

DAY_S: Final = 86_400
DEFAULT_FILE_STORE: Final = 8 << 30
"""`max_file_store` of the embedded server: a bound, not a reservation on the disk."""
LEASES_BUCKET: Final = "leases"
RECORD_BYTES: Final = 512 << 10
"""The largest record a topic takes, headers included."""
_LEASES_BYTES: Final = 1 << 20
_DUPLICATE_WINDOW_S: Final = 120
_NS: Final = 1_000_000_000
# The share of the store each topic may fill. The rest is for the broker's own streams (MQTT), KV and objects.
_SHARES: Final = {
    names.SENSOR_READINGS: 0.40,
    names.SCORES: 0.10,
    names.WAVEFORMS: 0.10,
    names.MACHINE_EVENTS: 0.05,
    names.DEAD_LETTER: 0.02,
}
_OTHER_SHARE: Final = 0.01
# The broker keeps these for MQTT; it makes them unbounded when the first MQTT client connects.
_MQTT_SHARES: Final = {
    "$MQTT_msgs": 0.08,
    "$MQTT_rmsgs": 0.005,
    "$MQTT_sess": 0.005,
    "$MQTT_qos2in": 0.005,
    "$MQTT_out": 0.005,
}
_TELEMETRY: Final = (names.SENSOR_READINGS, names.SCORES, names.WAVEFORMS, names.DEAD_LETTER)


@dataclass(frozen=True, slots=True)
class TopicBudget:
    """How much a topic keeps: at most `max_bytes` (then it is full and refuses), for `max_age_s` (None: for ever)."""

    max_bytes: int
    max_age_s: float | None = None


def stream_name(topic: str) -> str:
    """The stream that holds a topic. A stream's name has no dots; a topic's has no underscore."""
    return f"log-{topic.replace('.', '_')}"


def share_of(topic: str) -> float:
    """The share of the store that a topic may fill."""
    return _SHARES.get(topic, _OTHER_SHARE)


def default_budgets(max_file_store: int, *, telemetry_days: float = 30.0) -> dict[str, TopicBudget]:
    """A budget a topic, together at most three quarters of the store; telemetry ages out, facts stay for ever."""
    age = telemetry_days * DAY_S
    return {
        topic: TopicBudget(int(max_file_store * share_of(topic)), age if topic in _TELEMETRY else None)
        for topic in names.LOG_TOPICS
    }


async def ensure_topics(
    url: str,
    *,
    credentials: str,
    budgets: Mapping[str, TopicBudget] | None = None,
    max_file_store: int = DEFAULT_FILE_STORE,
    timeouts: Timeouts | None = None,
    tls: Certificates | None = None,
) -> None:
    """Create or update each topic's stream and the groups' leases, and bound the broker's own streams.

    Needs the admin's credentials; running it again changes nothing. The broker's streams for MQTT are made when
    the first MQTT client connects, unbounded and dropping the oldest; bounded, a full one refuses: the publisher
    gets no PUBACK and is disconnected. Run this again if no MQTT client was there before.

    Raises Misconfigured (budgets beyond `max_file_store`), Unavailable (away, or no room).
    """
    budgets = default_budgets(max_file_store) if budgets is None else budgets
    total = sum(budget.max_bytes for budget in budgets.values())
    if total + max_file_store * sum(_MQTT_SHARES.values()) > max_file_store:
        raise Misconfigured(
            f"the topics' budgets add up to {total} bytes, too much beside MQTT's in a store of {max_file_store}",
            hint="lower the budgets or raise the store's size",
        )
    async with open_link(url, credentials=credentials, timeouts=timeouts, tls=tls) as link:
        session = link.session()
        for topic, budget in budgets.items():
            await ensure_stream(session, topic_config(topic, budget))
        await ensure_stream(session, _LEASES)
        for name, share in _MQTT_SHARES.items():
            await _bound(session, name, int(max_file_store * share))


async def _bound(session: Session, name: str, max_bytes: int) -> None:
    try:
        info = await session.api(f"STREAM.INFO.{name}")
    except NotFound:
        return
    config: dict[str, Any] = {**info["config"], "max_bytes": max_bytes, "discard": "new"}
    if config != info["config"]:
        await session.api(f"STREAM.UPDATE.{name}", config)


def topic_config(topic: str, budget: TopicBudget) -> dict[str, Any]:
    """The stream behind a topic."""
    subjects = f"log.{topic}.>"
    age = budget.max_age_s
    return {
        "name": stream_name(topic),
        "subjects": [subjects],
        "max_bytes": budget.max_bytes,
        "max_age": int(age * _NS) if age is not None else 0,
        "max_msg_size": RECORD_BYTES,
        "discard": "new",
        "duplicate_window": int(min(_DUPLICATE_WINDOW_S, age or _DUPLICATE_WINDOW_S) * _NS),
        "allow_direct": True,  # readers page through it without leaving anything on the server
        "allow_atomic": True,  # many records, one flush to disk, all or none
        "republish": {"src": subjects, "dest": f"stored.{topic}.>", "headers_only": True},  # wakes followers
    }


_LEASES: Final[Mapping[str, Any]] = {
    "name": f"KV_{LEASES_BUCKET}",
    "subjects": [f"$KV.{LEASES_BUCKET}.>"],
    "max_msgs_per_subject": 1,
    "max_bytes": _LEASES_BYTES,
    "discard": "new",
    "allow_direct": True,
    "allow_rollup_hdrs": True,
    "deny_delete": True,
}
