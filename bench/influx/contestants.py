"""Who carries Kafka to InfluxDB here: each one's command and settings, every one of them at least once."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from bench.influx.client_writer import BATCH
from bench.influx.points import MEASUREMENT, Form, frame, json_rows, lines
from bench.peers.process import python
from deploy.servers.influxdb import InfluxDB
from deploy.servers.process import HOST
from deploy.servers.telegraf import binary
from shared.names import SENSOR_READINGS

PEER_TOPIC: Final = "bench"
_KAFKA_VERSION: Final = "4.0.0"
"""As Telegraf's Kafka library knows versions: without one it speaks as to a broker of 2017."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contestant finds its log and its store, and a folder of its own."""

    folder: Path
    bootstrap: str
    influxdb: InfluxDB
    books_url: str = ""


@dataclass(frozen=True, slots=True)
class Contestant:
    """`command` writes what it needs to its folder. `form` None: it reads no topic but a file of ready-made lines.

    `books`: it needs a PostgreSQL too, and writes more points than the readings, which it makes of them.
    """

    name: str
    command: Callable[[Place], tuple[str, ...]]
    form: Form | None
    topic: str = PEER_TOPIC
    told_token: bool = True
    books: bool = False


def lines_file(place: Place) -> Path:
    """Where the raw poster's lines are."""
    return place.folder / "lines"


def raw(connections: int) -> Callable[[Place], tuple[str, ...]]:
    """Ready-made lines on so many connections."""

    def command(place: Place) -> tuple[str, ...]:
        server = place.influxdb
        path = f"/api/v2/write?org={server.org}&bucket={server.bucket}&precision=ns"
        at = f"{HOST}:{server.port}"
        return python(
            "bench.influx.raw_poster", at, path, str(lines_file(place)), str(BATCH), str(connections)
        )

    return command


def client(form: str) -> Callable[[Place], tuple[str, ...]]:
    """influxdb-client, of points or of lines."""

    def command(place: Place) -> tuple[str, ...]:
        server = place.influxdb
        where = (server.url, server.org, server.bucket, place.bootstrap, PEER_TOPIC)
        return python("bench.influx.client_writer", *where, form)

    return command


_INFLUX_FORMAT: Final = """
  data_format = "influx"
  influx_parser_type = "upstream"
"""
_JSON_FORMAT: Final = f"""
  data_format = "json"
  name_override = "{MEASUREMENT}"
  tag_keys = ["machine", "sensor"]
  json_time_key = "time"
  json_time_format = "unix_ns"
"""


def telegraf(data_format: str) -> Callable[[Place], tuple[str, ...]]:
    """Telegraf: line protocol out; it marks as read what InfluxDB has confirmed.

    Its batches are those of the others; the buffer holds all that may be undelivered, so that it drops nothing. Of
    parsers, batches of 1,000 to 10,000, compression and one or two writes at a time these were its fastest here.
    """

    def command(place: Place) -> tuple[str, ...]:
        config = place.folder / "telegraf.conf"
        config.write_text(_telegraf_conf(place, data_format))
        return str(binary()), "--config", str(config)

    return command


def _telegraf_conf(place: Place, data_format: str) -> str:
    server = place.influxdb
    return f"""
[agent]
  interval = "1s"
  flush_interval = "100ms"
  metric_batch_size = {BATCH}
  metric_buffer_limit = 1000000
  omit_hostname = true
  quiet = true
[[inputs.kafka_consumer]]
  brokers = ["{place.bootstrap}"]
  kafka_version = "{_KAFKA_VERSION}"
  topics = ["{PEER_TOPIC}"]
  consumer_group = "telegraf"
  offset = "oldest"
  max_undelivered_messages = 1000
{data_format}
[[outputs.influxdb_v2]]
  urls = ["{server.url}"]
  token = "{server.token}"
  organization = "{server.org}"
  bucket = "{server.bucket}"
  content_encoding = "identity"
  concurrent_writes = 2
"""


def ingest(place: Place, **more: object) -> tuple[str, ...]:
    """This project's ingest, as it comes but for `more` settings."""
    server = place.influxdb
    values: dict[str, object] = {
        "nats_url": "nats://127.0.0.1:1",  # of the control plane, which ingest does not use
        "log_url": f"kafka://{place.bootstrap}",
        "telemetry_url": f"influxdb://{HOST}:{server.port}/{server.org}/{server.bucket}",
        "telemetry_token": server.token,
        "telemetry_books_url": place.books_url,
        **more,
    }
    config = place.folder / "ingest.toml"
    config.write_text(
        "\n".join(["[ingest]", *(f"{key} = {json.dumps(text)}" for key, text in values.items())])
    )
    return sys.executable, "-m", "industrialmind", "cloud", "run", "ingest", "--config", str(config)


RAW_ONE: Final = Contestant("raw posts, one connection", raw(1), None)
RAW_TWO: Final = Contestant("raw posts, two connections", raw(2), None)
TELEGRAF: Final = Contestant("Telegraf, lines", telegraf(_INFLUX_FORMAT), lines, told_token=False)
TELEGRAF_JSON: Final = Contestant("Telegraf, JSON", telegraf(_JSON_FORMAT), json_rows, told_token=False)
CLIENT: Final = Contestant("client, points", client("points"), json_rows)
CLIENT_LINES: Final = Contestant("client, lines", client("lines"), lines)
INGEST: Final = Contestant("ingest", ingest, frame, SENSOR_READINGS, told_token=False, books=True)
INGEST_LARGE: Final = replace(
    INGEST, name="ingest, batches of 1,000", command=partial(ingest, batch_records=1000)
)
