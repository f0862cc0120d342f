"""Trains a machine that has a champion again: why, on what, and whether the challenger takes its place.

Every decision is an event of the topic `models`, so that a person sees what was done, and what was left undone and why.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cloud.registry.app import note
from cloud.registry.logic import SOURCE, Model, Registry
from cloud.telemetry.port import TelemetryReader
from cloud.training.app import SETTLED_US, fit_run, newest_us, read_minutes, read_recording
from cloud.training.checkpoints import Keep
from cloud.training.contest import Contest
from cloud.training.drift import Triage
from cloud.training.duel import duel
from cloud.training.history import Past, read_past
from cloud.training.labelled import labelled
from cloud.training.retraining import Prepared, prepare, review
from cloud.training.run import Choice, Run
from cloud.training.trained import Trained
from cloud.training.triggers import Action, Decision, Policy, Seen, decide
from cloud.training.watch import Watch
from industrialmind.labels import Words, read_words
from shared.clock import Clock
from shared.errors import Rejected
from shared.event import at, to_us
from shared.eventlog import EventLog
from shared.events import parse_event
from shared.manifest import Manifest
from shared.names import MODELS
from shared.retraining_events import ChallengerJudged, RetrainingDecided

Tell = Callable[[Mapping[str, Any]], None]
SAID_AGAIN_US: Final = 86_400_000_000
"""The same finding is an event again after a day."""


@dataclass(frozen=True)
class Looked:
    """A machine as it stands: its past and words, what was found and what follows."""

    champion: Model
    past: Past
    words: Words
    triage: Triage
    decision: Decision
    now_us: int

    @property
    def manifest(self) -> Manifest:
        """The champion's."""
        return manifest_of(self.champion)


def manifest_of(model: Model) -> Manifest:
    """A registered version's manifest. Raises Rejected (of a release that this one can't read)."""
    try:
        return Manifest.model_validate(dict(model.manifest))
    except ValueError as error:
        raise Rejected(f"{model.name} v{model.version} has a manifest that can't be read") from error


def root_of(registry: Registry, model: Model) -> Model:
    """The oldest version that a model descends from: its rows are the baseline."""
    seen = {model.version_hash}
    while (parent := registry.by_hash(str(model.manifest.get("parent") or ""))) is not None:
        if parent.version_hash in seen:
            break
        seen.add(parent.version_hash)
        model = parent
    return model


@dataclass(frozen=True)
class Heard:
    """What was known of a machine at a time: its past, and people's words."""

    now_us: int
    past: Past
    words: Words


async def hear(store: TelemetryReader, events: EventLog, machine: str, now_us: int) -> Heard:
    """As of `now_us`. Raises Unavailable."""
    past = await read_past(store, machine, now_us)
    return Heard(now_us, past, await read_words(events, store, machine, at(now_us)))


class Retraining:
    """Looks at machines and judges challengers; the trainer that holds the lock has one."""

    def __init__(
        self, store: TelemetryReader, events: EventLog, clock: Clock, tell: Tell, policy: Policy | None = None
    ) -> None:
        self._store, self._events, self._clock, self._tell = store, events, clock, tell
        self._policy = policy or Policy()

    async def look(self, registry: Registry, champion: Model, heard: Heard, *, asked: bool) -> Looked:
        """Why the machine looks as it does, and what follows; noted where it is news. Raises Rejected, Unavailable."""
        machine, now_us, past, words = champion.machine, heard.now_us, heard.past, heard.words
        root = manifest_of(root_of(registry, champion))
        minutes = await read_minutes(self._store, machine, root.training.first_us, now_us)
        triage = await asyncio.to_thread(review, minutes, root, past, now_us, self._policy)
        last = await self._last(machine)
        trained = last.get(Action.TRAIN.value)
        age_us = now_us - manifest_of(champion).training.last_us
        rest_us = None if trained is None else now_us - to_us(trained.occurred_at)
        labels = words.since(champion.registered_at)
        decision = decide(Seen(triage, age_us, labels, rest_us, asked), self._policy)
        await self._note(champion, root, triage, decision, last)
        return Looked(champion, past, words, triage, decision, now_us)

    async def _last(self, machine: str) -> dict[str, RetrainingDecided]:
        """The last decision of each kind of action."""
        found: dict[str, RetrainingDecided] = {}
        async for stored in self._events.read(MODELS, {}):
            event = parse_event(stored.value)
            if isinstance(event, RetrainingDecided) and event.subject == machine:
                found[event.action] = event
        return found

    async def _note(
        self,
        champion: Model,
        root: Manifest,
        triage: Triage,
        decision: Decision,
        last: Mapping[str, RetrainingDecided],
    ) -> None:
        now = at(self._clock.now_us())
        event = RetrainingDecided(
            source=SOURCE,
            subject=champion.machine,
            occurred_at=now,
            trigger=decision.trigger.value,
            triage=triage.kind.value,
            action=decision.action.value,
            reason=decision.reason,
            sensors=tuple(root.sensor_names[one] for one in triage.sensors),
            onset=at(triage.onset_us) if triage.onset_us else None,
            champion=champion.version_hash,
        )
        self._tell(
            {
                "event": "decided",
                "machine": champion.machine,
                "action": event.action,
                "trigger": event.trigger,
                "triage": event.triage,
                "reason": event.reason,
                "sensors": list(event.sensors),
            }
        )
        before = last.get(event.action)
        told = before is not None and (before.triage, before.sensors) == (event.triage, event.sensors)
        fresh = before is not None and to_us(now) - to_us(before.occurred_at) < SAID_AGAIN_US
        if decision.action is not Action.NOTHING and not (
            decision.action is not Action.TRAIN and told and fresh
        ):
            await note(self._events, event)

    async def fit(
        self,
        looked: Looked,
        champion: bytes,
        machine_type: str,
        operating_sensor: str | None,
        *,
        clusters: bool,
        choice: Choice | None = None,
        watch: Watch | None = None,
        keep: Keep | None = None,
        study: Path | None = None,
    ) -> tuple[Trained, Prepared]:
        """Fit challengers on what may be learnt, at the champion's step; `champion` is its artifact.

        Raises Rejected (too little of it, or another step is chosen), Misconfigured.
        """
        machine, step_us = looked.champion.machine, looked.manifest.grid.step_us
        choice = choice or Choice()
        if choice.step_us not in {None, step_us}:
            raise Rejected(
                f"a challenger has its champion's step, {step_us / 1e6:g} s: another one needs --deliver"
            )
        begin_us = await newest_us(self._store, machine, looked.now_us)
        end_us = looked.now_us - SETTLED_US
        recording = await read_recording(self._store, machine, from_us=begin_us, to_us=end_us)
        prepared = prepare(
            recording, looked.manifest, looked.past, looked.words.judged, seed=0, policy=self._policy
        )
        if prepared.fresh < prepared.needed:
            raise Rejected(
                f"{prepared.fresh} rows since the champion may be learnt from, {prepared.needed} are needed"
            )
        run = Run(
            machine,
            machine_type,
            replace(choice, step_us=step_us),
            begin_us,
            end_us,
            looked.now_us,
            operating_sensor,
            clusters,
            looked.champion.version_hash,
        )
        evidence = labelled(recording, looked.words.judged, prepared.training.left_out, champion)
        return await fit_run(run, prepared.training, looked.now_us, watch, evidence, keep, study), prepared

    async def judge(
        self, looked: Looked, prepared: Prepared, champion: bytes, challenger: bytes, version_hash: str
    ) -> Contest:
        """Hold the challenger against the champion, and note how it ended. Raises Rejected, Unavailable."""
        contest = await asyncio.to_thread(duel, champion, challenger, prepared.grounds, self._clock.monotonic)
        event = ChallengerJudged(
            source=SOURCE,
            subject=looked.champion.machine,
            occurred_at=at(self._clock.now_us()),
            trigger=looked.decision.trigger.value,
            challenger=version_hash,
            champion=looked.champion.version_hash,
            outcome=contest.outcome.value,
            proxy=contest.proxy,
            reasons=contest.reasons,
            figures=contest.figures(),
        )
        await note(self._events, event)
        self._tell(
            {
                "event": "judged",
                "machine": looked.champion.machine,
                "outcome": event.outcome,
                "proxy": event.proxy,
                "reasons": list(event.reasons),
                "figures": event.figures,
                "sha256": version_hash,
            }
        )
        return contest
