"""What an edge says of itself in the control plane: its machines' state, and its part of the ledger."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
import structlog
from prometheus_client import CollectorRegistry, Gauge

from edge.outbox import Outbox
from edge.outbox_frames import Level
from edge.scoring import MachineScoring
from edge.waiting import event_or_time
from shared.clock import Clock
from shared.errors import Rejected, Unavailable
from shared.machine_view import MachineView
from shared.nats import ControlPlane

log = structlog.get_logger()

STATE = "state"
LEDGER = "ledger"
RETELL_SECONDS = 30.0
"""A ledger report that says nothing new is told again this often, so that its age can be judged."""


_FIDELITY: Final = {
    "raw": (Level.RAW, Level.HELD),
    "10s": (Level.FINE, Level.HELD_FINE),
    "1m": (Level.COARSE,),
}


class Reporter:
    """Writes `state` and `ledger` to the edge's reported bucket, every few seconds and when something changed."""

    def __init__(
        self,
        outbox: Outbox,
        views: Mapping[str, MachineView],
        scoring: Mapping[str, MachineScoring],
        refusals: Mapping[str, str],
        clock: Clock,
        registry: CollectorRegistry,
        *,
        edge: str,
        version: str,
        seconds: float,
        listening: Callable[[], bool],
        left_out: Mapping[str, Mapping[str, Mapping[str, int]]],
        vibration: Callable[[str], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        self._vibration = vibration
        self._outbox, self._views, self._scoring, self._refusals = outbox, views, scoring, refusals
        self._clock, self._edge, self._version, self._seconds = clock, edge, version, seconds
        self._listening, self._left_out = listening, left_out
        self._changed = asyncio.Event()
        self._rows = Gauge(
            "im_edge_outbox_rows", "Rows that the event log did not confirm yet", registry=registry
        )
        self._bytes = Gauge("im_edge_outbox_bytes", "Bytes of the outbox in use", registry=registry)
        self._damaged = Gauge(
            "im_edge_outbox_damaged_rows", "Rows set aside because the disk changed them", registry=registry
        )
        self._most = Gauge("im_edge_outbox_max_bytes", "The outbox's cap", registry=registry)
        self._thinned = Gauge(
            "im_edge_outbox_thinned_readings",
            "Readings that became aggregates since the outbox was made",
            ["near"],
            registry=registry,
        )
        self._fidelity = Gauge(
            "im_edge_outbox_fidelity_bytes",
            "Unsent readings and aggregates in the outbox, by how true they are to what was measured",
            ["level"],
            registry=registry,
        )
        self._refused = Gauge(
            "im_edge_outbox_refused", "1 while the outbox's disk takes nothing", registry=registry
        )

    def every(self, seconds: float) -> None:
        """Report so often from now on."""
        self._seconds = seconds
        self._changed.set()

    def change(self) -> None:
        """Report soon."""
        self._changed.set()

    async def run(self, control: ControlPlane | None) -> None:
        """Report for ever; with no control plane only the gauges move."""
        told: dict[str, object] = {}
        retell = 0.0
        while True:
            if self._clock.monotonic() >= retell:
                told.clear()
                retell = self._clock.monotonic() + RETELL_SECONDS
            reports = {STATE: await self.state(), LEDGER: await self._outbox.report()}
            if control is not None:
                for key, report in reports.items():
                    content = {name: value for name, value in report.items() if name != "taken_us"}
                    if key == STATE or told.get(key) != content:
                        try:
                            await control.report(self._edge, key, orjson.dumps(report))
                            told[key] = content
                        except Unavailable:
                            told.clear()
                        except Rejected as error:
                            log.error("a report was refused", key=key, reason=error.reason)  # noqa: TRY400
            await event_or_time(self._changed, self._clock, self._seconds)

    async def state(self) -> dict[str, Any]:
        """The `state` report."""
        usage = await self._outbox.usage()
        self._rows.set(usage.rows)
        self._bytes.set(usage.bytes)
        self._damaged.set(usage.damaged)
        self._most.set(usage.max_bytes)
        self._refused.set(bool(self._outbox.trouble))
        self._thinned.labels("anomaly").set(usage.thinned_held)
        self._thinned.labels("nothing").set(usage.thinned - usage.thinned_held)
        fidelity = {name: sum(usage.levels[level] for level in levels) for name, levels in _FIDELITY.items()}
        for name, size in fidelity.items():
            self._fidelity.labels(name).set(size)
        return {
            "edge": self._edge,
            "version": self._version,
            "listening": self._listening(),
            "outbox": {
                "rows": usage.rows,
                "bytes": usage.bytes,
                "max_bytes": usage.max_bytes,
                "damaged": usage.damaged,
                "thinned": usage.thinned,
                "thinned_anomalous": usage.thinned_held,
                "fidelity": fidelity,
                "trouble": self._outbox.trouble,
            },
            "machines": {machine: self._machine(machine) for machine in self._views},
        }

    def _machine(self, machine: str) -> dict[str, Any]:
        view, scoring = self._views[machine], self._scoring[machine]
        model, totals, mode = scoring.model, scoring.operating.totals, scoring.maintenance
        return {
            "state": scoring.state,
            "operating": str(scoring.operating.state(self._clock.now_us())),
            "counts": {
                "run_hours": totals.run_us / 3.6e9,
                "starts": totals.starts,
                "cycles": totals.cycles,
            },
            "maintenance": None
            if mode is None
            else {"until_us": mode.until_us, "by": mode.by, "why": mode.why},
            "model": None if model is None else model.desired.model,
            "version": None if model is None else model.desired.version,
            "sha256": None if model is None else model.desired.sha256,
            "provisional": None if model is None else model.manifest.provisional,
            "shadow": None if scoring.shadow is None else scoring.shadow.report(),
            "refused": self._refusals.get(machine, ""),
            "score": scoring.score,
            "limit": None if model is None else model.manifest.limit,
            "reason": scoring.reason,
            "unscored": scoring.unscored,
            "leading": [sensor.model_dump() for sensor in scoring.leading],
            "vibration": self._vibration(machine),
            "last": view.last(),
            "arrival_us": view.arrival_us,
            "skew_us": view.skew_us,
            "left_out": {sensor: dict(counts) for sensor, counts in self._left_out.get(machine, {}).items()},
        }
