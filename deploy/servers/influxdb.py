"""InfluxDB 2, built from its Go module, for it comes as no package: minutes once, then a second a start."""

import http.client
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from deploy.servers.cache import cached
from deploy.servers.install import debian, find, needed, run
from deploy.servers.probes import http_ok
from deploy.servers.process import HOST, Server
from shared.errors import Misconfigured, Unavailable

VERSION: Final = "2.7.12"
_MODULE: Final = "github.com/influxdata/influxdb/v2"
_PKG_CONFIG: Final = "github.com/influxdata/pkg-config@v0.3.0"
"""Builds the query language's library, which is in Rust, when Go's linker asks where it is."""
# A module that is required does not bring its own replacements: this is the one of InfluxDB.
_GO_MOD: Final = f"""module industrialmind/servers

require {_MODULE} v{VERSION}

replace github.com/nats-io/nats-streaming-server v0.11.2 => \
github.com/influxdata/nats-streaming-server v0.11.3-0.20201112040610-c277f7560803
"""
_TAGS: Final = "sqlite_foreign_keys,sqlite_json"


class InfluxDB(Server):
    """A server that is set up with a first user, `org`, `bucket` and an all-access `token`; without the web pages.

    `token` stays the folder's over restarts. `settings` are influxd's flags without the dashes.
    """

    name: ClassVar[str] = "influxdb"
    scheme: ClassVar[str] = "http"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        org: str = "im",
        bucket: str = "im",
        settings: Mapping[str, str] = {},
    ) -> None:
        super().__init__(folder, port=port)
        self.org = org
        self.bucket = bucket
        self.settings = dict(settings)

    @property
    def token(self) -> str:
        """The operator's token, made at the first start."""
        return (self.folder / "token").read_text()

    @classmethod
    def install(cls) -> None:
        """Build it. Raises Misconfigured (Go, Rust or a Debian package missing), Unavailable."""
        _binary()

    def prepare(self) -> None:
        """Make the token of a new folder."""
        token = self.folder / "token"
        if not token.exists():
            token.touch(mode=0o600)
            token.write_text(secrets.token_urlsafe(32))

    def command(self) -> Sequence[str]:
        """All its data below the folder."""
        flags = {
            "http-bind-address": f"{HOST}:{self.port}",
            "bolt-path": str(self.folder / "influxd.bolt"),
            "sqlite-path": str(self.folder / "influxd.sqlite"),
            "engine-path": str(self.folder / "engine"),
            "log-level": "warn",
            "reporting-disabled": "true",
            **self.settings,
        }
        return [str(_binary()), *(f"--{key}={value}" for key, value in flags.items())]

    def answers(self) -> bool:
        """Whether it calls itself healthy."""
        return http_ok(self.port, "/health")

    def set_up(self) -> None:
        """The first user, organisation and bucket, once a folder."""
        if not self._ask("GET", {})["allowed"]:
            return
        first = {"username": "im", "password": secrets.token_urlsafe(32)}
        self._ask("POST", {**first, "org": self.org, "bucket": self.bucket, "token": self.token})

    def _ask(self, method: str, body: Mapping[str, str]) -> dict[str, object]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=self.ready_s)
        try:
            connection.request(
                method, "/api/v2/setup", json.dumps(body), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= http.client.BAD_REQUEST:
            raise Unavailable(f"InfluxDB can't be set up: {answer.status} {text.decode(errors='replace')}")
        fields: dict[str, object] = json.loads(text)
        return fields


def _binary() -> Path:
    return cached(f"influxdb-{VERSION}", _build) / "influxd"


def _build(folder: Path) -> None:
    go = needed("go", server="InfluxDB", hint="install Go 1.22 or later")
    cargo = find("cargo")
    if cargo is None:
        raise Misconfigured("InfluxDB needs cargo, which is not installed", hint="install Rust, with rustup")
    for package, program in (
        ("clang", "clang"),
        ("pkg-config", "pkg-config"),
        ("protobuf-compiler", "protoc"),
    ):
        debian(package, program=program)
    source = folder / "build"
    source.mkdir()
    (source / "go.mod").write_text(_GO_MOD)
    run([go, "install", _PKG_CONFIG], cwd=source, environment={"GOBIN": str(source)})
    wrapper = source / "rustc-wrapper"
    wrapper.write_text('#!/bin/sh\nexec "$@" --cap-lints warn\n')  # newer compilers warn of more
    wrapper.chmod(0o755)
    environment = {"PKG_CONFIG": str(source / "pkg-config"), "RUSTC_WRAPPER": str(wrapper), **_toolchain()}
    build = ["-mod=mod", "-tags", _TAGS, "-ldflags", f"-s -w -X main.version={VERSION}", "-o", str(folder)]
    run([go, "build", *build, f"{_MODULE}/cmd/influxd"], cwd=source, environment=environment)


def _toolchain() -> dict[str, str]:
    """The installed Rust, for the library's own sources name an old one that rustup would want to fetch."""
    rustup = find("rustup")
    if rustup is None:
        return {}
    listed = run([rustup, "toolchain", "list"]).splitlines()
    default = next((line for line in listed if "default" in line), listed[0])
    return {"RUSTUP_TOOLCHAIN": default.split()[0]}
