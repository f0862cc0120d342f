"""Chroma's server, from its wheel in an environment of its own: its many dependencies are no business of ours."""

import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from deploy.servers.cache import cached
from deploy.servers.install import run
from deploy.servers.probes import http_ok
from deploy.servers.process import HOST, Server

VERSION: Final = "1.5.9"


class Chroma(Server):
    """A server of vector collections without a password.

    `settings` are flags of `chroma run` without their dashes.
    """

    name: ClassVar[str] = "chroma"
    scheme: ClassVar[str] = "http"
    ready_s: ClassVar[float] = 60.0

    def __init__(self, folder: Path, *, port: int | None = None, settings: Mapping[str, str] = {}) -> None:
        super().__init__(folder, port=port)
        self.settings = dict(settings)

    @classmethod
    def install(cls) -> None:
        """Install the wheel."""
        _python()

    def prepare(self) -> None:
        """It makes its files itself."""

    def command(self) -> Sequence[str]:
        """What the script `chroma` runs, which would not have survived the environment's renaming."""
        flags = {"host": HOST, "port": str(self.port), "path": str(self.folder / "data"), **self.settings}
        arguments = [part for key, value in flags.items() for part in (f"--{key}", value)]
        return [str(_python()), "-c", "from chromadb.cli.cli import app; app()", "run", *arguments]

    def environment(self) -> Mapping[str, str]:
        """It tells nobody of us."""
        return {"ANONYMIZED_TELEMETRY": "False"}

    def answers(self) -> bool:
        """Whether its heart beats."""
        return http_ok(self.port, "/api/v2/heartbeat")


def _python() -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return cached(f"chroma-{VERSION}-python{version}", _install) / "bin" / "python"


def _install(folder: Path) -> None:
    venv.create(folder, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    run([*pip, "install", "--no-compile", f"chromadb=={VERSION}"])
