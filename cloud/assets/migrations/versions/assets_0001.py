"""Assets, counters, work orders, the requests that were carried out, and the log's positions that all show."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "assets",
        sa.Column("kind", _ID, primary_key=True),
        sa.Column("id", _ID, primary_key=True),
        sa.Column("machine", _ID, nullable=False),
        sa.Column("site", _ID, nullable=False),
        sa.Column("area", _ID, nullable=False),
        sa.Column("edge", _ID, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("retired", sa.Boolean, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("assets_machine", "assets", ["machine"])
    op.create_table(
        "asset_counters",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("owner", _ID, nullable=False),
        sa.Column("machine", _ID, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "work_orders",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False, unique=True),
        sa.Column("status", _ID, nullable=False),
        sa.Column("machine", _ID, nullable=False),
        sa.Column("component", _ID, nullable=False),
        sa.Column("anomaly", _ID, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "asset_requests",
        sa.Column("key", _ID, primary_key=True),
        sa.Column("seq", sa.Integer, nullable=False, unique=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
    )
    op.create_table(
        "asset_positions",
        sa.Column("topic", _ID, primary_key=True),
        sa.Column("partition", _ID, primary_key=True),
        sa.Column("offset", sa.BigInteger, nullable=False),
    )
