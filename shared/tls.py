"""TLS with certificates that are replaced while a connection lives: files are read again when they change.

Who opens connections asks for `context` at each one and, about once a second, whether it is still the one that its
connection was made with; if not, it makes a new connection. So a renewed certificate is in use within seconds, without
a restart, and what protects against a lost connection protects here too.
"""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field

from shared.certificate import Certificate, read_certificate
from shared.errors import Misconfigured, Rejected

log = structlog.get_logger()

_LOOK_SECONDS: Final = 0.5

_Signature = tuple[tuple[int, int, int], ...]


class TlsFiles(BaseModel):
    """Whom to trust, and what to show: PEM files, which are read again when they change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca: Path | None = Field(
        None, description="certificates of those who sign for servers; none: the system's"
    )
    cert: Path | None = Field(None, description="this client's certificate; none: it shows none")
    key: Path | None = Field(None, description="its private key")

    def open(self, *, monotonic: Callable[[], float] = time.monotonic) -> "Certificates":
        """Read them. Raises Misconfigured."""
        return Certificates(self, monotonic=monotonic)


class Certificates:
    """A client's side of TLS. `certificate` is what it shows, None for none."""

    def __init__(self, files: TlsFiles, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._files, self._monotonic = files, monotonic
        self._looked = monotonic()
        self.certificate: Certificate | None = None
        if (files.cert is None) != (files.key is None):
            raise Misconfigured(
                "a certificate without its key, or the other way round", hint="set tls.cert and tls.key"
            )
        try:
            self._signature = self._sign()
            self._context = self._read()
        except (OSError, Rejected) as error:
            raise Misconfigured(
                f"TLS files can't be used: {error}", hint="check tls.ca, tls.cert, tls.key"
            ) from error

    def context(self) -> ssl.SSLContext:
        """What to make a connection with now. Files that are missing, half written or don't fit change nothing."""
        now = self._monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return self._context
        self._looked = now
        try:
            signature = self._sign()
            if signature != self._signature:
                context = self._read()
                self._context, self._signature = context, signature
                told = self.certificate
                log.info(
                    "certificate files were read again",
                    name=told and told.name,
                    until=told and told.not_after.isoformat(),
                )
        except (OSError, Rejected) as error:  # ssl.SSLError is an OSError
            log.warning("changed certificate files can't be used yet: the old ones stay", why=str(error))
        return self._context

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self._files.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        certificate = None
        if self._files.cert is not None:
            context.load_cert_chain(self._files.cert, self._files.key)
            certificate = read_certificate(self._files.cert.read_text(encoding="ascii", errors="replace"))
        self.certificate = certificate
        return context

    def _sign(self) -> _Signature:
        """Changes when a file does. Raises OSError."""
        found = [
            path.stat() for path in (self._files.ca, self._files.cert, self._files.key) if path is not None
        ]
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)


class NewestContext:
    """What a driver takes for an SSLContext, for one that is given it once and for all its connections."""

    check_hostname: Final = True

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self.used: ssl.SSLContext | None = None
        self._made: ssl.SSLSocket | None = None

    @property
    def outdated(self) -> bool:
        """Whether files changed since the last connection was made."""
        return self.used is not None and self._certificates.context() is not self.used

    def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:  # noqa: ANN401 - ssl's own
        """As of the context that is the newest now."""
        self.used = self._certificates.context()
        self._made = self.used.wrap_socket(*arguments, **named)
        return self._made

    def abandon(self) -> None:
        """Close the socket of a connection that came to nothing: a driver that meets a failed handshake forgets it."""
        if self._made is not None:
            self._made.close()
            self._made = None
