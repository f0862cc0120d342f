"""A page's URL, which restores it: path, filters, tiles or table, chosen sensors, time range."""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from cloud.ui.view import STATES
from shared.clock import MICROSECONDS
from shared.names import is_id

RANGES: Final = {"15m": 900, "1h": 3600, "6h": 21_600, "24h": 86_400, "7d": 604_800}
"""Names of time ranges up to now, in seconds."""
DEFAULT_RANGE: Final = "1h"
SENSORS_SHOWN: Final = 3
"""Trends that fit one chart."""
MIN_SPAN_US: Final = 2 * MICROSECONDS
_LATEST_US: Final = 4_102_444_800 * MICROSECONDS

Page = Literal["fleet", "machine", "lost"]


@dataclass(frozen=True, slots=True)
class Route:
    """What a URL asks for. `start_us` and `end_us` are both given, or neither: then the range up to now counts."""

    page: Page = "fleet"
    machine: str = ""
    state: str = ""
    view: Literal["tiles", "table"] = "tiles"
    sensors: tuple[str, ...] = ()
    span: str = DEFAULT_RANGE
    start_us: int | None = None
    end_us: int | None = None

    @classmethod
    def parse(cls, url: str) -> "Route":
        """Read a URL; what can't be read of its query is as if it weren't there."""
        parts = urlsplit(url)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        match [unquote(part) for part in parts.path.split("/") if part]:
            case []:
                state = query.get("state", "")
                return cls(
                    "fleet",
                    state=state if state in STATES else "",
                    view="table" if query.get("view") == "table" else "tiles",
                )
            case ["machine", machine] if is_id(machine):
                sensors = dict.fromkeys(name for name in query.get("sensor", "").split(",") if is_id(name))
                span = query.get("range", DEFAULT_RANGE)
                start, end = _moment(query.get("from")), _moment(query.get("to"))
                known = start is not None and end is not None and end - start >= MIN_SPAN_US
                return cls(
                    "machine",
                    machine,
                    sensors=tuple(sensors)[:SENSORS_SHOWN],
                    span=span if span in RANGES else DEFAULT_RANGE,
                    start_us=start if known else None,
                    end_us=end if known else None,
                )
        return cls("lost")

    def to(self, **changes: Any) -> str:  # noqa: ANN401 - any of the fields
        """The URL of this view with changes."""
        return replace(self, **changes).url()

    def url(self) -> str:
        """The shortest URL that restores this view."""
        if self.page == "fleet":
            query = {"state": self.state, "view": "table" if self.view == "table" else ""}
            return _join("/", query)
        fixed = self.start_us is not None and self.end_us is not None
        query = {
            "sensor": ",".join(self.sensors),
            "range": "" if fixed or self.span == DEFAULT_RANGE else self.span,
            "from": str(self.start_us) if fixed else "",
            "to": str(self.end_us) if fixed else "",
        }
        return _join(f"/machine/{self.machine}", query)

    def toggled(self, sensor: str) -> str:
        """The URL with a sensor's trend laid over, or taken away; the oldest gives way."""
        if sensor in self.sensors:
            return self.to(sensors=tuple(name for name in self.sensors if name != sensor))
        return self.to(sensors=(*self.sensors, sensor)[-SENSORS_SHOWN:])

    @property
    def live(self) -> bool:
        """Whether the time range ends now."""
        return self.start_us is None

    def window(self, now_us: int) -> tuple[int, int]:
        """The time range in µs."""
        if self.start_us is not None and self.end_us is not None:
            return self.start_us, self.end_us
        return now_us - RANGES[self.span] * MICROSECONDS, now_us


def _moment(text: str | None) -> int | None:
    """µs since 1970, if the text is such a number."""
    return int(text) if text and text.isdecimal() and len(text) < 20 and int(text) < _LATEST_US else None  # noqa: PLR2004 - digits


def _join(path: str, query: dict[str, str]) -> str:
    text = urlencode({key: value for key, value in query.items() if value}, safe=",")
    return f"{path}?{text}" if text else path
