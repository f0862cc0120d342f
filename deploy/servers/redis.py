"""Redis, from Debian."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from deploy.servers.install import debian
from deploy.servers.probes import exchange
from deploy.servers.process import HOST, Server


class Redis(Server):
    """A server without a password that appends each write to its log before it answers.

    `settings` are directives of redis.conf over what stands here by default.
    """

    name: ClassVar[str] = "redis"
    scheme: ClassVar[str] = "redis"

    def __init__(self, folder: Path, *, port: int | None = None, settings: Mapping[str, str] = {}) -> None:
        super().__init__(folder, port=port)
        self.settings = dict(settings)

    @classmethod
    def install(cls) -> None:
        """Debian's package."""
        debian("redis-server", program="redis-server")

    def prepare(self) -> None:
        """All it reads is on its command line."""

    def command(self) -> Sequence[str]:
        """In the foreground, which is its way without `daemonize`."""
        directives = {
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self.folder),
            "appendonly": "yes",
            "save": "",
            **self.settings,
        }
        pairs = [part for key, value in directives.items() for part in (f"--{key}", value)]
        return [debian("redis-server", program="redis-server"), *pairs]

    def answers(self) -> bool:
        """Whether it answers PING; it refuses while it still loads its log."""
        return exchange(self.port, b"PING\r\n", 7) == b"+PONG\r\n"
