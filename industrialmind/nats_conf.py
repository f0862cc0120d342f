"""How grants are written down: users of nats-server's configuration, and the rules of mosquitto."""

from collections.abc import Iterable, Sequence
from typing import Final

from industrialmind.grants import Grants

_MQTT_ROOTS: Final = ("im.v1.", "plant.", "spBv1//0.")
"""What begins so is a topic of MQTT in nats-server's spelling; all else is NATS's own."""


def text(value: str) -> str:
    """A quoted string of nats-server's configuration, where `$NAME` unquoted would be a variable."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def user(name: str, password: str, grants: Grants) -> str:
    """A user's line; `password` as it stands in the file: `text(…)`, or `$NAME` for a variable of the environment."""
    protocols = ", ".join(text(protocol) for protocol in grants.protocols)
    return (
        f"    {{ user: {text(name)}, password: {password}, "
        f"allowed_connection_types: [{protocols}], permissions: {{ "
        f"publish: {_allowed(grants.publish)}, subscribe: {_allowed(grants.subscribe)} }} }}"
    )


def user_by_certificate(name: str, grants: Grants) -> str:
    """A user's line, for a server that takes a certificate's names for users: there is no password."""
    return (
        f"    {{ user: {text(name)}, permissions: {{ "
        f"publish: {_allowed(grants.publish)}, subscribe: {_allowed(grants.subscribe)} }} }}"
    )


def authorization(users: Iterable[str]) -> str:
    """The block of all users."""
    lines = "\n".join(users)
    return f"authorization {{\n  timeout: 10\n  users: [\n{lines}\n  ]\n}}\n"


def on_nats(grants: Grants) -> Grants | None:
    """What is left of grants on a nats-server that serves no MQTT; None: no account there."""
    if "STANDARD" not in grants.protocols:
        return None
    return Grants(
        tuple(subject for subject in grants.publish if subject == ">" or not _is_mqtt(subject)),
        tuple(subject for subject in grants.subscribe if subject == ">" or not _is_mqtt(subject)),
    )


def mosquitto_rules(name: str, grants: Grants) -> str:
    """A user's part of mosquitto's ACL file; empty: no account there."""
    if "MQTT" not in grants.protocols:
        return ""
    rules = [f"topic write {_topic(one)}" for one in grants.publish if _is_mqtt(one)]
    rules += [f"topic read {_topic(one)}" for one in grants.subscribe if _is_mqtt(one)]
    return "\n".join([f"user {name}", *rules]) + "\n"


def _is_mqtt(subject: str) -> bool:
    return subject == ">" or subject.startswith(_MQTT_ROOTS)


def _topic(subject: str) -> str:
    """The MQTT filter of a subject: the other way round than nats-server does it."""
    return (
        subject.replace("//", "\0").replace(".", "/").replace("\0", ".").replace("*", "+").replace(">", "#")
    )


def _allowed(subjects: Sequence[str]) -> str:
    if not subjects:
        return '{ deny: ">" }'  # an empty list of allowed subjects would allow all
    return "{ allow: [" + ", ".join(text(subject) for subject in subjects) + "] }"
