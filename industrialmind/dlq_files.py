"""Dead letters of a plant that is not running: its log, by a nats-server of its own for as long as it is read."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from cloud.api.dead_letters import Filter
from cloud.api.times import moment
from cloud.deadletters.app import DeadLetters
from industrialmind.dlq import Choice
from industrialmind.embedded import EmbeddedNats, account_of
from industrialmind.letter_answers import LetterAnswers
from industrialmind.plant import DataDir
from shared.clock import SystemClock
from shared.eventlog import open_event_log
from shared.nats import open_control
from shared.supervise import Child, Supervisor, free_ports


class FromFiles:
    """From a stopped plant."""

    def __init__(self, answers: LetterAnswers) -> None:
        self._answers = answers

    async def page(self, choice: Choice, before: str, limit: int) -> Mapping[str, Any]:
        """See Reader."""
        since_us = moment(choice.since, SystemClock().now_us(), "since") if choice.since else 0
        wanted = Filter(
            reason=choice.reason,
            topic=choice.topic,
            source=choice.source,
            since_us=since_us,
            handled=choice.all,
        )
        return (await self._answers.page(wanted, before, limit)).model_dump(mode="json")

    async def letter(self, letter: str) -> Mapping[str, Any]:
        """See Reader."""
        return (await self._answers.show(letter)).model_dump(mode="json")


@asynccontextmanager
async def open_files(data: DataDir) -> AsyncIterator[FromFiles]:
    """Start the server, read, stop it.

    Raises NotFound (no plant there), Misconfigured (something else holds the folder), Unavailable.
    """
    plant = data.plant()
    with data.locked():
        nats_port, mqtt_port = free_ports(2)
        nats = EmbeddedNats(data.root, plant.edges(), nats_port=nats_port, mqtt_port=mqtt_port)
        nats.write_config()
        supervisor = Supervisor()
        await supervisor.start(Child("nats-server", tuple(nats.command()), data.logs / "nats-server.log"))
        try:
            await nats.wait_ready()
            credentials = account_of(data.root, "cli").userinfo
            log_url, log_credentials = plant.log_access(nats.nats_url, credentials)
            async with (
                open_control(nats.nats_url, credentials=credentials) as control,
                open_event_log(log_url, credentials=log_credentials) as log,
            ):
                yield FromFiles(LetterAnswers(DeadLetters(log, control.assignments, SystemClock())))
        finally:
            await supervisor.stop()
