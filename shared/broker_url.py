"""What the URL of an MQTT broker says."""

from urllib.parse import urlsplit

from shared.errors import Misconfigured
from shared.names import MQTT_PORT, MQTTS_PORT


def broker_address(url: str) -> tuple[str, int, bool]:
    """Host, port and whether TLS is spoken: `mqtt://host:port` or `mqtts://host:port`. Raises Misconfigured."""
    parts = urlsplit(url)
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
        raise Misconfigured(
            f"{url!r} is not an MQTT broker's URL", hint="use mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS"
        )
    secure = parts.scheme == "mqtts"
    return parts.hostname, parts.port or (MQTTS_PORT if secure else MQTT_PORT), secure
