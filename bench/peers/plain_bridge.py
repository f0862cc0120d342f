"""The bridge that people write: aiomqtt, and a produce and a poll per message.

aiomqtt acknowledges a message when it arrives, not when Kafka has it: what it holds is lost if it dies.
Run: python -m bench.peers.plain_bridge HOST:PORT BOOTSTRAP MQTT_TOPIC KAFKA_TOPIC, with `user:password` on standard input.
"""

import asyncio
import sys

import aiomqtt
from confluent_kafka import Producer

from bench.peers.stand_in import say


async def bridge(address: str, bootstrap: str, source: str, target: str) -> None:
    """Carry messages until killed."""
    user, password = sys.stdin.readline().strip().split(":")
    host, port = address.split(":")
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    async with aiomqtt.Client(
        host, int(port), identifier="plain", username=user or None, password=password or None
    ) as client:
        await client.subscribe(source, qos=1)
        say(subscribed=True)
        async for message in client.messages:
            producer.produce(target, message.payload, key=message.topic.value)
            producer.poll(0)


def main() -> None:
    """Read the arguments and carry."""
    asyncio.run(bridge(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]))


if __name__ == "__main__":
    main()
