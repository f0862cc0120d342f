"""What else looked like this: the store's anomalies as vectors, brought up to date whenever somebody asks.

No loop runs and nothing is loaded while nobody asks. At the first question after a start every anomaly of the store is
looked at, and those that no vector is kept of are added; after that only those that the store took since.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cloud.similar.embedding import embed
from cloud.similar.port import Kept, Vectors
from cloud.telemetry.port import StoredEvent, TelemetryReader
from shared.errors import NotFound
from shared.events import AnomalyStarted, parse_event

PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Alike:
    """An anomaly and how like it is to the one that was asked about, 0 to 1."""

    anomaly: AnomalyStarted
    likeness: float


class SimilarAnomalies:
    """Anomalies of a store, found by what they look like."""

    def __init__(self, vectors: Vectors, store: TelemetryReader) -> None:
        self._vectors, self._store = vectors, store
        self._seen, self._last = 0, ""
        self._catching_up = asyncio.Lock()

    async def like(self, id_: str, most: int) -> list[Alike]:
        """The anomalies that looked most like the one with this id, without itself.

        Raises NotFound (no such anomaly) and Unavailable.
        """
        await self._catch_up()
        own = await self._vectors.get(id_)
        if own is None:
            raise NotFound(f"no anomaly {id_}: ids stand in GET /v1/anomalies")
        found = await self._vectors.near(own.vector, most + 1)
        return [
            Alike(_anomaly(str(each.about["event"]).encode()), each.likeness)
            for each in found
            if each.id != id_
        ][:most]

    async def _catch_up(self) -> None:
        async with self._catching_up:
            if not await self._stands():
                self._seen, self._last = 0, ""
            while page := await self._after(self._seen, PAGE):
                await self._add(page)
                self._seen, self._last = page[-1].seq, page[-1].fact.id

    async def _stands(self) -> bool:
        """Whether the store is the one that was followed: one that was made anew numbers its events anew."""
        found = await self._after(self._seen - 1, 1)
        return [(each.seq, each.fact.id) for each in found] == [(self._seen, self._last)]

    async def _after(self, seq: int, most: int) -> list[StoredEvent]:
        return await self._store.events(types=(AnomalyStarted.type,), limit=most, after_seq=seq)

    async def _add(self, page: Sequence[StoredEvent]) -> None:
        new = await self._vectors.missing([each.fact.id for each in page])
        await self._vectors.put(
            [
                Kept(
                    each.fact.id,
                    embed(_anomaly(each.fact.json).sensors),
                    {
                        "machine": each.fact.machine,
                        "onset_us": each.fact.occurred_us,
                        "event": each.fact.json.decode(),
                    },
                )
                for each in page
                if each.fact.id in new
            ]
        )


def _anomaly(json: bytes) -> AnomalyStarted:
    event = parse_event(json)
    assert isinstance(event, AnomalyStarted)  # noqa: S101 - the types asked for
    return event
