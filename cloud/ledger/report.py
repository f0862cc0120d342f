"""What goes into the ledger from an edge, and what comes out: summaries, findings, an exit code."""

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import Rejected
from shared.frames import EPOCH_BYTES
from shared.ranges import Range, RangeSet

Stage = Literal["edge", "uplink", "log", "store"]
What = Literal["missing", "doubled", "altered", "conflict"]
DelayStage = Literal["device", "uplink", "store"]

MAX_IDENTITIES: Final = 20
EXIT_CLEAN: Final = 0
EXIT_FINDING: Final = 1


class EdgeReport(BaseModel):
    """What an edge says of its outbox: rows 1 to `produced` are cut, `waiting` more have no number yet.

    `tally` is {machine: {hour since 1970: (count, sum of fingerprints)}} of the readings that were cut, of at most the
    newest `tally_hours` of each machine (None: of all). `acked` were confirmed by the log, `damaged` were set aside as
    unfit to send. `degraded` is told by edges that thin old rows. `taken_us`: when the report was made, if known.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    epoch: str = Field(pattern=rf"^[0-9a-f]{{{2 * EPOCH_BYTES}}}$")
    produced: int = Field(ge=0)
    waiting: int = Field(0, ge=0)
    buffered: tuple[Range, ...] = ()
    tally: Mapping[str, Mapping[int, tuple[int, int]]] = Field(default_factory=dict)
    tally_hours: int | None = Field(None, ge=1)
    acked: tuple[Range, ...] | None = None
    damaged: tuple[Range, ...] = ()
    degraded: tuple[Range, ...] = ()
    taken_us: int | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the JSON an edge puts under `ledger`. Raises Rejected."""
        try:
            report = cls.model_validate_json(data)
        except ValidationError as error:
            raise Rejected(f"not an edge's ledger report: {error.errors()[0]['msg']}") from error
        ranges = (*report.buffered, *(report.acked or ()), *report.damaged, *report.degraded)
        if any(first < 1 or last < first for first, last in ranges):
            raise Rejected("an edge's ledger report has an empty or negative range")
        return report


class Finding(BaseModel):
    """One thing that is not as it should be, the stage where it arose, and what to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage
    what: What
    edge: str
    epoch: str = ""
    machine: str = ""
    hour: int | None = Field(None, description="hours since 1970, of event time")
    rows: int
    identities: tuple[str, ...] = Field((), max_length=MAX_IDENTITIES)
    advice: str


class SourceSummary(BaseModel):
    """Rows of one edge's epoch by where they are. `produced` None: no report of this epoch is to be had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edge: str
    epoch: str
    produced: int | None = None
    waiting: int = 0
    buffered: int = 0
    degraded: int = 0
    logged: int = 0
    stored: int = 0
    rejected: int = 0
    pending: int = Field(0, description="in the log and not yet in the store")
    resent: int = Field(0, description="rows that the log holds more than once, counted once")
    missing: int = Field(
        0, description="gaps: rows that were numbered and that no stage holds, or not the store"
    )
    duplicates: int = Field(0, description="rows that told a known reading again; stored once")
    conflicts: int = Field(
        0, description="rows that gave a known reading another value; the later arrival is kept"
    )
    redelivered: int = Field(
        0, description="rows that reached the store more than once under the same number"
    )


class Delay(BaseModel):
    """How long the readings of an edge's epoch took through a stage, in seconds.

    Stages: `device` to the edge, `uplink` from there to the log, `store` from there to the store. `late` ones took longer
    than `bound`. Quantiles are the upper edges of buckets that double, so at most twice the true value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edge: str
    epoch: str
    stage: DelayStage
    rows: int
    late: int
    bound: float
    longest: float
    p50: float
    p99: float


class LedgerReport(BaseModel):
    """The ledger's answer. `findings` make the exit code 1; `resolved` are named and harmless: their rule is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    audited: bool = False
    sources: tuple[SourceSummary, ...] = ()
    findings: tuple[Finding, ...] = ()
    resolved: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    lateness: tuple[Delay, ...] = Field((), description="delays by stage: told, and no finding")

    @property
    def exit_code(self) -> int:
        """0 clean, 1 with a finding."""
        return EXIT_FINDING if self.findings else EXIT_CLEAN


class AuditReport(LedgerReport):
    """The ledger's answer after log and store were read again. Counts are of readings."""

    audited: bool = True
    rows_in_log: int = 0
    rows_in_store: int = 0
    machine_hours: int = 0


def name_rows(ranges: list[Range]) -> tuple[str, ...]:
    """Row ranges as text, at most 20."""
    return tuple(
        f"row {first}" if first == last else f"rows {first}-{last}" for first, last in ranges[:MAX_IDENTITIES]
    )


def size(ranges: list[Range]) -> int:
    """How many rows the ranges have."""
    return sum(last - first + 1 for first, last in ranges)


def union(*sets: RangeSet) -> RangeSet:
    """All of their numbers."""
    return RangeSet(pair for one in sets for pair in one)


def without(ranges: list[Range], other: RangeSet) -> list[Range]:
    """The parts of the ranges that `other` lacks."""
    return [gap for first, last in ranges for gap in other.gaps(first, last)]


def within(ranges: list[Range], other: RangeSet) -> list[Range]:
    """The parts of the ranges that `other` has."""
    lacking = RangeSet(without(ranges, other))
    return [gap for first, last in ranges for gap in lacking.gaps(first, last)]
