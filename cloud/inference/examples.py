"""Examples of requests and answers, for the OpenAPI document."""

from typing import Any, Final

ROWS: Final[dict[str, Any]] = {
    "machine": "pump-01",
    "rows": {
        "time_us": [1_764_336_600_000_000, 1_764_336_601_000_000],
        "values": {"flow": [118.2, 118.4], "pressure": [4.1, None]},
        "units": {"flow": "l/min", "pressure": "bar"},
    },
    "most": 1,
}
WINDOWS: Final[dict[str, Any]] = {
    "machine": "pump-01",
    "version_hash": "ab" * 32,
    "windows": {
        "time_us": [1_764_336_601_000_000],
        "sensors": ["flow", "pressure"],
        "units": {"flow": "l/min", "pressure": "bar"},
        "values": [[[118.2, 4.1], [118.4, None]]],
    },
}
ANSWER: Final[dict[str, Any]] = {
    "machine": "pump-01",
    "model": {
        "name": "pump-01/window-pca",
        "version": 2,
        "version_hash": "ab" * 32,
        "provisional": False,
        "window": 2,
        "step_us": 1_000_000,
    },
    "limit": 6.2,
    "time_us": [1_764_336_601_000_000],
    "score": [7.5],
    "state": ["alarm"],
    "reason": [""],
    "detail": [""],
    "sensors": {
        "flow": {"unit": "l/min", "contribution": [0.875], "seen": [118.3], "expected": [131.0]},
        "pressure": {"unit": "bar", "contribution": [0.125], "seen": [4.1], "expected": [4.2]},
    },
    "ignored": [],
}
