"""What the data API answers about dead letters: the service's answers in the API's words."""

import base64
from collections.abc import Mapping

from cloud.api.dead_letters import (
    Filter,
    Handled,
    LetterAnswer,
    LetterDetail,
    LetterList,
    LetterSummary,
    ReplayWay,
)
from cloud.deadletters.app import DeadLetters, Done, Seen
from cloud.deadletters.logic import Fate, Place, Wanted
from shared.eventlog import Position


class LetterAnswers:
    """Dead letters behind the API's endpoints, and behind the commands when no plant runs."""

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters

    async def position(self) -> Position:
        """How far in the topic `audit` the answers count. Raises Unavailable."""
        return await self._letters.position()

    async def page(self, wanted: Filter, before: str, limit: int) -> LetterList:
        """Letters, newest first. Raises Rejected (`before`), Unavailable."""
        asked = Wanted(wanted.reason, wanted.topic, wanted.source, wanted.since_us, wanted.handled)
        found = await self._letters.page(asked, _places(before), limit)
        return LetterList(
            letters=tuple(LetterSummary(**_summary(seen)) for seen in found.letters),
            next=",".join(str(Place(*part)) for part in found.before.items()) or None,
            scanned=found.scanned,
        )

    async def show(self, letter: str) -> LetterDetail:
        """One letter. Raises Rejected (no id), NotFound, Unavailable."""
        seen = await self._letters.show(Place.parse(letter))
        content = seen.letter.content
        return LetterDetail(
            **_summary(seen),
            key=seen.letter.key,
            origin=dict(seen.letter.headers),
            position=dict(content.position),
            sha256=content.sha256,
            payload=base64.b64encode(content.payload).decode(),
            replay=ReplayWay(via=seen.via, from_us=seen.from_us, refusal=seen.refusal),
        )

    async def replay(self, letter: str, *, by: str, request: str, again: bool, at_once: bool) -> LetterAnswer:
        """Send it again. Raises Rejected, NotFound, Conflict, Unavailable."""
        place = Place.parse(letter)
        done = await self._letters.replay(place, by=by, request=request, again=again, at_once=at_once)
        return _answer(done)

    async def drop(self, letter: str, why: str, *, by: str, request: str) -> LetterAnswer:
        """Put it aside. Raises Rejected, NotFound, Conflict, Unavailable."""
        return _answer(await self._letters.drop(Place.parse(letter), why, by=by, request=request))


def _places(before: str) -> dict[str, int]:
    """Partition to offset of an answer's `next`, or of a letter's id. Raises Rejected."""
    return dict(Place.parse(part) for part in before.split(",")) if before else {}


def _answer(done: Done) -> LetterAnswer:
    return LetterAnswer(
        id=str(done.place), handled=_handled(done.fate), position=dict(done.position), changed=done.changed
    )


def _handled(fate: Fate) -> Handled:
    return Handled(outcome=fate.outcome, at_us=fate.at_us, by=fate.by, note=fate.note)


def _summary(seen: Seen) -> Mapping[str, object]:
    letter, content = seen.letter, seen.letter.content
    return {
        "id": str(letter.place),
        "reason": content.reason,
        "topic": content.topic,
        "source": content.source,
        "received_us": content.received_us,
        "logged_us": letter.time_us,
        "size": content.size,
        "whole": content.whole,
        "handled": _handled(seen.fate) if seen.fate else None,
    }
