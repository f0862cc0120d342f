"""A server as a child process: started, waited for until it answers its own protocol, ended by its pid."""

import contextlib
import shutil
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

import psutil

from shared.errors import Misconfigured, Unavailable
from shared.settings import child_environment
from shared.supervise import free_ports

HOST: Final = "127.0.0.1"
_LOOK_S: Final = 0.02
_REAP_S: Final = 10.0
_AT_REST: Final = "TtZX"
_TAIL_BYTES: Final = 4000


class Server(ABC):
    """One server on the loopback with its data in `folder`; a port that is not given is a free one.

    `start` after `stop` or `kill` goes on with the same folder and port. Leaving the context kills.
    """

    name: ClassVar[str]
    """As `python -m deploy.servers` calls it."""
    scheme: ClassVar[str]
    ready_s: ClassVar[float] = 60.0
    """How long a start may take until the server answers."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_s: ClassVar[float] = 20.0
    """How long an orderly end may take before SIGKILL."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder.resolve()
        self.port = port or free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def install(cls) -> None:
        """Put the server on this machine, unless it is there. Raises Misconfigured, Unavailable."""

    @abstractmethod
    def prepare(self) -> None:
        """Write what the server reads at its start; what it wrote itself before stays."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command line, in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server takes a request now. OSError counts as no."""

    def environment(self) -> Mapping[str, str]:
        """What the server finds in its environment beside what is in ours."""
        return {}

    def user(self) -> str | None:
        """The account it runs as, None for ours. It may enter and write our own folders all the same."""
        return None

    def set_up(self) -> None:  # noqa: B027 - most servers need nothing
        """What is asked of the server right after each start."""

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{HOST}:{self.port}"

    @property
    def log_file(self) -> Path:
        """What the server printed, over all its lives."""
        return self.folder / "server.log"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's id. Raises RuntimeError when none was started or it was ended here."""
        return self._started().pid

    def start(self) -> Self:
        """Install if missing, start, and return once it answers. Raises Misconfigured, Unavailable."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already at {self.url}")
        self.install()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*run_as(self.user(), dies_with_us=True), *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=child_environment(**self.environment()),
                start_new_session=True,  # a terminal's Ctrl-C reaches us alone
            )
        try:
            self._wait_ready(self._process)
            self.set_up()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """End it in order: its signal for that, a wait, then SIGKILL. Nothing happens when it does not run."""
        if self._process is None:
            return
        family = _family(self._process.pid)
        self.resume()
        self._process.send_signal(self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.stop_s)
        self._kill(family)

    def kill(self) -> None:
        """End it and what it started with SIGKILL: nothing is flushed, nobody is told."""
        if self._process is None:
            return
        self._kill(_family(self._process.pid))

    def pause(self) -> None:
        """Freeze it with what it started, as a machine that hangs does: on return none of its threads runs any more."""
        for process in _family(self._started().pid):
            with contextlib.suppress(
                psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError
            ):  # a child may end meanwhile
                process.suspend()
                while not _frozen(process.pid):
                    time.sleep(_LOOK_S / 10)

    def resume(self) -> None:
        """Let it go on."""
        for process in _family(self._started().pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _kill(self, family: Sequence[psutil.Process]) -> None:
        """SIGKILL whoever is left; a child that lived on would hold the port or the data."""
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._started().wait(_REAP_S)
        psutil.wait_procs(family, timeout=_REAP_S)
        self._process = None

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    def _wait_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + self.ready_s
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if self.answers():
                    return
            except OSError:
                pass  # nobody listens yet, or hangs up on us while it comes up
            time.sleep(_LOOK_S)
        code = process.poll()
        what = f"did not answer within {self.ready_s:g} s" if code is None else f"ended with code {code}"
        raise Unavailable(f"{self.name} at {self.url} {what}; the end of {self.log_file}:\n{self._tail()}")

    def _tail(self) -> str:
        return self.log_file.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")


def run_as(user: str | None, *, dies_with_us: bool = False) -> tuple[str, ...]:
    """A prefix to a command line, by util-linux's setpriv.

    As another `user` (only root can), the command keeps root's way into every folder, for ours are often closed to
    all others; it stays that user. With `dies_with_us` the kernel kills the process when we die, however that comes
    about: where there is a setpriv, and for a start from the main thread, for it is the thread that the kernel
    watches and others end early. Raises Misconfigured.
    """
    options: list[str] = []
    if user is not None:
        options += ["--reuid", user, "--regid", user, "--clear-groups"]
        options += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    if dies_with_us and threading.current_thread() is threading.main_thread():
        options += ["--pdeathsig", "KILL"]
    wrapper = shutil.which("setpriv")
    if wrapper is None and user is not None:
        raise Misconfigured(f"running as {user} needs setpriv", hint="install util-linux, or don't be root")
    return (wrapper, *options, "--") if wrapper and options else ()


def _frozen(pid: int) -> bool:
    """Whether each thread has taken the signal: one that waits for a processor does so only when it gets it."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(") ")[2][0] in _AT_REST for thread in threads)


def _family(pid: int) -> list[psutil.Process]:
    """The process, then all below it; empty when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
