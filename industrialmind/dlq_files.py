"""Dead letters of a plant that is not running: its log, by a nats-server of its own for as long as it is read."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from cloud.api.dead_letters import Filter
from cloud.api.times import moment
from cloud.deadletters.app import DeadLetters
from industrialmind.dlq import Choice
from industrialmind.embedded import account_of
from industrialmind.letter_answers import LetterAnswers
from industrialmind.plant import DataDir
from industrialmind.served import plant_log, served
from shared.clock import SystemClock
from shared.nats import open_control


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
    """Read with a server of its own.

    Raises NotFound (no plant there), Misconfigured (something else holds the folder), Unavailable.
    """
    async with served(data) as at:
        credentials = account_of(data.root, "cli").userinfo
        async with open_control(at.nats_url, credentials=credentials) as control, plant_log(data, at) as log:
            yield FromFiles(LetterAnswers(DeadLetters(log, control.assignments, SystemClock())))
