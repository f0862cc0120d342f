import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from shared import supervise
from shared.supervise import BoundedLog, Child, Supervisor, free_ports

ECHO = "import sys\nfor line in sys.stdin: print('got', line.strip(), flush=True)"


def child(name: str, code: str, folder: Path, on_line: Callable[[str], None] | None = None) -> Child:
    return Child(name, (sys.executable, "-c", code), folder / f"{name}.log", on_line=on_line)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_killed_child_comes_back_and_is_told_its_lines_again(tmp_path: Path) -> None:
    lines: list[str] = []
    supervisor = Supervisor()
    await supervisor.start(child("echo", ECHO, tmp_path, lines.append))
    supervisor.send("echo", "fault")
    await until(lambda: lines == ["got fault"])
    first = supervisor.pid("echo")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: lines == ["got fault", "got fault"])
    assert supervisor.pid("echo") != first
    assert supervisor.restarts() == {"echo": 1}
    await supervisor.stop()
    assert supervisor.pid("echo") is None


async def test_stop_ends_children_in_reverse_order_and_kills_the_stubborn(tmp_path: Path) -> None:
    ended: list[str] = []
    polite = (
        "import signal,sys\n"
        "def bye(*_): print('NAME', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, bye)\nprint('up', flush=True)\nsignal.pause()"
    )
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\nsignal.pause()"
    supervisor = Supervisor()
    for name in ("first", "second"):
        await supervisor.start(child(name, polite.replace("NAME", name), tmp_path, ended.append))
    await supervisor.start(child("stubborn", stubborn, tmp_path, ended.append))
    await until(lambda: ended.count("up") == 3)
    await supervisor.stop(grace=0.5)
    assert [line for line in ended if line != "up"] == ["second", "first"]
    assert supervisor.pid("stubborn") is None


async def test_a_child_that_is_not_restarted_gives_its_exit_code(tmp_path: Path) -> None:
    supervisor = Supervisor()
    await supervisor.start(
        Child(
            "once",
            (sys.executable, "-c", "raise SystemExit(7)"),
            tmp_path / "once.log",
            restart="never",
            nice=1,
        )
    )
    assert await supervisor.wait("once") == 7
    await supervisor.stop()


async def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import asyncio,sys\nfrom pathlib import Path\nfrom shared.supervise import Child, Supervisor\n"
        "async def main():\n"
        "  s = Supervisor()\n"
        f"  await s.start(Child('c', (sys.executable, '-c', 'import signal; signal.pause()'), Path({str(tmp_path / 'c.log')!r})))\n"
        "  print(s.pid('c'), flush=True)\n  await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    grandchild = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()

    def gone() -> bool:
        return (
            not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
        )

    await until(gone)


async def test_standard_error_and_unclaimed_output_go_to_the_log(tmp_path: Path) -> None:
    supervisor = Supervisor()
    code = "import sys; print('out'); print('err', file=sys.stderr); print('x' * 2_000_000); print('after')"
    await supervisor.start(
        Child("talks", (sys.executable, "-c", code), tmp_path / "talks.log", restart="on-failure")
    )
    await supervisor.wait("talks")
    lines = (tmp_path / "talks.log").read_text().splitlines()
    assert {"out", "err", "after"} <= set(lines)


def test_a_log_keeps_two_files_of_its_bound(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "x.log", limit=100)
    for number in range(50):
        log.write(b"line %04d\n" % number)
    log.close()
    assert (tmp_path / "x.log").stat().st_size <= 100
    assert (tmp_path / "x.log.1").stat().st_size <= 100
    assert (tmp_path / "x.log").read_bytes().endswith(b"line 0049\n")


async def test_stop_ends_although_a_grandchild_holds_the_pipes(tmp_path: Path) -> None:
    code = (
        "import signal,subprocess,sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print('up', flush=True)\nsignal.pause()"
    )
    lines: list[str] = []
    supervisor = Supervisor()
    await supervisor.start(child("parent", code, tmp_path, lines.append))
    await until(lambda: lines == ["up"])
    async with asyncio.timeout(10):
        await supervisor.stop(grace=0.2)
    assert supervisor.pid("parent") is None


def test_a_port_that_was_just_given_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "PORTS", 100)
    given = [free_ports(1)[0] for _ in range(40)]
    assert len(set(given)) == 40
