"""PostgreSQL, from Debian (or whatever initdb is on the path)."""

import os
import pwd
import shutil
import signal
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from deploy.servers.install import debian, find, run
from deploy.servers.probes import exchange
from deploy.servers.process import HOST, Server, run_as
from shared.errors import Misconfigured

_ACCOUNT = "postgres"


class PostgreSQL(Server):
    """A cluster with one superuser `username`, who needs the password over TCP, and a database `im`.

    It refuses to run as root; root runs it as `postgres`, the account that Debian's package makes. `settings` are
    parameters of postgresql.conf.
    """

    name: ClassVar[str] = "postgresql"
    scheme: ClassVar[str] = "postgresql"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # at SIGTERM it waits for its clients to leave
    database: ClassVar[str] = "im"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        username: str = "im",
        password: str = "secret",  # noqa: S107 - of a server on the loopback
        settings: Mapping[str, str] = {},
    ) -> None:
        super().__init__(folder, port=port)
        self.username = username
        self.password = password
        self.settings = dict(settings)

    @property
    def url(self) -> str:
        """With user, password and database, as its clients take it."""
        return f"postgresql://{self.username}:{self.password}@{HOST}:{self.port}/{self.database}"

    @classmethod
    def install(cls) -> None:
        """Debian's package."""
        _program("initdb")

    def user(self) -> str | None:
        """Another account for root."""
        return _ACCOUNT if os.geteuid() == 0 else None

    def prepare(self) -> None:
        """Make the cluster of a new folder."""
        if self._data.exists():
            return
        account = self.user()
        made = self.folder / "new"
        shutil.rmtree(made, ignore_errors=True)  # of an initdb that was killed
        made.mkdir(mode=0o700)
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(self.password)
        if account is not None:
            owner = _account(account)
            for path in (made, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        access = [
            "--auth-host=scram-sha-256",
            "--auth-local=reject",
            f"--pwfile={password}",
            "-U",
            self.username,
        ]
        encoding = ["--encoding=UTF8", "--locale=C"]
        run([*run_as(account), _program("initdb"), "-D", str(made), *access, *encoding], cwd=Path("/"))
        single = [_program("postgres"), "--single", "-D", str(made), "postgres"]
        run([*run_as(account), *single], cwd=Path("/"), stdin=f"CREATE DATABASE {self.database};\n")
        made.rename(self._data)

    def command(self) -> Sequence[str]:
        """One port of the loopback, and no socket in a folder that others use."""
        parameters = {
            "port": str(self.port),
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            **self.settings,
        }
        flags = [part for key, value in parameters.items() for part in ("-c", f"{key}={value}")]
        return [_program("postgres"), "-D", str(self._data), *flags]

    def answers(self) -> bool:
        """Whether it asks the user for the password; before it has come up it refuses with an error."""
        parameters = f"user\0{self.username}\0database\0{self.database}\0\0".encode()
        startup = struct.pack(">ii", 8 + len(parameters), 3 << 16) + parameters
        return exchange(self.port, startup, 1) == b"R"

    @property
    def _data(self) -> Path:
        return self.folder / "data"


def program(name: str) -> str | None:
    """A program of the newest PostgreSQL here, which Debian keeps off the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    beside = str(versions[-1] / name) if versions and (versions[-1] / name).exists() else None
    return beside or find(name)


def _program(name: str) -> str:
    found = program(name)
    if found is None:
        debian("postgresql", program="pg_lsclusters")
        found = program(name)
    if found is None:
        raise Misconfigured(f"PostgreSQL came without {name}", hint="install PostgreSQL 15 or later")
    return found


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise Misconfigured(
            f"PostgreSQL does not run as root, and there is no account {name}",
            hint="run this as another user, or install Debian's package postgresql",
        ) from error
