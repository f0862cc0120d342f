"""What all servers share: one installation for many processes, and clear words when something is missing."""

import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from deploy.servers.cache import cached
from deploy.servers.catalog import server_class
from deploy.servers.install import maven_jars, needed, run
from deploy.servers.process import Server
from shared.errors import Misconfigured, NotFound, Unavailable
from shared.settings import SERVERS_CACHE_VARIABLE, servers_cache_dir


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SERVERS_CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


class Script(Server):
    """A server that is a few lines of Python."""

    name = "script"
    scheme = "tcp"
    ready_s = 20.0
    stop_s = 0.2
    code = ""
    ready = "up"

    @classmethod
    def install(cls) -> None:
        pass

    def prepare(self) -> None:
        pass

    def command(self) -> Sequence[str]:
        return [sys.executable, "-u", "-c", self.code]

    def answers(self) -> bool:
        return self.ready in self.log_file.read_text()


def test_a_thing_is_made_once_however_many_ask(cache: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.02)  # long enough for the others to come
        (folder / "it").write_text("whole")

    def ask() -> None:
        assert (cached("thing-1", make) / "it").read_text() == "whole"

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert cached("thing-1", make) == cache / "thing-1"


def test_a_making_that_fails_or_was_killed_looks_unfinished(cache: Path) -> None:
    (cache / ".thing-1-left").mkdir(parents=True)

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise Unavailable("the network is away")

    with pytest.raises(Unavailable):
        cached("thing-1", fail)
    assert [path.name for path in cache.iterdir()] == ["thing-1.lock"]


def test_the_cache_is_below_home_if_not_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVERS_CACHE_VARIABLE, raising=False)
    assert servers_cache_dir() == Path.home() / ".cache" / "industrialmind" / "servers"


def test_what_is_missing_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(Misconfigured, match=r"kafka-9 needs mvn(?s:.*)install Maven"):
        maven_jars("kafka-9", ["a:b:9"])
    with pytest.raises(Misconfigured, match="neo4j needs nothing-like-it"):
        needed("nothing-like-it", server="neo4j", hint="")
    with pytest.raises(NotFound, match="no server 'oracle', only chroma, influxdb, kafka"):
        server_class("oracle")


def test_a_step_that_fails_shows_what_it_said() -> None:
    assert run([sys.executable, "-c", "print(input())"], stdin="said\n") == "said\n"
    with pytest.raises(Unavailable, match=r"code 3:\nno such module"):
        run([sys.executable, "-c", "print('no such module'); raise SystemExit(3)"])


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    server = Script(tmp_path)
    server.code = "print('the port is taken'); raise SystemExit(4)"
    with pytest.raises(Unavailable, match=r"ended with code 4(?s:.*)the port is taken"):
        server.start()
    assert not server.running
    with pytest.raises(RuntimeError, match="was not started"):
        _ = server.pid


def test_a_server_that_never_answers_is_ended(tmp_path: Path) -> None:
    class Impatient(Script):
        ready_s = 0.05

    server = Impatient(tmp_path)
    server.code = "import time; time.sleep(60)"
    with pytest.raises(Unavailable, match=r"did not answer within 0\.05 s"):
        server.start()
    assert not server.running


def test_one_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    server = Script(tmp_path)
    server.code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('up', child.pid); time.sleep(60)\n"
    )
    with server:
        with pytest.raises(RuntimeError, match="runs already"):
            server.start()
        server.pause()
        server.resume()
        pids = [server.pid, *(child.pid for child in psutil.Process(server.pid).children())]
        assert len(pids) == 2
        server.stop()
        assert not [pid for pid in pids if psutil.pid_exists(pid) and not gone(pid)]
        server.stop()
        server.kill()  # nothing is left to end


def gone(pid: int) -> bool:
    """A process that has ended, though its parent (init, that is) has not taken note."""
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_signal_of_an_orderly_end_is_a_servers_own(tmp_path: Path) -> None:
    class Polite(Script):
        stop_s = 20.0
        stop_signal = signal.SIGINT  # as PostgreSQL's

    server = Polite(tmp_path)
    server.code = (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's & ignores it
        "try:\n    print('up'); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('goodbye')\n"
    )
    server.start()
    server.stop()
    assert server.log_file.read_text() == "up\ngoodbye\n"
