"""Buckets: the readings' own, those of the rollups, and one for recordings, whose times are old from the start."""

from typing import Final

from cloud.telemetry.influx.client import HOURS, MINUTES, REPLAY, InfluxClient, RefusedError
from shared.errors import Misconfigured

_DAY_S: Final = 86_400
SHARDS_S: Final = {"": _DAY_S, MINUTES: 30 * _DAY_S, HOURS: 364 * _DAY_S, REPLAY: 7 * _DAY_S}
"""Buckets by suffix, and how much time a shard of each covers: a query opens every shard that it touches."""


async def make_buckets(client: InfluxClient) -> None:
    """Make the buckets that are missing. Raises Misconfigured (the token may not), Unavailable."""
    try:
        for suffix, shard_s in SHARDS_S.items():
            name = client.place.bucket + suffix
            if await client.bucket(name) is None:
                await _make(client, name, shard_s)
    except RefusedError as error:
        raise _wrong_token(client, error) from error


async def check_buckets(client: InfluxClient) -> None:
    """Raises Misconfigured (a token that the server does not take), Unavailable (no bucket yet: ingest makes it)."""
    try:
        found = await client.bucket(client.place.bucket)
    except RefusedError as error:
        raise _wrong_token(client, error) from error
    if found is None:
        raise client.no_bucket()


async def _make(client: InfluxClient, name: str, shard_s: int) -> None:
    try:
        await client.make_bucket(name, shard_s)
    except RefusedError as error:
        org = client.place.org
        raise Misconfigured(
            f"InfluxDB has no bucket {name!r}, and the token may not make it",
            hint=f"influx bucket create --org {org} --name {name} --retention 0 --shard-group-duration {shard_s // 3600}h,"
            " and let the token read and write it",
        ) from error


def _wrong_token(client: InfluxClient, error: RefusedError) -> Misconfigured:
    return Misconfigured(
        str(error),
        hint=f"set telemetry_token to a token of organisation {client.place.org!r} that may read and write bucket"
        f" {client.place.bucket!r} and those with _1m, _1h and _replay after its name",
    )
