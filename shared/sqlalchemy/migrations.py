"""Bringing a database's tables up to this release, by alembic.

Each service keeps its own steps in its folder `migrations/versions/` and its own version table, so that services
share a database without sharing a history. Steps are pure SQLAlchemy and run on SQLite and PostgreSQL alike.
"""

from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from sqlalchemy import Connection, text

from shared.errors import Misconfigured
from shared.sqlalchemy.database import Database

_LOCK: Final = 0x1D4A7A  # of PostgreSQL: processes that start together migrate one after another


async def migrate(database: Database, service: str, folder: Path) -> None:
    """Run the steps of `folder` (with `versions/` in it) that the database lacks, all in one transaction.

    Raises Misconfigured if a later release wrote the tables, Unavailable.
    """
    script = ScriptDirectory.from_config(_config(folder))

    def work(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        else:
            connection.exec_driver_sql("END")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        context = MigrationContext.configure(connection, opts={"version_table": f"{service}_version"})
        head = script.get_current_head()
        now = context.get_current_revision()
        if now == head:
            return
        try:
            steps = list(script.iterate_revisions(head, now)) if head else []
        except RevisionError as error:
            raise Misconfigured(
                f"{database.name} holds {service} of revision {now}, which this release does not know",
                hint="use the release that wrote it, or a newer one",
            ) from error
        with Operations.context(context):
            context._ensure_version_table()  # noqa: SLF001 - alembic's own runner does the same
            for step in reversed(steps):
                step.module.upgrade()
        version = context._version  # noqa: SLF001 - the same
        connection.execute(version.delete())
        connection.execute(version.insert().values(version_num=head))

    await database.write(work, answer_seconds=None)


def _config(folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    return config
