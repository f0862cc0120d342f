"""Who carries MQTT to Kafka here: each one's command and settings, every one of them at QoS 1 and `acks=all`, idempotent."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.peers.checks import Check, framed_readings, same_frames, same_payloads, telegraf_json
from bench.peers.process import python
from deploy.servers.telegraf import binary
from shared.names import SENSOR_READINGS
from shared.supervise import free_ports

PEER_TOPIC: Final = "bench"
READINGS_FILTER: Final = "plant/+/+/+"
_INFLIGHT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contestant finds its broker, its log and a folder of its own. No `user`: the broker asks for none."""

    folder: Path
    mqtt_port: int
    user: str
    password: str
    bootstrap: str
    nats_url: str
    nats_credentials: str

    @property
    def mqtt(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.mqtt_port}"


@dataclass(frozen=True, slots=True)
class Started:
    """What to run, what it reads first, and its health endpoint's port where it has one."""

    command: tuple[str, ...]
    told: str = ""
    health_port: int = 0


@dataclass(frozen=True, slots=True)
class Contestant:
    """`start` writes what it needs to its folder. `one_each`: one Kafka record a message."""

    name: str
    start: Callable[[Place], Started]
    topic: str
    check: Check
    one_each: bool = True


def gateway(place: Place, **settings: object) -> Started:
    """This project's gateway, as it comes but for `settings`."""
    [port] = free_ports(1)
    values: Mapping[str, object] = {
        "mqtt_url": f"mqtt://{place.mqtt}",
        "mqtt_username": place.user,
        "mqtt_password": place.password,
        "nats_url": place.nats_url,
        "credentials": place.nats_credentials,
        "log_url": f"kafka://{place.bootstrap}",
        "port": port,
        **settings,
    }
    config = place.folder / "gateway.toml"
    config.write_text(
        "\n".join(["[gateway]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])
    )
    command = (sys.executable, "-m", "industrialmind", "gateway", "run", "--config", str(config))
    return Started(command, health_port=port)


def gateway_one_each(place: Place) -> Started:
    """The gateway, told to write a record a reading."""
    return gateway(place, direct_rows=1)


def mq_bridge(place: Place) -> Started:
    """mq-bridge, tuned: a queue and a window of 20,000, batches of 4,096; it acknowledges what Kafka has confirmed.

    With all 65,535 that MQTT allows in flight it takes fifteen times the CPU once so many have passed.
    """
    mqtt = {
        "url": f"tcp://{place.mqtt}",
        "topic": READINGS_FILTER,
        "client_id": "mq-bridge",
        "username": place.user or None,
        "password": place.password or None,
        "qos": 1,
        "queue_capacity": 20_000,
        "max_inflight": _INFLIGHT,
        "clean_session": False,
        "delayed_ack": False,
    }
    kafka = {
        "url": place.bootstrap,
        "topic": PEER_TOPIC,
        "delayed_ack": False,
        "create_topic": False,
        "producer_options": [["acks", "all"], ["enable.idempotence", "true"]],
    }
    route = {"input": {"mqtt": mqtt}, "output": {"kafka": kafka}, "batch_size": 4096}
    config = place.folder / "route.json"
    config.write_text(json.dumps(route))
    return Started(python("bench.peers.mq_bridge_route", str(config)))


def telegraf(place: Place) -> Started:
    """Telegraf: parsed JSON in, JSON out; it acknowledges what Kafka has confirmed."""
    config = place.folder / "telegraf.conf"
    config.write_text(f"""
[agent]
  interval = "1s"
  flush_interval = "100ms"
  metric_batch_size = 5000
  metric_buffer_limit = 200000
  omit_hostname = true
  quiet = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://{place.mqtt}"]
  username = "{place.user}"
  password = "{place.password}"
  topics = ["{READINGS_FILTER}"]
  client_id = "telegraf"
  qos = 1
  persistent_session = true
  max_undelivered_messages = 50000
  data_format = "json"
  json_time_key = "ts"
  json_time_format = "unix_ms"
[[outputs.kafka]]
  brokers = ["{place.bootstrap}"]
  topic = "{PEER_TOPIC}"
  routing_tag = "topic"
  required_acks = -1
  idempotent_writes = true
  compression_codec = 0
  data_format = "json"
  json_timestamp_units = "1ms"
""")
    return Started((str(binary()), "--config", str(config)))


def plain_bridge(place: Place) -> Started:
    """Aiomqtt and confluent-kafka, message by message."""
    arguments = (place.mqtt, place.bootstrap, READINGS_FILTER, PEER_TOPIC)
    return Started(python("bench.peers.plain_bridge", *arguments), told=f"{place.user}:{place.password}")


FRAMED: Final = Contestant("gateway, framed", gateway, SENSOR_READINGS, framed_readings, one_each=False)
ONE_EACH: Final = Contestant("gateway, a record each", gateway_one_each, SENSOR_READINGS, framed_readings)
MQ_BRIDGE: Final = Contestant("mq-bridge, tuned", mq_bridge, PEER_TOPIC, same_payloads)
TELEGRAF: Final = Contestant("Telegraf", telegraf, PEER_TOPIC, telegraf_json)
PLAIN: Final = Contestant("plain bridge", plain_bridge, PEER_TOPIC, same_payloads)
EDGE_FRAMES: Final = Contestant("gateway", gateway, SENSOR_READINGS, same_frames)
