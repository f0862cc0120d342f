"""People, their tokens and sessions, login links, signing keys, and audit events on their way to the log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables. `login_links` of an older release goes: what is in it works for ten minutes at most."""
    if sa.inspect(op.get_bind()).has_table("login_links"):
        op.drop_table("login_links")
    op.create_table(
        "users",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("display_name", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("subject", sa.String(600), unique=True),
        sa.Column("password", sa.String(500)),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "api_tokens",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("id", sa.String(40), nullable=False, unique=True),
        sa.Column("owner", sa.String(100), sa.ForeignKey("users.name"), nullable=False, index=True),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
        sa.Column("used_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("id", sa.String(40), nullable=False, unique=True),
        sa.Column("owner", sa.String(100), sa.ForeignKey("users.name"), nullable=False, index=True),
        sa.Column("method", sa.String(20), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
        sa.Column("seen_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "login_links",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.String(60), primary_key=True),
        sa.Column("pair", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "audit_outbox",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.Identity(),
            primary_key=True,
        ),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("spare", sa.Boolean, nullable=False),
    )
