"""Machines that no edge looks after: what log, store and assets say of them, in the shape of an edge's report. Pure.

The log tells what is new at once; a look now and then finds what was before, and what the log's followers missed. Of
both the newer word counts, so the order in which they come does not matter.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cloud.api.models import ModelDetail
from cloud.telemetry.port import Latest
from shared.errors import Rejected
from shared.events import AnomalyEnded, AnomalyStarted, parse_event, to_us
from shared.frames import Scores


@dataclass(slots=True)
class _Machine:
    last: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrival_us: int | None = None
    scored_us: int = -1
    scored: dict[str, Any] = field(default_factory=dict)
    episode_us: int = -1
    episode: AnomalyStarted | None = None
    """The one that is on."""


class Others:
    """What is known of them. Whether a machine has an edge is not known here."""

    def __init__(self) -> None:
        self.sites: dict[str, str] = {}
        """Machine to site, of all that are in use or sent."""
        self.retired: frozenset[str] = frozenset()
        self.models: Mapping[str, ModelDetail] = {}
        """Registered versions by their hash."""
        self._machines: dict[str, _Machine] = {}

    def report(self, machine: str) -> dict[str, Any]:
        """A report with this machine alone; empty if nothing is known of it."""
        part = self._machines.get(machine, _Machine())
        state = "anomalous" if part.episode else "normal" if part.scored else "learning"
        model = self.models.get(part.scored.get("sha256", ""))
        told = {"state": state, "arrival_us": part.arrival_us, "last": part.last, **part.scored}
        if part.episode:
            told["leading"] = [sensor.model_dump() for sensor in part.episode.sensors]
        if model is None:
            told.pop("sha256", None)  # nothing can be said of a version that is not registered (yet)
        else:
            told |= {"version": model.version, "provisional": model.provisional}
        return {"machines": {machine: told}}

    def take_site(self, machine: str, site: str) -> None:
        """A frame of it came."""
        if machine not in self.retired:
            self.sites[machine] = site

    def take_scores(self, machine: str, body: Scores) -> None:
        """The newest window counts."""
        newest = int(np.argmax(body.time_us)) if len(body) else -1
        part = self._machines.setdefault(machine, _Machine())
        if newest < 0 or body.time_us[newest] <= part.scored_us:
            return
        part.scored_us, score = int(body.time_us[newest]), float(body.score[newest])
        part.scored = {
            "model": body.model,
            "sha256": body.version_hash,
            "limit": body.limit,
            "score": score if math.isfinite(score) else None,
        }

    def take_event(self, machine: str, value: bytes) -> bool:
        """What begins or ends with it; whether that is news."""
        try:
            event = parse_event(value)
        except Rejected:  # a later release's
            return False
        if not isinstance(event, AnomalyStarted | AnomalyEnded):
            return False
        part = self._machines.setdefault(machine, _Machine())
        if to_us(event.occurred_at) <= part.episode_us:
            return False
        part.episode_us = to_us(event.occurred_at)
        part.episode = event if isinstance(event, AnomalyStarted) else None
        return True

    def take_latest(self, machine: str, latest: Sequence[Latest]) -> None:
        """The newest readings that the store has."""
        part = self._machines.setdefault(machine, _Machine())
        part.arrival_us = max((each.arrival_us for each in latest), default=None)
        part.last = {r.sensor: {"value": r.value, "unit": r.unit, "ts": r.time_us} for r in latest}

    def keep(self, sites: Mapping[str, str], retired: frozenset[str]) -> None:
        """Who there is: these and, of who sent, all but the retired."""
        self.retired = retired
        self.sites = {machine: site for machine, site in self.sites.items() if machine not in retired} | {
            machine: site or self.sites.get(machine, "") for machine, site in sites.items()
        }
        self._machines = {name: part for name, part in self._machines.items() if name in self.sites}
