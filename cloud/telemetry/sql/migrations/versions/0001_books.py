"""The books of a telemetry store."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "telemetry_sources",
        sa.Column("id", key, primary_key=True),
        sa.Column("edge", sa.Text, nullable=False),
        sa.Column("epoch", sa.LargeBinary, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("edge", "epoch"),
    )
    op.create_table(
        "telemetry_origins",
        sa.Column("id", key, primary_key=True),
        sa.Column("source", sa.BigInteger, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.UniqueConstraint("source", "unit"),
    )
    op.create_table(
        "telemetry_machines",
        sa.Column("machine", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "telemetry_series",
        sa.Column("id", key, primary_key=True),
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
    op.create_table(
        "telemetry_score_layouts",
        sa.Column("id", key, primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("alarm_limit", sa.Double, nullable=False),
        sa.Column("sensors", sa.Text, nullable=False),
        sa.UniqueConstraint("model", "alarm_limit", "sensors"),
    )
    op.create_table(
        "telemetry_row_ranges",
        sa.Column("source", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("outcome", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "telemetry_counters",
        sa.Column("edge", sa.Text, primary_key=True),
        sa.Column("epoch", sa.LargeBinary, primary_key=True),
        sa.Column("duplicates", sa.BigInteger, nullable=False),
        sa.Column("conflicts", sa.BigInteger, nullable=False),
        sa.Column("redelivered", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "telemetry_lateness",
        sa.Column("source", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("stage", sa.Text, primary_key=True),
        sa.Column("bound_us", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("late", sa.BigInteger, nullable=False),
        sa.Column("longest_us", sa.BigInteger, nullable=False),
        sa.Column("counts", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "telemetry_conflicts",
        sa.Column("seq", key, primary_key=True),
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
    op.create_table(
        "telemetry_events",
        sa.Column("seq", key, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("occurred_us", sa.BigInteger, nullable=False),
        sa.Column("json", sa.LargeBinary, nullable=False),
    )
    op.create_index("telemetry_events_by_machine", "telemetry_events", ["machine", "occurred_us"])
    op.create_index("telemetry_events_by_time", "telemetry_events", ["occurred_us"])
    op.create_table(
        "telemetry_positions",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Text, primary_key=True),
        sa.Column("offset", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "telemetry_dirty_hours",
        sa.Column("machine", sa.Text, primary_key=True),
        sa.Column("hour_us", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("touches", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "telemetry_overwritten",
        sa.Column("series", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time_us", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("origin", sa.BigInteger, nullable=False),
        sa.Column("row", sa.BigInteger, nullable=False),
        sa.Column("arrival_us", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
    )
    op.create_table(
        "telemetry_expired",
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("before_us", sa.BigInteger, nullable=False),
    )
