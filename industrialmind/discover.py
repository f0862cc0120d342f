"""`industrialmind discover`: listen to a broker, propose a mapping, and say what each message would become."""

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Any

from edge.discover.dry_run import TopicTried, dry_run
from edge.discover.nodes import unborn
from edge.discover.propose import propose
from edge.discover.rules import Proposal
from edge.discover.seen import Seen
from edge.discover.write import written
from edge.mapping.schema import load_mapping, parse_mapping
from industrialmind.discover_settings import DiscoverSettings
from shared.paho import MqttClient, open_mqtt
from shared.sparkplug.translate import rebirth

_ASK_AFTER = 0.3


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was heard and what would become of it. `text` is the mapping that was tried, empty if nothing can be mapped."""

    seen: Seen
    proposal: Proposal | None
    text: str
    tried: list[TopicTried]

    @property
    def refused(self) -> int:
        """Messages of which something would be refused."""
        return sum(sum(topic.reasons.values()) for topic in self.tried)

    @property
    def readings(self) -> int:
        """Readings that there would be."""
        return sum(topic.readings for topic in self.tried)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        proposal = self.proposal
        return {
            "mapping": self.text,
            "machines": [] if proposal is None else proposal.machines,
            "units_unknown": 0 if proposal is None else proposal.unknown,
            "units_guessed": 0 if proposal is None else proposal.guessed,
            "not_mapped": {} if proposal is None else proposal.unread,
            "plain_topics": len(self.seen.plain),
            "messages_not_kept": self.seen.not_kept,
            "readings": self.readings,
            "refused": self.refused,
            "topics": [topic.as_dict() for topic in self.tried],
        }


async def discover(settings: DiscoverSettings) -> Discovery:
    """Listen, propose and try. Raises Unavailable (no broker), Misconfigured (a filter refused, a wrong mapping)."""
    given = None if settings.mapping is None else load_mapping(settings.mapping, draft=True)
    seen = await listen(settings)
    if given is not None:
        return Discovery(seen, None, "", dry_run(given, seen.samples))
    proposal = propose(seen)
    if not proposal.rules and not proposal.nodes:
        return Discovery(seen, proposal, "", [])
    text = written(proposal)
    return Discovery(seen, proposal, text, dry_run(parse_mapping(text, "proposal", draft=True), seen.samples))


async def listen(settings: DiscoverSettings) -> Seen:
    """What the broker carries for so many seconds, within bounds. Nothing is acknowledged for anybody else: QoS 0, a clean session."""
    seen = Seen()
    async with open_mqtt(
        settings.broker,
        client_id=f"discover-{secrets.token_hex(4)}",
        username=settings.username,
        password=settings.password.get_secret_value(),
        clean=True,
        connect_seconds=settings.connect_seconds,
        tls=settings.tls.open(),
    ) as client:
        await client.wait_connected(settings.connect_seconds)
        await client.subscribe(*settings.topics, qos=0)
        asking = asyncio.create_task(_ask(client, seen, settings))
        try:
            async with asyncio.timeout(settings.seconds):
                while True:
                    for message in await client.receive(500):
                        seen.take(message, time.time_ns() // 1000)
        except TimeoutError:
            return seen
        finally:
            asking.cancel()


async def _ask(client: MqttClient, seen: Seen, settings: DiscoverSettings) -> None:
    """Ask nodes whose birth was not heard by then, once."""
    if not settings.ask_births:
        return
    await asyncio.sleep(settings.seconds * _ASK_AFTER)
    for node in sorted(unborn(seen.sparkplug)):
        await client.publish(*rebirth(node, time.time_ns() // 1000), qos=0)
