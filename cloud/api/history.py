"""What the store has of a machine over HTTP: sensors, curves of readings and of the score."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel

from cloud.api.bands import people_s_bands, with_words
from cloud.api.examples import MACHINE_DATA, READINGS, SCORES, SENSORS, SERIES, example
from cloud.api.live import Broadcaster
from cloud.api.logic import MachineStatus
from cloud.api.models import Models
from cloud.api.times import span
from cloud.assets.port import AssetReader
from cloud.telemetry.port import Latest, TelemetryReader, Trend
from shared.access import Right
from shared.asgi_access import needs
from shared.clock import Clock
from shared.errors import NotFound

MAX_POINTS: Final = 4000

Start = Annotated[str, Query(alias="from", description="µs since 1970, RFC 3339, now, or -15m, -24h")]
End = Annotated[str, Query(alias="to", description="the same; not included itself")]
Points = Annotated[int, Query(ge=2, le=MAX_POINTS, description="points of a curve, at most")]


class MachineData(BaseModel):
    """How many readings of which sensors (name to unit) the store has."""

    machine: str
    readings: int
    sensors: dict[str, str]


class Reading(BaseModel):
    """A reading: event time, value, and quality (0 good, 1 uncertain, 2 bad)."""

    time_us: int
    value: float
    quality: int


class SensorNow(BaseModel):
    """A sensor's band (a person's, else the model's) and range are null where nobody says them, `last` without a reading."""

    sensor: str
    unit: str
    low: float | None
    high: float | None
    learnt: bool | None
    range_low: float | None
    range_high: float | None
    last: Reading | None


class SensorList(BaseModel):
    """A machine's sensors by name."""

    machine: str
    sensors: list[SensorNow]


class Curve(BaseModel):
    """Columns of one length; `points` readings are behind them."""

    machine: str
    sensor: str
    unit: str
    from_us: int
    to_us: int
    points: int
    downsampled: bool
    time_us: list[int]
    value: list[float]
    quality: list[int]
    min: list[float]
    max: list[float]


class CurveList(BaseModel):
    """A curve a sensor, by name."""

    series: list[Curve]


class VersionName(BaseModel):
    """A model's version."""

    name: str
    version_hash: str


class Share(BaseModel):
    """A sensor's part in a score."""

    sensor: str
    share: float


class ScoreCurve(BaseModel):
    """Columns of one length; `version_hash` holds indices into `models`."""

    machine: str
    from_us: int
    to_us: int
    points: int
    downsampled: bool
    time_us: list[int]
    score: list[float]
    limit: list[float]
    version_hash: list[int]
    models: list[VersionName]
    contributions: list[Share]


def history_router(
    store: TelemetryReader,
    live: Broadcaster,
    models: Models,
    clock: Clock,
    assets: AssetReader | None = None,
) -> APIRouter:
    """The endpoints."""
    router = APIRouter(dependencies=[Depends(needs(Right.READ))])

    @router.get("/v1/machines/{machine}", responses=example(MACHINE_DATA))
    async def machine_data(machine: str) -> MachineData:
        """What the store has of a machine: how many readings, of which sensors in which unit."""
        series = await store.series(machine)
        if not series:
            raise NotFound(f"{machine[:40]!r} has no readings in the store")
        units = {each.sensor: each.unit for each in series}
        return MachineData(machine=machine, readings=await store.count(machine), sensors=units)

    @router.get(
        "/v1/machines/{machine}/sensors",
        response_class=Response,
        responses=example(SENSORS, model=SensorList),
    )
    async def sensors(machine: str) -> Response:
        """Each sensor with its unit, range, normal band (a person's, else what the model was trained on), newest reading."""
        known = {each.sensor: each for each in await store.latest(machine)}
        units = {each.sensor: each.unit for each in await store.series(machine)}
        status = live.fleet.find(machine)
        if not units and status is None:
            raise NotFound(f"nothing is known of a machine {machine[:40]!r}")
        bands = _bands(await models(), machine, status)
        last = {name: _stored(row) for name, row in known.items()} | live.fleet.newest(machine, known)
        units |= live.fleet.units(machine)
        words = await people_s_bands(assets, machine, units)
        found = [
            {"sensor": name, "unit": unit, **with_words(bands.get(name, _NO_BAND), words.get(name, {}))}
            | {"last": last.get(name)}
            for name, unit in sorted(units.items())
        ]
        return _json({"machine": machine, "sensors": found})

    @router.get("/v1/machines/{machine}/readings/{sensor}", responses=example(READINGS, model=Curve))
    async def readings(
        machine: str, sensor: str, start: Start = "-24h", end: End = "now", max_points: Points = MAX_POINTS
    ) -> Response:
        """A sensor's readings; of more than `max_points` the mean, minimum and maximum of so many buckets."""
        from_us, to_us = span(start, end, clock.now_us())
        found = await store.trends(machine, [sensor], from_us, to_us, max_points)
        if not found:
            raise NotFound(f"no readings of a sensor {sensor[:40]!r} of a machine {machine[:40]!r}")
        return _json(_curve(machine, found[0], from_us, to_us))

    @router.get("/v1/machines/{machine}/readings", responses=example(SERIES, model=CurveList))
    async def all_readings(
        machine: str, start: Start = "-24h", end: End = "now", max_points: Points = 120
    ) -> Response:
        """The same of all sensors at once, each in at most `max_points`."""
        from_us, to_us = span(start, end, clock.now_us())
        found = await store.trends(machine, None, from_us, to_us, max_points)
        if not found and live.fleet.find(machine) is None:
            raise NotFound(f"nothing is known of a machine {machine[:40]!r}")
        return _json({"series": [_curve(machine, trend, from_us, to_us) for trend in found]})

    @router.get("/v1/machines/{machine}/scores", responses=example(SCORES, model=ScoreCurve))
    async def scores(
        machine: str, start: Start = "-24h", end: End = "now", max_points: Points = MAX_POINTS
    ) -> Response:
        """The anomaly score with its limit; of more than `max_points` the largest of so many buckets."""
        from_us, to_us = span(start, end, clock.now_us())
        found = await store.score_trend(machine, from_us, to_us, max_points)
        return _json(
            {
                "machine": machine,
                "from_us": from_us,
                "to_us": to_us,
                "points": found.rows,
                "downsampled": found.downsampled,
                "time_us": found.time_us,
                "score": found.score,
                "limit": found.limit,
                "version_hash": found.model,
                "models": [{"name": name, "version_hash": version} for name, version in found.models],
                "contributions": [{"sensor": sensor, "share": share} for sensor, share in found.newest],
            }
        )

    return router


_NO_BAND: Final[Mapping[str, None]] = {"low": None, "high": None, "learnt": None}


def _bands(
    models: tuple[Any, Mapping[str, int]], machine: str, status: MachineStatus | None
) -> dict[str, dict[str, Any]]:
    """Sensor to the band of the model that runs, else of the one that is wanted."""
    found, _ = models
    running = None if status is None or status.model is None else status.model.version_hash
    mine = [model for model in found if model.machine == machine]
    model = next((m for m in mine if m.version_hash == running), None)
    model = model or next((m for m in reversed(mine) if m.promoted_to), None)
    specs = [] if model is None else model.manifest.get("sensors", [])
    return {spec["name"]: {key: spec[key] for key in _NO_BAND} for spec in specs}


def _stored(row: Latest) -> dict[str, Any]:
    return {"time_us": row.time_us, "value": row.value, "quality": row.quality}


def _curve(machine: str, trend: Trend, from_us: int, to_us: int) -> dict[str, Any]:
    return {
        "machine": machine,
        "sensor": trend.sensor,
        "unit": trend.unit,
        "from_us": from_us,
        "to_us": to_us,
        "points": trend.rows,
        "downsampled": trend.downsampled,
        "time_us": trend.time_us,
        "value": trend.value,
        "quality": trend.quality,
        "min": trend.minimum,
        "max": trend.maximum,
    }


def _json(content: Any) -> Response:  # noqa: ANN401 - JSON, with numpy columns
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
