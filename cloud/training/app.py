"""From the store's rows to a fitted artifact: the reading side of training."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog

from cloud.telemetry.port import BEGIN_US, END_US, MINUTE_US, Columns, TelemetryReader
from cloud.training.candidates import fit_candidates
from cloud.training.checkpoints import Keep
from cloud.training.history import Judged, Thinned, holds
from cloud.training.labelled import Labelled, labelled
from cloud.training.origin import code_sha, lock_sha256
from cloud.training.recording import LeftOut, Recording
from cloud.training.run import Choice, Run
from cloud.training.search import search
from cloud.training.trained import Trained
from cloud.training.watch import Watch
from shared.clock import Clock
from shared.errors import Rejected
from shared.frames import Quality

log = structlog.get_logger()

SETTLED_US = 60_000_000
"""A run that bounds its rows ends so long before its now: by then they have arrived, and a run that is begun again finds
the same ones."""
MAX_ROWS = 20_000_000  # about 500 MB of columns; a longer history is cut to its newest part by `from_us`


async def read_recording(
    store: TelemetryReader, machine: str, *, from_us: int = BEGIN_US, to_us: int = END_US
) -> Recording:
    """A machine's good and uncertain rows. Raises Rejected (none, or more than MAX_ROWS), Unavailable."""
    series = await store.series(machine)
    if not series:
        raise Rejected(f"{machine} has no readings in the store: nothing to learn from yet")
    chunks: list[Columns] = []
    rows = 0
    async for chunk in store.columns(machine, [s.sensor for s in series], from_us, to_us):
        rows += len(chunk)
        if rows > MAX_ROWS:
            raise Rejected(f"{machine} has more than {MAX_ROWS} rows in this time: choose a later start")
        chunks.append(chunk)
    names = tuple(s.sensor for s in series)
    return Recording.from_rows(
        names,
        tuple(s.unit for s in series),
        np.concatenate([_index(chunk, names) for chunk in chunks] or [np.empty(0, np.int64)]),
        np.concatenate([chunk.time_us[_usable(chunk)] for chunk in chunks] or [np.empty(0, np.int64)]),
        np.concatenate([chunk.value[_usable(chunk)] for chunk in chunks] or [np.empty(0)]),
    )


async def read_minutes(store: TelemetryReader, machine: str, from_us: int, to_us: int) -> Recording:
    """A machine's means by the minute, stamped with the minutes' ends; those with a bad reading left away.

    They are kept for more than a year, readings for a month: a baseline must outlast what it is held against. Raises Unavailable.
    """
    found = await store.rollups(machine, None, MINUTE_US, from_us, to_us)
    good = [each.quality < Quality.BAD for each in found]
    return Recording.from_rows(
        tuple(each.sensor for each in found),
        tuple(each.unit for each in found),
        np.repeat(np.arange(len(found)), [int(part.sum()) for part in good]),
        np.concatenate([each.start_us[part] + MINUTE_US for each, part in zip(found, good, strict=True)])
        if found
        else np.empty(0, np.int64),
        np.concatenate([each.mean[part] for each, part in zip(found, good, strict=True)])
        if found
        else np.empty(0),
    )


async def newest_us(store: TelemetryReader, machine: str, now_us: int) -> int:
    """From when on a machine has at most MAX_ROWS rows, to a minute. Raises Unavailable."""
    if await store.count(machine) <= MAX_ROWS:
        return BEGIN_US
    from_us = await store.expired_us(machine)
    found = await store.rollups(machine, None, MINUTE_US, from_us, now_us)
    starts, places = np.unique(np.concatenate([each.start_us for each in found]), return_inverse=True)
    rows = np.bincount(places, np.concatenate([each.rows for each in found]))
    fits = np.flatnonzero(np.cumsum(rows[::-1])[::-1] <= MAX_ROWS)
    return int(starts[fits[0]]) if len(fits) else now_us


async def train_machine_models(
    store: TelemetryReader,
    machine: str,
    machine_type: str,
    clock: Clock,
    *,
    operating_sensor: str | None = None,
    clusters: bool = False,
    from_us: int = BEGIN_US,
    to_us: int = END_US,
    choice: Choice | None = None,
    parent: str | None = None,
    left_out: Sequence[LeftOut] = (),
    thinned: Mapping[str, Thinned] | None = None,
    labels_as_of_us: int | None = None,
    judged: Sequence[Judged] = (),
    champion: bytes | None = None,
    watch: Watch | None = None,
    keep: Keep | None = None,
    study: Path | None = None,
) -> Trained:
    """Fit and compare a machine's candidates on what the store has of it (`fit_candidates` explains them).

    `thinned`: sensors that a deadband thins (`cloud.training.history.holds`). Where labels were read, what is confirmed of `judged` is what the candidates and the champion are held against. Now is
    `labels_as_of_us`, if that is given. The fit runs in a thread, so that the caller's connections live on. Raises Rejected, Unavailable, Misconfigured.
    """
    whole = await read_recording(store, machine, from_us=from_us, to_us=to_us)
    recording = whole.without((*left_out, *holds(whole, thinned or {})))
    evidence = None if labels_as_of_us is None else labelled(whole, judged, left_out, champion)
    run = Run(
        machine,
        machine_type,
        choice or Choice(),
        from_us,
        to_us,
        labels_as_of_us,
        operating_sensor,
        clusters,
        parent,
    )
    now_us = clock.now_us() if labels_as_of_us is None else labels_as_of_us
    trained = await fit_run(run, recording, now_us, watch, evidence, keep, study)
    log.info(
        "models fitted",
        machine=machine,
        rows=len(recording.times_us),
        better=trained.chosen.method,
        candidates={each.method: each.metrics.get("panel_found") for each in trained.candidates},
    )
    return trained


async def fit_run(
    run: Run,
    recording: Recording,
    now_us: int,
    watch: Watch | None = None,
    evidence: Labelled | None = None,
    keep: Keep | None = None,
    study: Path | None = None,
) -> Trained:
    """Fit a run's candidates on its rows, in a thread; a search's trials are kept in `study`. Raises Rejected, Misconfigured."""
    choice = run.choice
    tuned = await asyncio.to_thread(search, choice, recording, study, watch, keep) if choice.search else None
    trained = await asyncio.to_thread(
        fit_candidates,
        recording,
        machine=run.machine,
        machine_type=run.machine_type,
        now_us=now_us,
        seed=choice.seed,
        config=choice.config,
        step_us=choice.step_us,
        operating_sensor=run.operating_sensor,
        clusters=run.clusters,
        parent=run.parent,
        labels_as_of_us=run.labels_as_of_us,
        run_sha256=run.sha256(),
        evidence=evidence,
        code_sha=await asyncio.to_thread(code_sha),
        lock_sha256=lock_sha256(),
        methods=choice.methods,
        more=[] if tuned is None else [tuned.method(choice.config)],
        watch=watch,
        keep=keep,
    )
    made = tuple(replace(each, run=run.to_json()) for each in trained.candidates)
    return replace(trained, candidates=made)


def _usable(chunk: Columns) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return chunk.quality < Quality.BAD


def _index(chunk: Columns, names: tuple[str, ...]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    lookup = np.array([names.index(sensor) for sensor in chunk.sensors], np.int64)
    return lookup[chunk.sensor[_usable(chunk)]]
