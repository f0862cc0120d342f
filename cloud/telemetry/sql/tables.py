"""The tables of the books. `migrations/versions` makes them; both say the same (a test compares them)."""

from typing import Final

import sqlalchemy as sa

from shared.errors import Unavailable

_META: Final = sa.MetaData()
_ID: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite numbers rows by itself only where the key is called INTEGER."""

SOURCES: Final = sa.Table(
    "telemetry_sources",
    _META,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("edge", sa.Text, nullable=False),
    sa.Column("epoch", sa.LargeBinary, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("edge", "epoch"),
)
# What a point's number says beside its row: whose it is, and in which unit.
ORIGINS: Final = sa.Table(
    "telemetry_origins",
    _META,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("source", sa.BigInteger, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.UniqueConstraint("source", "unit"),
)
MACHINES: Final = sa.Table(
    "telemetry_machines",
    _META,
    sa.Column("machine", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)
# `time_us` and what follows: the newest point's; for scores and aggregates only the time is kept.
SERIES: Final = sa.Table(
    "telemetry_series",
    _META,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("machine", sa.Text, nullable=False),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("time_us", sa.BigInteger),
    sa.Column("value", sa.Double),
    sa.Column("quality", sa.Integer),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("arrival_us", sa.BigInteger),
    sa.UniqueConstraint("machine", "kind", "name"),
)
LAYOUTS: Final = sa.Table(
    "telemetry_score_layouts",
    _META,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("alarm_limit", sa.Double, nullable=False),
    sa.Column("sensors", sa.Text, nullable=False),
    sa.UniqueConstraint("model", "alarm_limit", "sensors"),
)
RANGES: Final = sa.Table(
    "telemetry_row_ranges",
    _META,
    sa.Column("source", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("outcome", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("last", sa.BigInteger, nullable=False),
)
COUNTERS: Final = sa.Table(
    "telemetry_counters",
    _META,
    sa.Column("edge", sa.Text, primary_key=True),
    sa.Column("epoch", sa.LargeBinary, primary_key=True),
    sa.Column("duplicates", sa.BigInteger, nullable=False),
    sa.Column("conflicts", sa.BigInteger, nullable=False),
    sa.Column("redelivered", sa.BigInteger, nullable=False),
)
LATENESS: Final = sa.Table(
    "telemetry_lateness",
    _META,
    sa.Column("source", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("bound_us", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("late", sa.BigInteger, nullable=False),
    sa.Column("longest_us", sa.BigInteger, nullable=False),
    sa.Column("counts", sa.LargeBinary, nullable=False),
)
CONFLICTS: Final = sa.Table(
    "telemetry_conflicts",
    _META,
    sa.Column("seq", _ID, primary_key=True),
    sa.Column("machine", sa.Text, nullable=False),
    sa.Column("sensor", sa.Text, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("kept_source", sa.BigInteger, nullable=False),
    sa.Column("kept_row", sa.BigInteger, nullable=False),
    sa.Column("kept_value", sa.Double, nullable=False),
    sa.Column("lost_source", sa.BigInteger, nullable=False),
    sa.Column("lost_row", sa.BigInteger, nullable=False),
    sa.Column("lost_value", sa.Double, nullable=False),
)
EVENTS: Final = sa.Table(
    "telemetry_events",
    _META,
    sa.Column("seq", _ID, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("machine", sa.Text, nullable=False),
    sa.Column("occurred_us", sa.BigInteger, nullable=False),
    sa.Column("json", sa.LargeBinary, nullable=False),
    sa.Index("telemetry_events_by_machine", "machine", "occurred_us"),
    sa.Index("telemetry_events_by_time", "occurred_us"),
)
POSITIONS: Final = sa.Table(
    "telemetry_positions",
    _META,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Text, primary_key=True),
    sa.Column("offset", sa.BigInteger, nullable=False),
)
# Machine-hours whose rollups are not made from all their readings yet; every write of one counts.
DIRTY: Final = sa.Table(
    "telemetry_dirty_hours",
    _META,
    sa.Column("machine", sa.Text, primary_key=True),
    sa.Column("hour_us", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("touches", sa.BigInteger, nullable=False),
)
# Points as they were before a write that overwrites them and has not been settled: what a repeated one is judged by.
OVERWRITTEN: Final = sa.Table(
    "telemetry_overwritten",
    _META,
    sa.Column("series", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time_us", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("origin", sa.BigInteger, nullable=False),
    sa.Column("row", sa.BigInteger, nullable=False),
    sa.Column("arrival_us", sa.BigInteger, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
)
# Before which event time readings ("raw"), minutes and hours have expired.
EXPIRED: Final = sa.Table(
    "telemetry_expired",
    _META,
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("before_us", sa.BigInteger, nullable=False),
)
STORED: Final = 0
REJECTED: Final = 1
CONFLICTS_KEPT: Final = 10_000


def check(connection: sa.Connection) -> None:
    """Raises Unavailable while no writer has made the tables."""
    if not sa.inspect(connection).has_table(POSITIONS.name):
        raise Unavailable("the telemetry store's books have no tables yet: `ingest` makes them")
