"""`python -m shared.probe URL`: exit code 0 if it answers 200 within seconds. For health checks of containers."""

import http.client
import sys
from typing import Final
from urllib.parse import urlsplit

_SECONDS: Final = 3.0


def answers(url: str, seconds: float = _SECONDS) -> bool:
    """Whether a plain HTTP URL answers 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if answers(sys.argv[1]) else 1)
