"""What is kept no longer: said in the books at once, for readers go by that; removed by the buckets' own retention.

InfluxDB drops whole shards by its own clock. A bucket therefore keeps a little more than what is said to be there.
"""

from typing import Final

from cloud.telemetry.facts import HOUR_US, MINUTE_US, Retention
from cloud.telemetry.influx.buckets import MEASUREMENTS
from cloud.telemetry.influx.client import HOURS, MINUTES, InfluxClient
from cloud.telemetry.influx.opening import SHARDS_S
from cloud.telemetry.influx.points import AGGREGATE, SCORE, between
from cloud.telemetry.influx.rollups import Maker
from cloud.telemetry.sql import dirty
from shared.clock import Clock
from shared.sqlalchemy import Database

_HOUR_S: Final = 3600
_BUCKETS: Final = {"raw": "", "minute": MINUTES, "hour": HOURS}
_COUNTED: Final = {
    "raw": (("_1h", f"sum(rows) FROM {MEASUREMENTS[HOUR_US]}"), ("", f"count(l) FROM {SCORE}")),
    "minute": (
        ("_1m", f"count(rows) FROM {MEASUREMENTS[MINUTE_US]}"),
        ("_1m", f"count(rows) FROM {AGGREGATE}"),
    ),
    "hour": (("_1h", f"count(rows) FROM {MEASUREMENTS[HOUR_US]}"),),
}
"""Which bucket tells how many rows expire."""


async def expire(
    client: InfluxClient, books: Database, maker: Maker, clock: Clock, retention: Retention, now_us: int
) -> int:
    """See the port. Rollups of what goes are made first."""
    kept = {"raw": retention.raw_us, "minute": retention.minute_us, "hour": retention.hour_us}
    before = {what: (now_us - age) // HOUR_US * HOUR_US for what, age in kept.items() if age is not None}
    said = await books.read(dirty.expired)
    newly = {what: time_us for what, time_us in before.items() if time_us > said.get(what, 0)}
    removed = 0
    if newly:
        await maker.make_all(max(newly.values()))
        for what, time_us in newly.items():
            for suffix, counted in _COUNTED[what]:
                query = f"SELECT {counted} WHERE {between(said.get(what, 0), time_us)}"
                [tables] = await client.ask(client.place.bucket + suffix, query)
                removed += sum(int(row[1]) for table in tables for row in table.rows)
        await books.write(lambda connection: dirty.expire(connection, newly))
    for what, suffix in _BUCKETS.items():
        await _keep(client, suffix, clock.now_us() - before[what] if what in before else 0)
    return removed


async def _keep(client: InfluxClient, suffix: str, age_us: int) -> None:
    bucket = await client.bucket(client.place.bucket + suffix)
    wanted = -(-age_us // HOUR_US) * _HOUR_S
    if bucket is not None and bucket.retention_s != wanted:
        await client.keep(bucket, wanted, min(SHARDS_S[suffix], wanted) if wanted else SHARDS_S[suffix])
