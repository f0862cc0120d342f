"""Topics of a prefix: copies of log topics beside the live ones, bounded, for as long as somebody tries something."""

from collections.abc import Mapping, Sequence

from shared import names
from shared.errors import NotFound
from shared.jetstream.topics import TopicBudget, share_of, stream_name, topic_config
from shared.nats.link import open_link
from shared.nats.session import Timeouts, ensure_stream


async def ensure_prefix_topics(
    url: str,
    *,
    credentials: str,
    topics: Sequence[str],
    max_bytes: int,
    max_age_s: float,
    timeouts: Timeouts | None = None,
) -> None:
    """Create each topic's stream, bounded by its share of `max_bytes`; a full one refuses. Needs the admin's credentials.

    Raises Rejected (a name that is no prefixed topic's), Unavailable (away, or no room for so many bytes).
    """
    shares = {topic: share_of(names.split_prefix(topic)[1]) for topic in topics}
    whole = sum(shares.values())
    async with open_link(url, credentials=credentials, timeouts=timeouts) as link:
        for topic, share in shares.items():
            budget = TopicBudget(int(max_bytes * share / whole), max_age_s)
            await ensure_stream(link.session(), topic_config(topic, budget))


async def prefix_topics(url: str, *, credentials: str, timeouts: Timeouts | None = None) -> Mapping[str, int]:
    """Every prefixed topic there is, with how many records it holds. Raises Unavailable."""
    found: dict[str, int] = {}
    async with open_link(url, credentials=credentials, timeouts=timeouts) as link:
        while True:
            page = await link.session().api("STREAM.LIST", {"offset": len(found), "subject": "log.*.*.>"})
            streams = page.get("streams") or []
            for stream in streams:
                topic = stream["config"]["name"].removeprefix("log-").replace("_", ".")
                found[topic] = int(stream["state"]["messages"])
            if not streams or len(found) >= int(page["total"]):
                break
    return {topic: records for topic, records in sorted(found.items()) if "." in topic}


async def drop_prefix_topics(
    url: str, *, credentials: str, topics: Sequence[str], timeouts: Timeouts | None = None
) -> None:
    """Delete these topics; those that are gone already are no error. Raises Rejected (a live topic), Unavailable."""
    for topic in topics:
        names.split_prefix(topic)
    async with open_link(url, credentials=credentials, timeouts=timeouts) as link:
        for topic in topics:
            try:
                await link.session().api(f"STREAM.DELETE.{stream_name(topic)}")
            except NotFound:
                continue
