"""SQL databases: transactions, errors as ours, migrations."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from shared.errors import Conflict, Misconfigured, Unavailable
from shared.sqlalchemy import Database, migrate, open_database

STEP = '''"""{name}."""

import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = {before!r}


def upgrade() -> None:
    """Up."""
    {body}
'''


def steps(folder: Path, *bodies: str) -> Path:
    """A migrations folder with a step for each body."""
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    for number, body in enumerate(bodies, 1):
        before = f"{number - 1:04}" if number > 1 else None
        text = STEP.format(name=f"{number:04}", before=before, body=body)
        (folder / "versions" / f"{number:04}_step.py").write_text(text)
    return folder


MAKE = 'op.create_table("things", sa.Column("name", sa.Text, primary_key=True))'
ADD = 'op.add_column("things", sa.Column("size", sa.Integer))'


async def names(database: Database) -> list[str]:
    return await database.read(
        lambda c: list(c.execute(text("SELECT name FROM things ORDER BY name")).scalars())
    )


def insert(name: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(text("INSERT INTO things (name) VALUES (:name)"), {"name": name})

    return work


async def test_steps_run_once_and_in_order_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/folder/app.db"
    async with open_database(url, setting="api.app_url") as database:
        await migrate(database, "things", steps(tmp_path / "m", MAKE))
        await database.write(insert("a"))
        await migrate(database, "things", tmp_path / "m")
        steps(tmp_path / "m", MAKE, ADD, 'raise RuntimeError("broken")')
        with pytest.raises(RuntimeError, match="broken"):
            await migrate(database, "things", tmp_path / "m")
        with pytest.raises(Unavailable, match="size"):
            await database.read(lambda c: c.execute(text("SELECT size FROM things")).all())
        (tmp_path / "m/versions/0003_step.py").unlink()
        await migrate(database, "things", tmp_path / "m")
        assert await database.read(lambda c: c.execute(text("SELECT name, size FROM things")).all()) == [
            ("a", None)
        ]
    assert (tmp_path / "folder/app.db").stat().st_mode & 0o077 == 0


async def test_tables_of_a_later_release_are_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    async with open_database(url, setting="api.app_url") as database:
        await migrate(database, "things", steps(tmp_path / "later", MAKE, ADD))
        with pytest.raises(Misconfigured, match="revision 0002"):
            await migrate(database, "things", steps(tmp_path / "now", MAKE))


async def test_a_transaction_is_all_or_nothing_and_errors_are_ours(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/app.db", setting="api.app_url") as database:
        await migrate(database, "things", steps(tmp_path / "m", MAKE))

        def twice(connection: Connection) -> None:
            for _ in range(2):
                connection.execute(text("INSERT INTO things (name) VALUES ('a')"))

        with pytest.raises(Conflict):
            await database.write(twice)
        assert await names(database) == []
        await asyncio.gather(*(database.write(insert(f"{i:02}")) for i in range(20)))
        assert len(await names(database)) == 20


async def test_what_can_not_be_a_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all " * 100)
    with pytest.raises(Misconfigured, match="not a database"):
        async with open_database(f"sqlite:///{tmp_path}/text.db", setting="x") as database:
            await database.read(lambda c: c.execute(text("SELECT 1")).all())
    with pytest.raises(Misconfigured, match="mysql"):
        async with open_database("mysql://localhost/a", setting="api.app_url"):
            pass


async def test_a_server_that_is_away_is_waited_for() -> None:
    async with open_database("postgresql://a:b@127.0.0.1:1/x", setting="api.app_url") as database:
        assert "b@" not in database.name
        with pytest.raises(Unavailable):
            await database.read(lambda c: c.execute(text("SELECT 1")).all())


async def test_work_behind_one_that_hangs_is_given_up_and_never_begins(tmp_path: Path) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_: Connection) -> None:
        hangs.set()
        assert goes_on.wait(60)

    async with open_database(f"sqlite:///{tmp_path}/app.db", setting="api.app_url") as database:
        await migrate(database, "things", steps(tmp_path / "m", MAKE))
        hanging = asyncio.create_task(database.write(hang))
        assert await asyncio.to_thread(hangs.wait, 60)
        with pytest.raises(Unavailable, match="did not answer"):
            await database.write(insert("given up"), answer_seconds=0.01)
        await database.ping()
        goes_on.set()
        await hanging
        await database.write(insert("after"))
        assert await names(database) == ["after"]


async def test_two_parts_that_read_before_they_write_wait_for_each_other(tmp_path: Path) -> None:
    """Each has the file open by itself, as services of one plant do."""
    url = f"sqlite:///{tmp_path}/a.db"
    async with open_database(url, setting="x") as one, open_database(url, setting="x") as other:
        await migrate(one, "things", steps(tmp_path / "steps", MAKE))

        def add_next(connection: Connection) -> None:
            count = connection.execute(text("SELECT count(*) FROM things")).scalar_one()
            insert(f"{count:04}")(connection)

        for _ in range(20):
            await asyncio.gather(*(each.write(add_next) for each in (one, other)))
        assert await names(one) == [f"{n:04}" for n in range(40)]
