"""The agent's certificate, renewed: a newer one for the same key comes over the control plane and is put in its place.

The key never moves. A certificate is public, so it may come by the way that desired state comes; it is checked by
what it must fit: this agent's key and name, and a longer time than the one in use. The connections see the changed file
and are made anew; see `shared.tls`.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Gauge

from shared.certificate import Certificate, read_certificate
from shared.clock import Clock
from shared.errors import Rejected
from shared.event import at
from shared.names import CERTIFICATE_KEY
from shared.tls import TlsFiles

log = structlog.get_logger()


class CertificateSource(Protocol):
    """The part of the control plane that brings certificates."""

    def watch_desired(self, edge: str) -> AsyncIterator[tuple[str, bytes | None] | None]:
        """Each (key, value) now, then each change."""


class Renewal:
    """Puts renewed certificates in place. `refused` says why the last one was not, empty if it was."""

    def __init__(self, files: TlsFiles, clock: Clock, registry: CollectorRegistry, *, edge: str) -> None:
        self._files, self._clock, self._edge = files, clock, edge
        self.refused = ""
        seconds = Gauge(
            "im_edge_certificate_seconds", "Seconds until this agent's certificate ends", registry=registry
        )
        seconds.set_function(self._lasts_s)

    async def watch(self, source: CertificateSource) -> None:
        """Take what comes, for ever."""
        async for change in source.watch_desired(self._edge):
            if change is None or change[0] != CERTIFICATE_KEY or change[1] is None:
                continue
            try:
                await asyncio.to_thread(self._take, change[1])
            except (Rejected, OSError) as error:
                self.refused = str(error)
                log.warning("a renewed certificate is not taken", reason=str(error))
            else:
                self.refused = ""

    def _take(self, pem: bytes) -> None:
        """Raises Rejected (it does not fit), OSError (it can't be kept)."""
        certificate, key = self._files.cert, self._files.key
        if certificate is None or key is None:
            raise Rejected("this agent shows no certificate: edge.tls.cert and edge.tls.key are not set")
        text = pem.decode("ascii", errors="replace")
        current, new = self.current(), read_certificate(text)
        if current is not None and new.serial == current.serial:
            return
        _check(new, current, self._edge, at(self._clock.now_us()))
        made = certificate.with_name(f".{certificate.name}.new")
        made.write_bytes(pem)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(made, key)
        except ssl.SSLError as error:
            made.unlink()
            raise Rejected(f"it is not for this agent's key ({error.reason})") from error
        made.rename(certificate)
        log.info("the certificate was renewed", until=new.not_after.isoformat())

    def current(self) -> Certificate | None:
        """The certificate in use; None if there is none or it can't be read."""
        return read_file(self._files.cert)

    def _lasts_s(self) -> float:
        current = self.current()
        return float("inf") if current is None else current.lasts_s(at(self._clock.now_us()))


def read_file(path: Path | None) -> Certificate | None:
    """The certificate in a file; None if there is none, or nothing that can be read."""
    if path is None:
        return None
    try:
        return read_certificate(path.read_text(encoding="ascii", errors="replace"))
    except (OSError, Rejected):
        return None


def _check(new: Certificate, current: Certificate | None, edge: str, now: datetime) -> None:
    """Raises Rejected."""
    wanted = edge if current is None else current.name
    if new.name != wanted:
        raise Rejected(f"it is {new.name[:60]!r}'s, not {wanted!r}'s")
    if new.not_after <= now.astimezone(UTC):
        raise Rejected("it has ended already")
    if current is not None and new.not_after <= current.not_after:
        raise Rejected("it ends no later than the one in use")
