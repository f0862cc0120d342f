"""InfluxDB's HTTP interface: writing lines, asking in InfluxQL, buckets; what goes wrong becomes one of our errors."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import orjson
import structlog

from cloud.telemetry.facts import MINUTE_US
from shared.errors import Misconfigured, Unavailable
from shared.names import REPLAYED

log = structlog.get_logger()

_CONNECTIONS: Final = 4
_REFUSED: Final = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_AWAY: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_TIMEOUT}
_PARTIAL: Final = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
_NULL: Final = b"null"
_EXPIRED: Final = "beyond retention policy"
_URL: Final = re.compile(r"^influxdb://[^/@?]+/[^/?]+/[^/?]+(\?tls=[01])?$")


MINUTES: Final = "_1m"
HOURS: Final = "_1h"
REPLAY: Final = "_replay"


@dataclass(frozen=True, slots=True)
class Place:
    """What `influxdb://HOST:PORT/ORG/BUCKET` names."""

    base_url: str
    org: str
    bucket: str

    @classmethod
    def of(cls, url: str) -> "Place":
        """Raises Misconfigured."""
        if not _URL.match(url):
            raise Misconfigured(
                f"{url!r} names no InfluxDB bucket",
                hint="use influxdb://HOST:PORT/ORG/BUCKET, with ?tls=1 for https; the token is a setting of its own",
            )
        parts = urlsplit(url)
        _, org, bucket = parts.path.split("/")
        scheme = "https" if parse_qs(parts.query).get("tls") == ["1"] else "http"
        return cls(f"{scheme}://{parts.netloc}", unquote(org), unquote(bucket))

    def readings(self, machine: str) -> str:
        """The bucket of a machine's readings and scores. A recording's times are old from the start: it is kept apart."""
        return self.bucket + (REPLAY if machine.startswith(REPLAYED) else "")

    def rollups(self, machine: str, width_us: int) -> str:
        """The bucket of a machine's minutes, with what ages like them, or of its hours."""
        if machine.startswith(REPLAYED):
            return self.bucket + REPLAY
        return self.bucket + (MINUTES if width_us == MINUTE_US else HOURS)


@dataclass(frozen=True, slots=True)
class Table:
    """A series of an answer: its tags, and its rows in `columns`, time first, each of them whole.

    The server stores a point field by field: who asks meanwhile gets some of its fields and null for the others. Such a point
    is not confirmed to its writer yet, and counts as not there. `given`: the rows with these points, `end_us`: the time
    of the last one of them, for those who ask for more.
    """

    tags: Mapping[str, str]
    columns: Sequence[str]
    rows: list[list[Any]]
    given: int
    end_us: int

    @classmethod
    def of(cls, series: Mapping[str, Any], *, torn: bool) -> "Table":
        """From the answer's JSON. `torn`: whether rows have to be looked at for null."""
        rows = series["values"]
        whole = [row for row in rows if None not in row] if torn else rows
        return cls(series.get("tags", {}), series["columns"], whole, len(rows), rows[-1][0])


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as the server describes it; `retention_s` 0: for ever."""

    id: str
    retention_s: int


class InfluxClient:
    """One server and one organisation. Every method raises Unavailable."""

    def __init__(self, http: httpx.AsyncClient, place: Place) -> None:
        self._http = http
        self.place = place

    async def write(self, bucket: str, body: bytes) -> None:
        """Store lines with times in µs; on its disk on return. Raises Misconfigured if they can't ever be stored."""
        answer = await self._ask(
            "POST",
            "/api/v2/write",
            {"org": self.place.org, "bucket": bucket, "precision": "us"},
            content=body,
        )
        if answer.status_code == HTTPStatus.NO_CONTENT:
            return
        why = _message(answer)
        if answer.status_code in _PARTIAL and _EXPIRED in why:
            log.info("points older than the bucket keeps were not stored", bucket=bucket, why=why)
            return
        if answer.status_code in _PARTIAL:
            raise Misconfigured(
                f"InfluxDB refuses points of bucket {bucket!r}: {why}",
                hint="another program wrote measurements of the same names there; give the store a bucket of its own."
                " Nothing is lost: the log still holds the rows",
            )
        raise _unavailable(self.place, answer)

    async def ask(self, bucket: str, query: str) -> list[list[Table]]:
        """The tables of each statement of an InfluxQL query; times are µs."""
        answer = await self._ask("POST", "/query", {"db": bucket, "epoch": "u"}, data={"q": query})
        if answer.status_code == HTTPStatus.BAD_REQUEST:
            raise ValueError(f"InfluxDB can't read {query!r}: {_message(answer)}")
        if answer.status_code != HTTPStatus.OK:
            raise _unavailable(self.place, answer)
        try:
            document = orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            raise Unavailable(f"{self.place.base_url} gave a broken answer: {error}") from error
        torn = _NULL in answer.content
        found: list[list[Table]] = []
        for one in document["results"]:
            if "error" in one:
                raise Unavailable(f"{self.place.base_url}, bucket {bucket!r}: {one['error']}")
            found.append([Table.of(series, torn=torn) for series in one.get("series", [])])
        return found

    def no_bucket(self) -> Unavailable:
        """There is none yet."""
        return Unavailable(
            f"InfluxDB {self.place.base_url} has no bucket {self.place.bucket!r} yet: `ingest` makes it"
        )

    async def ping(self) -> None:
        """Return if the server answers."""
        answer = await self._ask("GET", "/ping", {})
        if answer.status_code != HTTPStatus.NO_CONTENT:
            raise _unavailable(self.place, answer)

    async def bucket(self, name: str) -> Bucket | None:
        """The bucket; None if there is none that the token may see."""
        answer = await self._ask("GET", "/api/v2/buckets", {"org": self.place.org, "name": name})
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        found = self._json(answer)["buckets"]
        if not found:
            return None
        rules = [rule["everySeconds"] for rule in found[0]["retentionRules"]]
        return Bucket(found[0]["id"], next(iter(rules), 0))

    async def make_bucket(self, name: str, shard_s: int) -> None:
        """A bucket that keeps its points for ever. Others may make it at the same time."""
        organisations = self._json(await self._ask("GET", "/api/v2/orgs", {"org": self.place.org}))["orgs"]
        rule = {"type": "expire", "everySeconds": 0, "shardGroupDurationSeconds": shard_s}
        body = {"orgID": organisations[0]["id"], "name": name, "retentionRules": [rule]}
        answer = await self._ask("POST", "/api/v2/buckets", {}, content=orjson.dumps(body))
        if answer.status_code != HTTPStatus.UNPROCESSABLE_ENTITY or await self.bucket(name) is None:
            self._json(answer)

    async def keep(self, bucket: Bucket, retention_s: int, shard_s: int) -> None:
        """Let a bucket keep its points for so long; 0: for ever."""
        rule = {"type": "expire", "everySeconds": retention_s, "shardGroupDurationSeconds": shard_s}
        body = orjson.dumps({"retentionRules": [rule]})
        self._json(await self._ask("PATCH", f"/api/v2/buckets/{bucket.id}", {}, content=body))

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise _unavailable(self.place, answer)
        document: dict[str, Any] = orjson.loads(answer.content)
        return document

    async def _ask(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        *,
        content: bytes | None = None,
        data: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, params=parameters, content=content, data=data)
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Unavailable(f"{self.place.base_url}: {error or type(error).__name__}") from error
        if answer.status_code in _REFUSED:
            raise RefusedError(f"{self.place.base_url} refuses the token: {_message(answer)}")
        return answer


class RefusedError(Unavailable):
    """The server does not take the token: at the start a wrong setting, later something to wait out."""


def _unavailable(place: Place, answer: httpx.Response) -> Exception:
    why = f"{place.base_url} answers {answer.status_code}: {_message(answer)}"
    if answer.status_code in _AWAY or answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        wait = answer.headers.get("Retry-After", "")
        return Unavailable(why, retry_after=float(wait) if wait.isdigit() else 1.0)
    return RuntimeError(why)


def _message(answer: httpx.Response) -> str:
    try:
        return str(orjson.loads(answer.content)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return answer.text[:200].strip()


@asynccontextmanager
async def open_client(
    place: Place, token: str, *, connect_seconds: float = 5.0, seconds: float = 10.0
) -> AsyncIterator[InfluxClient]:
    """Connections to the server, made when they are needed and kept."""
    async with httpx.AsyncClient(
        base_url=place.base_url,
        # Answers of megabytes from a server nearby: packing them costs more than sending them.
        headers={"Authorization": f"Token {token}", "Accept-Encoding": "identity"},
        timeout=httpx.Timeout(seconds, connect=connect_seconds),
        limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        trust_env=False,
    ) as http:
        yield InfluxClient(http, place)
