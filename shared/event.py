"""The envelope of every event: a frozen model that is written as CloudEvents 1.0 JSON, with a deterministic id."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Self

import orjson
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict

SPEC_VERSION: Final = "1.0"


def at(time_us: int) -> datetime:
    """The UTC time of an event time in µs."""
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).replace(microsecond=time_us % 1_000_000)


def to_us(moment: datetime) -> int:
    """Event time in µs of an aware datetime."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def deterministic_id(*parts: object) -> str:
    """The same 32 hex digits for the same facts, so that a fact told twice is one event."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


Moment = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]
"""An aware time, kept in UTC: one moment has one spelling, and so one id."""


class Event(BaseModel):
    """The envelope. A subclass names its type and version, and which fields make its identity.

    `source` is who says so (`edge/pump-01`, `cloud/registry`); `subject` is the id the event is about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: ClassVar[str]
    version: ClassVar[int] = 1
    identity: ClassVar[tuple[str, ...]]

    source: str
    subject: str
    occurred_at: Moment
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""

    @property
    def id(self) -> str:
        """Deterministic: the type, the subject and the identifying fields."""
        return self.identify(self.subject, *(getattr(self, name) for name in self.identity))

    @classmethod
    def identify(cls, subject: str, *identity: object) -> str:
        """The id of the event with these identifying fields, in the order of `identity`."""
        return deterministic_id(cls.type, subject, *identity)

    def to_json(self) -> bytes:
        """The CloudEvents JSON, keys sorted."""
        data = self.model_dump(mode="json", exclude=set(_ENVELOPE))
        return orjson.dumps(
            {
                "specversion": SPEC_VERSION,
                "id": self.id,
                "type": self.type,
                "source": self.source,
                "subject": self.subject,
                "time": self.occurred_at.isoformat(),
                "datacontenttype": "application/json",
                "dataversion": self.version,
                "correlationid": self.correlation_id,
                "causationid": self.causation_id,
                "traceparent": self.traceparent,
                "data": data,
            },
            option=orjson.OPT_SORT_KEYS,
        )

    @classmethod
    def from_data(cls, envelope: Mapping[str, Any], data: Mapping[str, Any]) -> Self:
        """Build from a parsed CloudEvent whose data is already of this version. Raises ValueError."""
        if taken := set(_ENVELOPE) & set(data):
            raise ValueError(f"data says {sorted(taken)}, which is the envelope's")
        return cls.model_validate(
            {
                "source": envelope["source"],
                "subject": envelope["subject"],
                "occurred_at": envelope["time"],
                "correlation_id": envelope.get("correlationid", ""),
                "causation_id": envelope.get("causationid", ""),
                "traceparent": envelope.get("traceparent", ""),
                **data,
            }
        )


_ENVELOPE: Final = ("source", "subject", "occurred_at", "correlation_id", "causation_id", "traceparent")
