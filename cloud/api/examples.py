"""Examples of the main answers, for the OpenAPI document."""

from typing import Any, Final

import orjson
from pydantic import BaseModel

_CURVE: Final = {
    "machine": "pump-01",
    "sensor": "flow",
    "unit": "m3/h",
    "from_us": 1_767_225_600_000_000,
    "to_us": 1_767_312_000_000_000,
    "points": 86_400,
    "downsampled": True,
    "time_us": [1_767_225_642_000_000, 1_767_225_685_000_000],
    "value": [41.9, 42.3],
    "quality": [0, 0],
    "min": [40.8, 41.1],
    "max": [43.0, 43.2],
}
READINGS: Final = _CURVE
SERIES: Final = {"series": [_CURVE]}
MANY_READINGS: Final = {
    "from_us": 1_767_225_600_000_000,
    "to_us": 1_767_312_000_000_000,
    "series": [
        {
            "machine": "pump-01",
            "sensor": "flow",
            "unit": "m3/h",
            "points": 86_400,
            "downsampled": True,
            "time_us": [1_767_225_642_000_000, 1_767_225_685_000_000],
            "value": [41.9, 42.3],
            "quality": [0, 0],
        }
    ],
    "next": None,
}
MACHINE_DATA: Final = {"machine": "pump-01", "readings": 345_600, "sensors": {"flow": "m3/h"}}
SENSORS: Final = {
    "machine": "pump-01",
    "sensors": [
        {
            "sensor": "flow",
            "unit": "m3/h",
            "low": 38.2,
            "high": 45.9,
            "learnt": True,
            "range_low": 0.0,
            "range_high": 60.0,
            "last": {"time_us": 1_767_312_000_000_000, "value": 42.1, "quality": 0},
        }
    ],
}
SCORES: Final = {
    "machine": "pump-01",
    "from_us": 1_767_225_600_000_000,
    "to_us": 1_767_312_000_000_000,
    "points": 2,
    "downsampled": False,
    "time_us": [1_767_225_642_000_000, 1_767_225_643_000_000],
    "score": [0.4, 1.7],
    "limit": [1.2, 1.2],
    "version_hash": [0, 0],
    "models": [{"name": "pump-01/window-pca", "version_hash": "ab" * 32}],
    "contributions": [{"sensor": "flow", "share": 0.8}, {"sensor": "pressure", "share": 0.2}],
}
MACHINE: Final = {
    "machine": "pump-01",
    "site": "demo",
    "edge": "edge-pump-01",
    "state": "anomalous",
    "score": 3.1,
    "limit": 1.2,
    "unscored_reason": "",
    "model": {
        "name": "pump-01/window-pca",
        "version": 1,
        "version_hash": "ab" * 32,
        "provisional": True,
    },
    "leading": [{"sensor": "flow", "share": 0.8, "seen": 38.0, "expected": 42.0, "unit": "m3/h"}],
    "last": [{"sensor": "flow", "value": 38.0, "unit": "m3/h", "at": "2026-01-01T00:00:00Z"}],
    "data_age_seconds": 0.4,
    "clock_skew_seconds": 0.0,
    "outbox_rows": 0,
    "listening": True,
}
MODELS: Final = {
    "models": [
        {
            "machine": "pump-01",
            "name": "pump-01/window-pca",
            "method": "window-pca",
            "version": 1,
            "version_hash": "ab" * 32,
            "provisional": True,
            "registered_at": "2026-01-01T00:00:00Z",
            "aliases": ["champion"],
            "promoted_to": ["edge-pump-01"],
            "running_on": ["edge-pump-01"],
            "metrics": {"validation": 0.97},
        }
    ],
    "position": {"0": 3},
    "next": None,
}
LEDGER: Final[dict[str, Any]] = {"sources": [], "findings": [], "resolved": [], "lateness": [], "notes": []}
MACHINES: Final = {"machines": [MACHINE]}
ANOMALIES: Final = {
    "anomalies": [
        {
            "id": "5f0c" * 8,
            "machine": "pump-01",
            "edge": "edge-pump-01",
            "onset": "2026-01-01T00:00:00Z",
            "ended_at": None,
            "score": 3.1,
            "limit": 1.2,
            "model": "pump-01/window-pca",
            "version_hash": "ab" * 32,
            "sensors": MACHINE["leading"],
        }
    ],
    "next": None,
}
EVENTS_PAGE: Final = {
    "events": [
        {
            "specversion": "1.0",
            "id": "5f0c" * 8,
            "type": "edge.started",
            "source": "edge-pump-01",
            "subject": "edge-pump-01",
            "time": "2026-01-01T00:00:00Z",
            "data": {},
        }
    ],
    "next": "WyJldmVudHMiLDE3NjcyMjU2MDAwMDAwMDAsMTddfQ",
}
_LETTER: Final = {
    "id": "0-17",
    "reason": "unknown unit 'ell'",
    "topic": "plant/demo/pump-01/flow",
    "source": "edge-pump-01",
    "received_us": 1_767_225_600_000_000,
    "logged_us": 1_767_225_600_012_000,
    "size": 51,
    "whole": True,
    "handled": None,
}
DEAD_LETTERS: Final = {"letters": [_LETTER], "next": "0-17", "scanned": 1}
DEAD_LETTER: Final = {
    **_LETTER,
    "key": "pump-01",
    "origin": {"im-site": "demo", "im-edge": "edge-pump-01", "im-epoch": "ab" * 16, "im-row": "1203"},
    "position": {},
    "sha256": "",
    "payload": "eyJ0cyI6MTc2NzIyNTYwMDAwMCwidmFsdWUiOjQyLjEsInVuaXQiOiJlbGwifQ==",
    "replay": {"via": "mqtt", "from_us": 0, "refusal": ""},
}
LETTER_DONE: Final = {
    "id": "0-17",
    "handled": {
        "outcome": "replayed",
        "at_us": 1_767_229_200_000_000,
        "by": "cli",
        "note": "plant/demo/pump-01/flow",
    },
    "position": {"0": 4},
    "changed": True,
}
SIGNED_IN: Final = {
    "session": "ims_S0me-43-characters",
    "id": "5e5510ab5e5510ab",
    "principal": "eve",
    "role": "engineer",
    "expires_at": "2026-01-01T12:00:00Z",
}
ME: Final = {
    "name": "eve",
    "role": "engineer",
    "rights": ["read", "operate", "maintain", "engineer"],
    "via": "session",
    "credential": "5e5510ab5e5510ab",
}
SESSIONS: Final = {
    "sessions": [
        {
            "id": "5e5510ab5e5510ab",
            "method": "password",
            "created_at": "2026-01-01T00:00:00Z",
            "seen_at": "2026-01-01T00:05:00Z",
            "expires_at": "2026-01-01T12:00:00Z",
            "current": True,
        }
    ]
}
USER: Final = {
    "name": "eve",
    "display_name": "Eve Example",
    "role": "engineer",
    "active": True,
    "provider": False,
    "password": True,
    "created_at": "2026-01-01T00:00:00Z",
}
USERS: Final = {"users": [USER]}
_TOKEN: Final = {
    "id": "70ce70ce70ce70ce",
    "owner": "eve",
    "label": "nightly report",
    "scopes": ["read"],
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-04-01T00:00:00Z",
    "used_at": None,
}
TOKENS: Final = {"tokens": [_TOKEN]}
TOKEN_MADE: Final = {**_TOKEN, "token": "im_S0me-43-characters"}
ACCESS_TOKEN: Final = {
    "access_token": "eyJ0eXAiOiJhdCtqd3QifQ.eyJzdWIiOiJldmUifQ.c2lnbmF0dXJl",
    "token_type": "Bearer",
    "audience": "inference-api",
    "scopes": ["read"],
    "expires_at": "2026-01-01T00:10:00Z",
}
KEYS: Final = {
    "keys": [
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAY…", "kid": "kPrK_q…", "use": "sig", "alg": "Ed25519"}
    ]
}
UPDATE: Final = {
    "type": "update",
    "now_us": 1_767_312_000_100_000,
    "machines": [MACHINE],
    "readings": {"pump-01": {"flow": [[1_767_312_000_000_000, 38.0, 0]]}},
    "scores": {"pump-01": [[1_767_311_999_000_000, 3.1, 1.2]]},
    "events": [],
}
UPDATE_EVENT: Final = "data: " + orjson.dumps(UPDATE).decode() + "\n\n"


def example(
    content: Any,  # noqa: ANN401 - JSON
    status: int = 200,
    media_type: str = "application/json",
    model: type[BaseModel] | None = None,
) -> dict[int | str, dict[str, Any]]:
    """`responses` of an endpoint with this example; `model`: what the answer is, where its type does not say it."""
    found: dict[str, Any] = {"content": {media_type: {"example": content}}}
    return {status: found if model is None else {"model": model, **found}}
