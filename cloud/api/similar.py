"""What else looked like this, over HTTP."""

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from cloud.api.examples import MACHINE, example
from cloud.similar.app import SimilarAnomalies
from shared.access import Right
from shared.asgi_access import needs
from shared.errors import NotFound
from shared.events import Sensor
from shared.problems import documented

MAX_LIKE: Final = 50
_SIMILAR: Final = {
    "anomaly": "5f0c" * 8,
    "similar": [
        {
            "id": "6a1d" * 8,
            "machine": "pump-02",
            "onset": "2026-01-01T00:00:00Z",
            "likeness": 0.93,
            "score": 3.1,
            "limit": 1.2,
            "sensors": MACHINE["leading"],
        }
    ],
}


class LikeAnomaly(BaseModel):
    """An anomaly with its leading sensors. `likeness`: 1 where the same sensors deviated by the same shares the same way, 0 where none did."""

    id: str
    machine: str
    onset: datetime
    likeness: float = Field(ge=0, le=1)
    score: float
    limit: float
    sensors: tuple[Sensor, ...]


class SimilarList(BaseModel):
    """The anomalies that looked most like one, the likest first."""

    anomaly: str
    similar: list[LikeAnomaly]


def similar_router(similar: SimilarAnomalies | None) -> APIRouter:
    """The endpoint; without `similar` it says what to set."""
    router = APIRouter(dependencies=[Depends(needs(Right.READ))])

    @router.get("/v1/anomalies/{anomaly}/similar", responses=example(_SIMILAR) | documented(404))
    async def similar_anomalies(
        anomaly: Annotated[str, Path(max_length=64, description="an id of GET /v1/anomalies")],
        limit: Annotated[int, Query(ge=1, le=MAX_LIKE, description="at most so many")] = 10,
    ) -> SimilarList:
        """Anomalies of any machine that looked like this one: by which sensors deviated, by what share and which way."""
        if similar is None:
            raise NotFound("this API keeps no vectors: set api.similar_url")
        found = await similar.like(anomaly, limit)
        return SimilarList(
            anomaly=anomaly,
            similar=[
                LikeAnomaly(
                    id=each.anomaly.id,
                    machine=each.anomaly.subject,
                    onset=each.anomaly.onset,
                    likeness=each.likeness,
                    score=each.anomaly.score,
                    limit=each.anomaly.limit,
                    sensors=each.anomaly.sensors,
                )
                for each in found
            ],
        )

    return router
