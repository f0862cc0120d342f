"""The tables as statements name them; `migrations` makes them."""

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()

USERS: Final = sa.Table(
    "users",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("display_name", sa.String),
    sa.Column("role", sa.String),
    sa.Column("active", sa.Boolean),
    sa.Column("subject", sa.String),
    sa.Column("password", sa.String),
    sa.Column("created_us", sa.BigInteger),
)
TOKENS: Final = sa.Table(
    "api_tokens",
    METADATA,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("id", sa.String),
    sa.Column("owner", sa.String),
    sa.Column("label", sa.String),
    sa.Column("scopes", sa.String),
    sa.Column("created_us", sa.BigInteger),
    sa.Column("expires_us", sa.BigInteger),
    sa.Column("used_us", sa.BigInteger),
)
SESSIONS: Final = sa.Table(
    "sessions",
    METADATA,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("id", sa.String),
    sa.Column("owner", sa.String),
    sa.Column("method", sa.String),
    sa.Column("created_us", sa.BigInteger),
    sa.Column("expires_us", sa.BigInteger),
    sa.Column("seen_us", sa.BigInteger),
)
LINKS: Final = sa.Table(
    "login_links",
    METADATA,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("expires_us", sa.BigInteger),
)
KEYS: Final = sa.Table(
    "signing_keys",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("pair", sa.Text),
    sa.Column("created_us", sa.BigInteger),
    sa.Column("until_us", sa.BigInteger),
)
OUTBOX: Final = sa.Table(
    "audit_outbox",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("event", sa.LargeBinary),
    sa.Column("id", sa.String),
    sa.Column("spare", sa.Boolean),
)
