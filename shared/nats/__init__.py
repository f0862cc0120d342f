"""nats-server: a connection that comes back for ever, its errors in our words, and the control plane on it.

Everything here speaks JetStream's documented JSON API, reads with stateless direct gets, and learns of changes
from republished subjects. So a reader leaves nothing on the server that a crash could lose, and needs no right to
create consumers: a consumer may deliver to any subject, which would let an edge publish in another's name.
"""

from shared.nats.control import Change, ControlPlane, open_control
from shared.nats.link import Link, open_link
from shared.nats.session import Message, Session, Timeouts

__all__ = ["Change", "ControlPlane", "Link", "Message", "Session", "Timeouts", "open_control", "open_link"]
