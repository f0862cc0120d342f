"""InfluxDB's side of the benchmark: how many points it has taken so far, and what it holds at the end."""

import csv
import http.client
import io
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from bench.influx.points import MEASUREMENT, Series
from deploy.servers.influxdb import InfluxDB
from deploy.servers.process import HOST

_WAIT_S: Final = 120.0
_WRITTEN: Final = b"storage_writer_ok_points_sum"


@dataclass(frozen=True, slots=True)
class Held:
    """Of one series: how many points, and the sum of their values in thousandths."""

    count: int
    total: int


class Target:
    """One server and its bucket, asked without a client library."""

    def __init__(self, server: InfluxDB) -> None:
        self.server = server
        self._connection = http.client.HTTPConnection(HOST, server.port, timeout=_WAIT_S)

    def written(self) -> int:
        """Points in writes that were answered with success, a second copy counted again. Costs the server little."""
        lines = self._get("/metrics").splitlines()
        found = (line.rsplit(b" ", 1)[1] for line in lines if line.startswith(_WRITTEN))
        return int(sum(float(number) for number in found))

    def held(self) -> int:
        """Readings that it holds, each once. That costs it some work."""
        return sum(int(row["count"]) for row in self._ask('SELECT COUNT("value")'))

    def sums(self) -> dict[Series, Held]:
        """What each series holds in its field `value`."""
        held = {}
        for row in self._ask('SELECT COUNT("value"), SUM("value")', ' GROUP BY "machine", "sensor"'):
            tags = dict(part.split("=") for part in row["tags"].split(","))
            held[tags["machine"], tags["sensor"]] = Held(int(row["count"]), round(float(row["sum"]) * 1000))
        return held

    def _ask(self, what: str, how: str = "") -> list[dict[str, str]]:
        asked = urlencode({"db": self.server.bucket, "q": f'{what} FROM "{MEASUREMENT}"{how}', "epoch": "ns"})
        return list(
            csv.DictReader(io.StringIO(self._get(f"/query?{asked}", Accept="application/csv").decode()))
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _get(self, path: str, **headers: str) -> bytes:
        self._connection.request(
            "GET", path, headers={"Authorization": f"Token {self.server.token}", **headers}
        )
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{path}: {answer.status} {text.decode(errors='replace')}")
        return text
