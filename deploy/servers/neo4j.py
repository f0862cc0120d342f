"""Neo4j's community edition, embedded in a launcher of ours (`Neo4jLauncher.java`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from deploy.servers.bolt import run_statement
from deploy.servers.install import java, maven_jars
from deploy.servers.process import HOST, Server

VERSION: Final = "5.26.12"
_LAUNCHER: Final = Path(__file__).with_name("Neo4jLauncher.java")
_OPENED: Final = ("java.base/java.nio", "java.base/java.io", "java.base/sun.nio.ch")


class Neo4j(Server):
    """A server with Bolt, for its user `neo4j` with `password`; no browser.

    `settings` are those of neo4j.conf over what stands here by default.
    """

    name: ClassVar[str] = "neo4j"
    scheme: ClassVar[str] = "bolt"
    username: ClassVar[str] = "neo4j"
    ready_s: ClassVar[float] = 300.0
    stop_s: ClassVar[float] = 60.0

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        password: str = "long secret",  # noqa: S107 - of a server on the loopback
        settings: Mapping[str, str] = {},
    ) -> None:
        super().__init__(folder, port=port)
        self.password = password
        self.settings = dict(settings)

    @classmethod
    def install(cls) -> None:
        """Fetch the jars."""
        _jars()

    def prepare(self) -> None:
        """Write the configuration and the password."""
        lines = {
            "server.bolt.enabled": "true",
            "server.bolt.listen_address": f"{HOST}:{self.port}",
            "server.bolt.advertised_address": f"{HOST}:{self.port}",
            "dbms.security.auth_enabled": "true",
            "dbms.usage_report.enabled": "false",
            "server.memory.pagecache.size": "64m",
            **self.settings,
        }
        self._config.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        self._password.touch(mode=0o600)
        self._password.write_text(self.password)

    def command(self) -> Sequence[str]:
        """One JVM, which compiles the launcher first."""
        options = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # up in half the time
        options += (f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED)
        arguments = [str(self.folder), str(self._config), str(self._password)]
        return [java(self.name), *options, "-cp", f"{_jars()}/*", str(_LAUNCHER), *arguments]

    def answers(self) -> bool:
        """Whether its user may run a statement."""
        return run_statement(self.port, self.username, self.password, "RETURN 1", wait=5.0) == [1]

    @property
    def _config(self) -> Path:
        return self.folder / "neo4j.conf"

    @property
    def _password(self) -> Path:
        return self.folder / "password"


def _jars() -> Path:
    return maven_jars(f"neo4j-{VERSION}", [f"org.neo4j:neo4j:{VERSION}"])
