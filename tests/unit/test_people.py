"""Login links: kept as hashes, used once, gone after ten minutes, over a restart too."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cloud.people.logic import ATTEMPTS, LIFE_US, MAX_OPEN, Attempts, digest
from cloud.people.port import open_login_links
from shared.clock import ManualClock
from shared.errors import Misconfigured, NotFound, Unavailable


def stored(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(path)) as db:
        return [bytes(key) for (key,) in db.execute("SELECT digest FROM login_links")]


async def test_a_link_works_once_and_survives_a_restart(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "new" / "app.db"
    async with open_login_links(f"sqlite:///{path}", clock) as links:
        link = await links.make()
        assert len(link.code) == 43
        assert link.expires_us == clock.now_us() + LIFE_US
    assert stored(path) == [digest(link.code)]
    assert path.stat().st_mode & 0o777 == 0o600
    async with open_login_links(f"sqlite:///{path}", clock) as links:
        with pytest.raises(NotFound):
            await links.redeem("unknown")
        both = await asyncio.gather(*(links.redeem(link.code) for _ in range(5)), return_exceptions=True)
        assert sorted(type(one).__name__ for one in both) == ["NoneType", *["NotFound"] * 4]
    assert stored(path) == []


async def test_a_link_expires_and_goes(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "app.db"
    async with open_login_links(f"sqlite:///{path}", clock) as links:
        old = await links.make()
        await clock.advance(600)
        with pytest.raises(NotFound):
            await links.redeem(old.code)
        await links.make()
        assert len(stored(path)) == 1


async def test_open_links_are_bounded(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "app.db"
    async with open_login_links(f"sqlite:///{path}", clock) as links:
        first = await links.make()
        for _ in range(MAX_OPEN):
            await clock.advance(0.001)
            last = await links.make()
        assert len(stored(path)) == MAX_OPEN
        with pytest.raises(NotFound):
            await links.redeem(first.code)
        await links.redeem(last.code)


async def test_a_locked_file_is_waited_for_and_then_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.people.sqlite._BUSY_MS", 10)
    path = tmp_path / "app.db"
    async with open_login_links(f"sqlite:///{path}", ManualClock()) as links:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable):
                await links.make()


async def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    async def opened(url: str) -> None:
        async with open_login_links(url, ManualClock()):
            pass

    (tmp_path / "text.db").write_text("no database, and longer than a header of one hundred bytes " * 3)
    with closing(sqlite3.connect(tmp_path / "later.db")) as db:
        db.execute("PRAGMA user_version = 9")
    (tmp_path / "file").touch()
    for url in ("text.db", "later.db", "file/app.db"):
        with pytest.raises(Misconfigured):
            await opened(f"sqlite:///{tmp_path}/{url}")
    with pytest.raises(Misconfigured):
        await opened("redis://localhost")


def test_ten_failures_a_minute() -> None:
    attempts = Attempts()
    for second in range(ATTEMPTS):
        assert attempts.wait(float(second)) == 0.0
        attempts.fail(float(second))
    assert attempts.wait(9.5) == 50.5
    assert attempts.wait(60.0) == 0.0
