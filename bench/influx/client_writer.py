"""The writer that people make: confluent-kafka, a Point a reading, influxdb-client's synchronous writer, 5,000 a batch.

At least once: offsets are committed after InfluxDB has answered. Records are JSON lists of readings, or with the last argument
`lines` line protocol, which the client then only joins and sends.
Run: python -m bench.influx.client_writer URL ORG BUCKET BOOTSTRAP TOPIC points|lines, with the token on standard input.
"""

import sys
from collections.abc import Callable, Sequence

import orjson
from confluent_kafka import Consumer, KafkaException
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS

from bench.influx.points import MEASUREMENT
from bench.peers.stand_in import say

BATCH = 5_000
_POLL_S = 0.1


def to_points(value: bytes) -> list[object]:
    """A Point for each reading."""
    made: list[object] = []
    for row in orjson.loads(value):
        point = Point(MEASUREMENT).tag("machine", row["machine"]).tag("sensor", row["sensor"])  # type: ignore[no-untyped-call]
        for name in row.keys() - {"machine", "sensor", "time"}:
            point.field(name, row[name])
        made.append(point.time(row["time"]))
    return made


def to_lines(value: bytes) -> list[object]:
    """Each line as it is."""
    return list(value.decode().split("\n"))


def carry(
    consumer: Consumer, write: Callable[[Sequence[object]], object], read: Callable[[bytes], list[object]]
) -> None:
    """Until killed: write when a batch is full or nothing more comes, then commit."""
    waiting: list[object] = []
    while True:
        message = consumer.poll(_POLL_S)
        if message is not None:
            if (error := message.error()) is not None:
                raise KafkaException(error)
            waiting += read(message.value() or b"")
        if len(waiting) >= BATCH or (message is None and waiting):
            for at in range(0, len(waiting), BATCH):
                write(waiting[at : at + BATCH])
            waiting = []
            consumer.commit(asynchronous=False)


def main() -> None:
    """Read the arguments and carry."""
    url, org, bucket, bootstrap, topic, form = sys.argv[1:7]
    token = sys.stdin.readline().strip()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "client",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    with InfluxDBClient(url=url, token=token, org=org, enable_gzip=False) as client:
        writer = client.write_api(write_options=SYNCHRONOUS)
        say(ready=True)
        carry(
            consumer,
            lambda batch: writer.write(bucket=bucket, record=list(batch)),
            to_points if form == "points" else to_lines,
        )


if __name__ == "__main__":
    main()
