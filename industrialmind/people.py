"""People in the cloud process: their database, the gate of the data API, and audit events on their way to the log."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from cloud.api.access import Gate, service_tokens
from cloud.api.sessions import Parts
from cloud.api.settings import ApiSettings
from cloud.people.app import Keys, People
from cloud.people.argon2 import Hasher
from cloud.people.audit import AuditSender, AuditTopic, Metrics
from cloud.people.authlib import Provider
from cloud.people.oidc_settings import OidcSettings
from cloud.people.port import PeopleStore, open_people
from cloud.people.signin import SignIn
from shared.clock import Clock
from shared.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Wired:
    """What the application takes, and the loop that brings audit events into the log."""

    parts: Parts
    gate: Gate
    sender: AuditSender
    store: PeopleStore


@asynccontextmanager
async def wire_people(
    settings: ApiSettings, topic: AuditTopic, clock: Clock, registry: CollectorRegistry
) -> AsyncIterator[Wired]:
    """People as the settings say. Raises Misconfigured, Unavailable."""
    hasher = Hasher()
    try:
        async with open_people(settings.app_url, clock) as store:
            yield wired(settings, store, topic, clock, registry, hasher)
    finally:
        hasher.close()


def wired(
    settings: ApiSettings,
    store: PeopleStore,
    topic: AuditTopic,
    clock: Clock,
    registry: CollectorRegistry,
    hasher: Hasher,
) -> Wired:
    """The parts, each of which tells gate and sender of what it changes."""
    told: list[Callable[[], None]] = []

    def changed() -> None:
        for tell in told:
            tell()

    sender = AuditSender(store.outbox, topic, clock, Metrics(registry))
    keys = Keys(store, clock, changed)
    gate = Gate(service_tokens(settings), store, keys, clock, idle_hours=settings.session_idle_hours)
    told += [gate.forget, sender.wake]
    sign_in = SignIn(store, hasher, clock, hours=settings.session_hours, changed=changed)
    parts = Parts(
        People(store, hasher, clock, changed), sign_in, keys, store.links, open_provider(settings.oidc, clock)
    )
    return Wired(parts, gate, sender, store)


def open_provider(oidc: OidcSettings, clock: Clock) -> Provider | None:
    """The OIDC provider of the settings; None where they name none. Raises Misconfigured."""
    if not oidc.issuer:
        return None
    if not oidc.client_id:
        raise Misconfigured(
            "api.oidc.issuer is set, but not api.oidc.client_id", hint="register this plant there"
        )
    return Provider(oidc, clock)
