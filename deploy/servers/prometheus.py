"""Prometheus, from Debian."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from deploy.servers.install import debian
from deploy.servers.probes import http_ok
from deploy.servers.process import HOST, Server


class Prometheus(Server):
    """A server that scrapes itself each second.

    `config` holds top-level keys of prometheus.yml (`scrape_configs`, `rule_files` …) over what stands there by
    default, `settings` flags without their dashes.
    """

    name: ClassVar[str] = "prometheus"
    scheme: ClassVar[str] = "http"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        config: Mapping[str, Any] = {},
        settings: Mapping[str, str] = {},
    ) -> None:
        super().__init__(folder, port=port)
        self.config = dict(config)
        self.settings = dict(settings)

    @classmethod
    def install(cls) -> None:
        """Debian's package, which brings promtool too."""
        debian("prometheus", program="prometheus")

    def prepare(self) -> None:
        """Write prometheus.yml."""
        itself = {"job_name": "prometheus", "static_configs": [{"targets": [f"{HOST}:{self.port}"]}]}
        document = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [itself],
            **self.config,
        }
        self._file.write_text(yaml.safe_dump(document))

    def command(self) -> Sequence[str]:
        """Its data below the folder."""
        flags = {
            "config.file": str(self._file),
            "storage.tsdb.path": str(self.folder / "data"),
            "web.listen-address": f"{HOST}:{self.port}",
            "log.level": "warn",
            **self.settings,
        }
        program = debian("prometheus", program="prometheus")
        return [program, *(f"--{key}={value}" for key, value in flags.items())]

    def answers(self) -> bool:
        """Whether it takes queries."""
        return http_ok(self.port, "/-/ready")

    @property
    def _file(self) -> Path:
        return self.folder / "prometheus.yml"
