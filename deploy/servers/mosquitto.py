"""Eclipse Mosquitto, from Debian."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from deploy.servers.install import debian, run
from deploy.servers.probes import mqtt_accepts
from deploy.servers.process import HOST, Server


class Mosquitto(Server):
    """A broker for MQTT 3.1.1 and 5 with one user who may do everything; nobody else comes in.

    It queues without limit (`max_queued_messages 0`) for sessions that are away, and sends up to 20,000 messages that
    are not acknowledged yet; a client's Receive Maximum (MQTT 5) goes before that. With `persistence` the sessions and
    queues are written every 5 s, on `save`, and at an orderly stop: `kill` loses what came after the latest of these.
    Without it a restart forgets every session. `settings` go into the configuration over what stands there by default.
    """

    name: ClassVar[str] = "mosquitto"
    scheme: ClassVar[str] = "mqtt"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        persistence: bool = True,
        username: str = "im",
        password: str = "secret",  # noqa: S107 - of a server on the loopback
        settings: Mapping[str, str] = {},
    ) -> None:
        super().__init__(folder, port=port)
        self.persistence = persistence
        self.username = username
        self.password = password
        self.settings = dict(settings)

    @property
    def credentials(self) -> str:
        """As `user:password`."""
        return f"{self.username}:{self.password}"

    @classmethod
    def install(cls) -> None:
        """Debian's package."""
        debian("mosquitto", program="mosquitto")

    def prepare(self) -> None:
        """Write the password file and the configuration."""
        self._passwords.touch(mode=0o600)
        self._passwords.write_text(f"{self.username}:{self.password}\n")
        run([debian("mosquitto", program="mosquitto_passwd"), "-U", str(self._passwords)])  # hash it
        lines = {
            "listener": f"{self.port} {HOST}",
            "allow_anonymous": "false",
            "password_file": str(self._passwords),
            "persistence": "true" if self.persistence else "false",
            "persistence_location": f"{self.folder}/",
            "autosave_interval": "5",
            "set_tcp_nodelay": "true",
            "max_inflight_messages": "20000",
            "max_queued_messages": "0",
            "log_dest": "stderr",
            "log_type": "notice",
            **self.settings,
        }
        if not self.persistence:
            del lines["persistence_location"]
        if os.geteuid() == 0:
            lines["user"] = "root"  # else it turns into a user who may not write here
        self._config.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))

    def command(self) -> Sequence[str]:
        """In the foreground, which is its way without -d."""
        return [debian("mosquitto", program="mosquitto"), "-c", str(self._config)]

    def answers(self) -> bool:
        """Whether it takes a session of its user."""
        return mqtt_accepts(self.port, self.username, self.password)

    def save(self) -> None:
        """Ask it to write sessions and queues to the disk now; it does so within milliseconds."""
        os.kill(self.pid, signal.SIGUSR1)

    @property
    def _config(self) -> Path:
        return self.folder / "mosquitto.conf"

    @property
    def _passwords(self) -> Path:
        return self.folder / "passwords"
