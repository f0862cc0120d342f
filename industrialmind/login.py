"""The way into the control room: a link that works once."""

import httpx

from industrialmind.client import Client
from industrialmind.plant import DataDir
from shared.errors import Unavailable

TIMEOUT_SECONDS = 2.0


def login_link(client: Client, room: str) -> str:
    """A new link into the control room at `room`. Raises Unavailable, Rejected."""
    made = client.post("/v1/login-links", {})
    return f"{room}/login?code={made['code']}"


def link_into(data: DataDir) -> str:
    """A new link into the control room of the plant that runs on `data`. Raises Unavailable, Rejected."""
    with Client.of(data) as client:
        room = (data.running() or {}).get("ui")
        if room is None:
            raise Unavailable(f"the plant on {data.root} runs without a control room")
        return login_link(client, room)


def is_open(room: str) -> bool:
    """Whether the control room at `room` answers."""
    try:
        return httpx.get(f"{room}/livez", timeout=TIMEOUT_SECONDS, trust_env=False).is_success
    except httpx.HTTPError:
        return False
