"""Commands from the cloud to an edge, and what the edge answers: their kinds, arguments and bytes. Pure.

The cloud keeps an edge's open commands under one key of its desired bucket, the edge its newest answers under the same key
of its reported bucket.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import Rejected
from shared.event import at, to_us
from shared.names import ID_PATTERN

MAX_OPEN: Final = 20
MAX_ANSWERS: Final = 100
MAX_DETAIL: Final = 500


class Outcome(StrEnum):
    """What became of a command. The edge judges all of them, an expiry too: by its own clock, when it receives it."""

    DONE = "done"
    REFUSED = "refused"
    EXPIRED = "expired"
    INTERRUPTED = "interrupted"
    """The agent ended in the middle; whether it happened is not known, and it is not tried again."""


class Arguments(BaseModel):
    """What a command of one kind takes. `expires_s`: how old it may be when the edge receives it, unless said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expires_s: ClassVar[float] = 300.0


class Restart(Arguments):
    """The agent ends in order and its supervisor starts it again; done once it is back."""


class Rebirth(Arguments):
    """The agent says again what it is and what it holds."""


class Interval(Arguments):
    """How often the agent reports. It stays so over restarts."""

    expires_s: ClassVar[float] = 3600.0

    seconds: float = Field(gt=0, le=60)


class Settings(Arguments):
    """Other values for settings that may change while the agent runs. They stay so over restarts."""

    expires_s: ClassVar[float] = 30 * 86_400.0

    values: dict[str, Any] = Field(min_length=1, max_length=50)


class Maintenance(Arguments):
    """Somebody works at the machine, or no longer does; `minutes`: it ends by itself."""

    machine: str = Field(pattern=rf"^{ID_PATTERN}$")
    on: bool
    minutes: float | None = Field(None, gt=0, le=7 * 1440)


class Waveform(Arguments):
    """The next waveform block of the sensor is kept and sent; without a sensor, of all of the machine's."""

    expires_s: ClassVar[float] = 120.0

    machine: str = Field(pattern=rf"^{ID_PATTERN}$")
    sensor: str = Field("", pattern=rf"^({ID_PATTERN})?$")


KINDS: Final[Mapping[str, type[Arguments]]] = {
    "restart": Restart,
    "rebirth": Rebirth,
    "interval": Interval,
    "settings": Settings,
    "maintenance": Maintenance,
    "waveform": Waveform,
}


def parse_arguments(kind: str, arguments: Mapping[str, Any]) -> Arguments:
    """The arguments of a command. Raises Rejected (no such kind, or not what it takes)."""
    if kind not in KINDS:
        raise Rejected(f"no command {kind[:40]!r}: there are {', '.join(KINDS)}")
    try:
        return KINDS[kind].model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Rejected(f"{kind}: {where + ': ' if where else ''}{first['msg']}") from error


@dataclass(frozen=True, slots=True)
class Command:
    """A command as an edge receives it. Times are µs; `arguments` are what `parse_arguments` takes."""

    id: str
    kind: str
    arguments: Mapping[str, Any]
    by: str
    issued_us: int
    expires_us: int

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self:
        """Read one. Raises Rejected."""
        try:
            return cls(
                str(raw["id"]),
                str(raw["kind"]),
                dict(raw["arguments"]),
                str(raw["by"]),
                int(raw["issued_us"]),
                int(raw["expires_us"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Rejected(f"a command that can't be read: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """What an edge says of a command that it received."""

    id: str
    outcome: Outcome
    detail: str
    at_us: int

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self:
        """Read one. Raises Rejected."""
        try:
            return cls(
                str(raw["id"]),
                Outcome(raw["outcome"]),
                str(raw["detail"])[:MAX_DETAIL],
                to_us(at(int(raw["at_us"]))),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:  # a time beyond the calendar
            raise Rejected(f"an answer that can't be read: {error!r}") from error


def encode(entries: Sequence[Command] | Sequence[Answer]) -> bytes:
    """The value under COMMANDS_KEY."""
    return orjson.dumps([asdict(entry) for entry in entries], option=orjson.OPT_SORT_KEYS)


def decode_commands(data: bytes | None) -> list[Command]:
    """The open commands of a desired bucket. Raises Rejected."""
    return [Command.of(raw) for raw in _entries(data)]


def decode_answers(data: bytes | None) -> list[Answer]:
    """The answers of a reported bucket. Raises Rejected."""
    return [Answer.of(raw) for raw in _entries(data)]


def _entries(data: bytes | None) -> list[Mapping[str, Any]]:
    try:
        found = orjson.loads(data or b"[]")
    except orjson.JSONDecodeError as error:
        raise Rejected("a list of commands that is not JSON") from error
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise Rejected("commands are a list of objects")
    return found
