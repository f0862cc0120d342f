"""Renewed certificates on their way to edges: over the control plane, for nothing in them is secret.

What travels is signed for a key that the edge has and nobody else needs. The edge takes one that fits its key and lasts
longer than its own, and refuses all others, so that who can write here can at most withhold.
"""

from industrialmind.pki import Pki
from industrialmind.servers_settings import ServersSettings
from shared.errors import Rejected
from shared.names import CERTIFICATE_KEY
from shared.nats import open_control


async def deliver_certificates(pki: Pki, settings: ServersSettings) -> list[str]:
    """Give each edge of the settings its newest certificate; returns to whom one was new. Raises Unavailable."""
    told: list[str] = []
    credentials = settings.credentials.get_secret_value()
    issued = pki.book().issued
    async with open_control(settings.nats_url, credentials=credentials, tls=settings.tls.open()) as control:
        for edge in settings.edges:
            one = issued.get(edge)
            if one is None or one.revoked:
                continue
            if one.door != "field":
                raise Rejected(f"{edge} has a service's certificate")
            pem = pki.certificate_file(edge).read_bytes()
            if (await control.desired(edge)).get(CERTIFICATE_KEY) != pem:
                await control.desire(edge, CERTIFICATE_KEY, pem)
                told.append(edge)
    return told
