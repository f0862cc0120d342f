"""MLflow's tracking server, from this Python environment."""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from deploy.servers.probes import http_ok
from deploy.servers.process import HOST, Server
from shared.errors import Misconfigured


class MLflow(Server):
    """A server without a password: runs and models in SQLite, artifacts in files, both below the folder.

    `settings` are flags of `mlflow server` without their dashes.
    """

    name: ClassVar[str] = "mlflow"
    scheme: ClassVar[str] = "http"
    ready_s: ClassVar[float] = 180.0

    def __init__(self, folder: Path, *, port: int | None = None, settings: Mapping[str, str] = {}) -> None:
        super().__init__(folder, port=port)
        self.settings = dict(settings)

    @classmethod
    def install(cls) -> None:
        """It comes with the extra `train`. Raises Misconfigured."""
        if importlib.util.find_spec("mlflow") is None:
            raise Misconfigured("mlflow is not installed", hint="install the extra train, or run make setup")

    def prepare(self) -> None:
        """It makes its files itself."""

    def command(self) -> Sequence[str]:
        """One worker."""
        flags = {
            "host": HOST,
            "port": str(self.port),
            "workers": "1",
            "backend-store-uri": f"sqlite:///{self.folder / 'mlflow.db'}",
            "artifacts-destination": str(self.folder / "artifacts"),
            **self.settings,
        }
        return [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            *(f"--{key}={value}" for key, value in flags.items()),
        ]

    def environment(self) -> Mapping[str, str]:
        """It tells nobody of us, and runs no jobs, for which it would start processes of its own."""
        return {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def answers(self) -> bool:
        """Whether it calls itself well."""
        return http_ok(self.port, "/health")
