"""Examples of assets, counters and work orders, for the OpenAPI document."""

from typing import Any, Final

from fastapi import Body

_POSITION: Final = {"0": 42}
ASSET: Final = {
    "kind": "sensor",
    "id": "pump-01.flow",
    "machine": "pump-01",
    "fields": {"unit": "m3/h", "normal_low": 36.0, "normal_high": 48.0},
    "sources": {"unit": "observed", "normal_low": "edited", "normal_high": "observed"},
    "revision": 3,
    "created_at": "2026-01-01T00:00:00Z",
    "changed_at": "2026-01-02T08:30:00Z",
    "changed_by": "ada",
    "retired_at": None,
    "retired_why": "",
}
ASSETS_PAGE: Final = {"assets": [ASSET], "next": None, "position": _POSITION}
ASSET_DONE: Final = {"asset": ASSET, "position": _POSITION, "changed": True}
TREE: Final = {
    "assets": [
        {
            "kind": "site",
            "id": "demo",
            "fields": {},
            "children": [
                {"kind": "machine", "id": "pump-01", "fields": {"criticality": "A"}, "children": []}
            ],
        }
    ],
    "truncated": False,
    "position": _POSITION,
}
IMPORTED: Final = {
    "differences": [
        {
            "line": 7,
            "kind": "sensor",
            "id": "pump-01.flow",
            "action": "change",
            "fields": {"normal_low": [38.2, 36.0]},
        }
    ],
    "applied": False,
    "position": _POSITION,
}
FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "application/yaml": {"schema": {"type": "object"}},
            "text/csv": {"schema": {"type": "string"}},
        }
    }
}
CREATION: Final = Body(
    examples=[{"id": "pump-01.de-bearing", "fields": {"type": "bearing", "attributes": {"balls": 9}}}]
)
COUNTER: Final = {
    "id": "pump-01.de-bearing.run-hours",
    "machine": "pump-01",
    "value": 120.5,
    "as_of": "2026-01-02T08:30:00Z",
    "changed_by": "ada",
    "resets": [{"at": "2026-01-01T08:00:00Z", "by": "ada", "reason": "bearing replaced", "value": 8120.0}],
    "revision": 5,
}
COUNTERS: Final = {"counters": [COUNTER], "next": None, "position": _POSITION}
COUNTER_DONE: Final = {"counter": COUNTER, "position": _POSITION, "changed": True}
ORDER: Final = {
    "id": "wo-17",
    "machine": "pump-01",
    "component": "pump-01.de-bearing",
    "kind": "corrective",
    "priority": "high",
    "status": "open",
    "title": "Drive-end bearing runs hot",
    "description": "",
    "anomaly": "",
    "failure_code": "",
    "actions": "",
    "created_at": "2026-01-02T08:30:00Z",
    "created_by": "ada",
    "changed_at": "2026-01-02T08:30:00Z",
    "changed_by": "ada",
    "closed_at": None,
    "closed_by": "",
    "cancelled_why": "",
    "revision": 1,
}
ORDERS: Final = {"work_orders": [ORDER], "next": None, "position": _POSITION}
ORDER_DONE: Final = {"work_order": ORDER, "position": _POSITION, "changed": True}
