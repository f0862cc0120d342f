"""nats-server for tests that every suite may use."""

from pathlib import Path

from deploy.servers.nats import Nats


class NatsServer(Nats):
    """A nats-server with JetStream, MQTT and one user `admin:secret` who may do everything."""

    def __init__(self, folder: Path, *, max_file_store: int = 1 << 30, sync: str = "always") -> None:
        super().__init__(folder, max_file_store=max_file_store, sync=sync)
        folder.mkdir(parents=True, exist_ok=True)
