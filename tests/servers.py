"""nats-server for tests that every suite may use."""

from pathlib import Path

from deploy.servers.nats import Nats


class NatsServer(Nats):
    """A nats-server with JetStream, MQTT and one user `admin:secret` who may do everything."""

    def __init__(
        self, folder: Path, *, max_file_store: int = 1 << 30, sync: str = "always", max_ack_pending: int = 0
    ) -> None:
        super().__init__(folder, max_file_store=max_file_store, sync=sync)
        if max_ack_pending:  # all subscriptions of a session together may have 65,535
            listen = f'listen: "127.0.0.1:{self.mqtt_port}", ack_wait: "5s"'
            self.settings["mqtt"] = f"{{ {listen}, max_ack_pending: {max_ack_pending} }}"
        folder.mkdir(parents=True, exist_ok=True)
