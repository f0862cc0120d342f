"""Questions that tell whether a server answers its protocol. All raise OSError while it does not."""

import http.client
import secrets
import socket

from deploy.servers.process import HOST

_WAIT_S = 2.0


def exchange(port: int, send: bytes, count: int) -> bytes:
    """Send bytes and return the first `count` that come back. Raises OSError, EOFError included as OSError."""
    with socket.create_connection((HOST, port), timeout=_WAIT_S) as opened:
        opened.sendall(send)
        got = b""
        while len(got) < count:
            more = opened.recv(count - len(got))
            if not more:
                raise ConnectionError(f"port {port} hung up after {len(got)} of {count} bytes")
            got += more
    return got


def http_ok(port: int, path: str) -> bool:
    """Whether GET `path` answers 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_WAIT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except http.client.HTTPException as error:
        raise ConnectionError(f"port {port} speaks no HTTP") from error
    finally:
        connection.close()


def mqtt_accepts(port: int, username: str, password: str) -> bool:
    """Whether MQTT 3.1.1 takes a session of that user (CONNECT and CONNACK, sections 3.1 and 3.2)."""

    def field(text: str) -> bytes:
        raw = text.encode()
        return len(raw).to_bytes(2, "big") + raw

    clean_with_user_and_password = b"\xc2"
    keep_alive = (30).to_bytes(2, "big")
    client = field(f"probe-{secrets.token_hex(4)}")
    body = field("MQTT") + b"\x04" + clean_with_user_and_password + keep_alive + client
    body += field(username) + field(password)
    if len(body) > 127:  # noqa: PLR2004 - one byte of length
        raise ValueError("user and password are too long for this probe")
    return exchange(port, bytes([0x10, len(body)]) + body, 4) == b"\x20\x02\x00\x00"
