"""The topics of a replay's prefix, on whatever log the plant has: made bounded, listed, dropped."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from shared.errors import Misconfigured


async def ensure_replay_topics(
    url: str, credentials: str, topics: Sequence[str], *, max_bytes: int, max_age_s: float
) -> None:
    """Make topics that are not there; together they keep at most `max_bytes`, each record for `max_age_s`.

    Raises Unavailable (also: no room for so many bytes), Misconfigured (no such log).
    """
    match urlsplit(url).scheme:
        case "nats":
            from shared.jetstream import prefix as jetstream  # noqa: PLC0415 - only the chosen driver loads

            await jetstream.ensure_prefix_topics(
                url, credentials=credentials, topics=topics, max_bytes=max_bytes, max_age_s=max_age_s
            )
        case "kafka":
            from shared.kafka import prefix as kafka  # noqa: PLC0415 - the same

            await kafka.ensure_prefix_topics(
                url, credentials=credentials, topics=topics, max_bytes=max_bytes, max_age_s=max_age_s
            )
        case scheme:
            raise _no_log(scheme)


async def list_replay_topics(url: str, credentials: str) -> Mapping[str, int]:
    """Each topic of any prefix, with how many records it has. Raises Unavailable, Misconfigured."""
    match urlsplit(url).scheme:
        case "nats":
            from shared.jetstream import prefix as jetstream  # noqa: PLC0415 - only the chosen driver loads

            return await jetstream.prefix_topics(url, credentials=credentials)
        case "kafka":
            from shared.kafka import prefix as kafka  # noqa: PLC0415 - the same

            return await kafka.prefix_topics(url, credentials=credentials)
        case scheme:
            raise _no_log(scheme)


async def drop_replay_topics(url: str, credentials: str, topics: Sequence[str]) -> None:
    """Remove these topics with all that is in them. Raises Unavailable, Misconfigured."""
    match urlsplit(url).scheme:
        case "nats":
            from shared.jetstream import prefix as jetstream  # noqa: PLC0415 - only the chosen driver loads

            await jetstream.drop_prefix_topics(url, credentials=credentials, topics=topics)
        case "kafka":
            from shared.kafka import prefix as kafka  # noqa: PLC0415 - the same

            await kafka.drop_prefix_topics(url, credentials=credentials, topics=topics)
        case scheme:
            raise _no_log(scheme)


def _no_log(scheme: str) -> Misconfigured:
    return Misconfigured(f"no event log for {scheme!r}", hint="use nats://HOST:PORT or kafka://HOST:PORT")
