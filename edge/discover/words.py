"""How plants call things: keys of times, values and units, and units that a name tells."""

import re
from typing import Final

from shared.errors import Rejected
from shared.units import spelled

TIME: Final = (
    "sourcetimestamp", "timestamp", "ts", "t", "time", "datetime", "date", "epoch", "sampletime", "eventtime",
    "measuredat", "createdat", "servertimestamp", "utc", "when", "clock",
)  # fmt: skip
VALUE: Final = frozenset({"v", "val", "value", "reading", "currentvalue", "numericvalue", "x"})
UNIT: Final = frozenset(
    {"u", "unit", "units", "uom", "engunit", "engunits", "engineeringunit", "engineeringunits"}
)
QUALITY: Final = frozenset({"q", "quality", "status", "statuscode", "good", "valid", "code"})
NAME: Final = frozenset(
    {"name", "n", "id", "tag", "tagname", "sensor", "sensorid", "metric", "point", "channel", "nodeid", "variable",
     "signal", "displayname"}
)  # fmt: skip
META: Final = frozenset(
    {"linkquality", "rssi", "lqi", "uptime", "uptimesec", "seq", "sequence", "sequencenumber", "msgid", "messageid",
     "id", "serial", "serialnumber", "version", "fw", "firmware", "heap", "loadavg", "sleep", "mqttcount", "pid",
     "port", "src", "dst", "method", "channel", "ssid", "mac", "ip", "crc", "count", "index"}
)  # fmt: skip
"""Numbers that say something of the message or the radio, not of the machine."""
GENERIC: Final = frozenset(
    {"telemetry", "data", "state", "status", "sensor", "sensors", "values", "value", "measurements", "tele", "stat",
     "events", "event", "rpc", "relay", "switch", "emeter", "out", "output", "up", "uplink", "json", "message",
     "messages", "payload", "params", "metrics", "readings", "info", "live", "raw", "tags", "var", "variables"}
)  # fmt: skip
"""Levels and keys that no machine and no sensor is called by."""

_NAMED_UNITS: Final = {
    "degc": "degC", "celsius": "degC", "c": "degC", "degf": "degF", "fahrenheit": "degF", "kelvin": "K",
    "bar": "bar", "mbar": "mbar", "kpa": "kPa", "pa": "Pa", "rpm": "rpm", "hz": "Hz", "kw": "kW", "w": "W",
    "watt": "W", "watts": "W", "a": "A", "amp": "A", "amps": "A", "ma": "mA", "v": "V", "volt": "V", "volts": "V",
    "pct": "%", "percent": "%", "mms": "mm/s", "lpm": "l/min", "lmin": "l/min", "m3h": "m3/h", "nm": "Nm", "kn": "kN",
    "mm": "mm", "um": "um", "db": "dB",
}  # fmt: skip
_USUAL: Final = {
    "temperature": "degC", "temp": "degC", "humidity": "%", "rpm": "rpm", "voltage": "V", "current": "A",
    "frequency": "Hz", "apower": "W", "speedrpm": "rpm",
}  # fmt: skip


def key(text: str) -> str:
    """A key as these tables have it."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def words(text: str) -> list[str]:
    """The words of a name: `motorTemp_degC` is motor, temp, degc."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def told_unit(name: str) -> tuple[str, bool] | None:
    """The unit that ends a name (`pressure_bar`), and whether that is sure: one letter may stand for anything (`phase_a`)."""
    found = words(name)
    if len(found) < 2:  # noqa: PLR2004 - a quantity and its unit
        return None
    whole = _NAMED_UNITS.get("".join(found[-2:]))
    if whole is not None:
        return whole, True
    unit = _NAMED_UNITS.get(found[-1])
    return None if unit is None else (unit, len(found[-1]) > 1)


def usual_unit(name: str) -> str | None:
    """The unit in which a quantity of that name mostly is: a guess, to be looked at. None for pressures, flows and the like."""
    found = words(name)
    return next((unit for word in reversed(found) if (unit := _USUAL.get(word)) is not None), None)


def known_unit(text: object) -> str | None:
    """A text as a unit of the table, None if it is none."""
    if not isinstance(text, str):
        return None
    try:
        return spelled(text)
    except Rejected:
        return None


def generic(level: str) -> bool:
    """Whether a level or key names neither machine nor sensor."""
    return level.isdigit() or key(level) in GENERIC or not key(level)
