"""Real servers for tests: on free ports of the loopback, data in a temporary folder, stopped by their own pid."""

import signal
import socket
import subprocess
import time
from pathlib import Path

from industrialmind.embedded import server_binary
from shared.supervise import free_ports

READY_S = 15.0


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return once something greets on `port`; fail with the log if the process ended or took too long."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as opened:
                if opened.recv(4):
                    return
        except OSError:
            time.sleep(0.01)  # between two looks, not to make a test pass
    raise AssertionError(f"the server did not come up:\n{log.read_text()}")


class NatsServer:
    """A nats-server with JetStream, MQTT and one user `admin:secret` who may do everything."""

    def __init__(self, folder: Path, *, max_file_store: int = 1 << 30, sync: str = "always") -> None:
        self.folder = folder
        self.max_file_store = max_file_store
        self.port, self.mqtt_port = free_ports(2)
        self.url = f"nats://127.0.0.1:{self.port}"
        self.credentials = "admin:secret"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "server.log"
        self._config = folder / "nats.conf"
        self._config.write_text(f"""
            server_name: test
            listen: "127.0.0.1:{self.port}"
            max_payload: 1MB
            jetstream {{ store_dir: "{folder / "store"}", sync_interval: {sync}, max_file_store: {max_file_store} }}
            mqtt {{ listen: "127.0.0.1:{self.mqtt_port}", ack_wait: "5s", max_ack_pending: 20000 }}
            authorization {{ timeout: 10, users: [ {{ user: admin, password: secret }} ] }}
        """)

    def start(self) -> "NatsServer":
        """Start and return once it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [server_binary(), "-c", str(self._config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        wait_for_port(self.port, self._process, self._log)
        return self

    def kill(self) -> None:
        """End it with SIGKILL: nothing is flushed, nobody is told."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Freeze it, as a machine that hangs does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(READY_S)
            self._process = None
