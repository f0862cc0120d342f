"""Settings of a running agent: all of a change or none of it, and what was commanded stays over a restart."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.outbox import open_outbox
from edge.reload import Reload
from edge.settings import EdgeSettings
from shared.clock import SystemClock
from shared.errors import Rejected

BASE: dict[str, Any] = {
    "site": "s1",
    "edge": "e1",
    "machines": ["pump"],
    "devices": {"url": "mqtt://h", "client_id": "d"},
    "uplink": {"url": "mqtt://h", "client_id": "u"},
}


class File:
    """The settings' file."""

    def __init__(self, folder: Path) -> None:
        self.values: dict[str, Any] = {**BASE, "folder": str(folder)}

    def read(self, on_top: Mapping[str, Any]) -> EdgeSettings:
        return EdgeSettings.load(flags={**self.values, **on_top}, environ={})


async def test_commands_are_taken_whole_or_not_at_all_and_stay_over_a_restart(tmp_path: Path) -> None:
    file, taken = File(tmp_path), dict[str, float]()

    def wired(reload: Reload) -> Reload:
        reload.on("report_seconds", lambda new: taken.update(report=new.report_seconds))
        reload.on("receive_batch", lambda new: taken.update(batch=new.receive_batch))
        return reload

    clock = SystemClock()
    async with open_outbox(tmp_path / "outbox.db", site="s1", edge="e1", clock=clock) as outbox:
        reload = wired(Reload(file.read({}), file.read, outbox, clock))
        await reload.resume()
        assert taken == {}
        assert await reload.command({"report_seconds": 2.5}) == "changed report_seconds"
        assert await reload.command({"report_seconds": 2.5}) == "it was so already"
        for values, why in (
            ({"report_seconds": 3, "machines": ["fan"]}, "edge.machines can't change"),
            ({"report_seconds": 3, "receive_batch": 0}, "greater than or equal"),
            ({"colour": "red"}, "edge.colour can't change"),
        ):
            with pytest.raises(Rejected, match=why):
                await reload.command(values)
        assert taken == {"report": 2.5}
        assert reload.settings.report_seconds == 2.5
        taken.clear()
        again = wired(Reload(file.read({}), file.read, outbox, clock))
        await again.resume()
        assert taken == {"report": 2.5}
        assert await again.command({"report_seconds": None}) == "changed report_seconds"
        assert again.settings.report_seconds == file.read({}).report_seconds


async def test_the_file_is_read_at_a_signal_and_one_that_can_t_be_taken_changes_nothing(
    tmp_path: Path,
) -> None:
    file, hangup, news = File(tmp_path), asyncio.Event(), asyncio.Event()
    clock = SystemClock()
    async with open_outbox(tmp_path / "outbox.db", site="s1", edge="e1", clock=clock) as outbox:
        reload = Reload(file.read({}), file.read, outbox, clock)
        reload.on("report_seconds", lambda _: news.set())
        reload.on("receive_batch", lambda _: None)
        await reload.command({"receive_batch": 7})
        loop = asyncio.create_task(reload.reread(hangup))

        async def signalled() -> None:
            hangup.set()
            while hangup.is_set():
                await asyncio.sleep(0)

        file.values["report_seconds"] = 4
        await signalled()
        async with asyncio.timeout(5):
            await news.wait()
        assert (reload.settings.report_seconds, reload.settings.receive_batch) == (4, 7)
        file.values |= {"report_seconds": 5, "site": "s2"}
        await signalled()
        assert "edge.site can't change" in reload.refused
        file.values |= {"site": "s1", "report_seconds": -1}
        await signalled()
        assert "report_seconds" in reload.refused
        assert reload.settings.report_seconds == 4
        file.values |= {"report_seconds": 4}
        await signalled()
        assert reload.refused == ""
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        lone = Reload(file.read({}), None, outbox, clock)
        with pytest.raises(Rejected, match="without a way"):
            await lone.command({"report_seconds": 1})


async def test_what_was_commanded_and_fits_no_more_is_dropped_and_told(tmp_path: Path) -> None:
    file = File(tmp_path)
    clock = SystemClock()
    async with open_outbox(tmp_path / "outbox.db", site="s1", edge="e1", clock=clock) as outbox:
        await outbox.append([], {"settings": b'{"receive_batch": 7, "gone": 1}'})
        reload = Reload(file.read({}), file.read, outbox, clock)
        reload.on("receive_batch", lambda _: None)
        await reload.resume()
        assert "gone" in reload.refused
        assert reload.settings == file.read({})
