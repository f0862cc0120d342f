"""SQL databases behind a URL, SQLite or PostgreSQL, for what is kept in tables: opened, migrated, errors mapped."""

from shared.sqlalchemy.database import Database, open_database
from shared.sqlalchemy.migrations import migrate

__all__ = ["Database", "migrate", "open_database"]
