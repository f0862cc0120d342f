"""Thinning: what a full outbox makes of its oldest readings, a step a transaction (promise 2).

The order: readings outside of anomalies become 10 s aggregates, those 1 min aggregates; where nothing of these is left,
readings around anomalies go the same way. A step takes the oldest frames of one machine and numbers the aggregates as
the epoch's next rows, which name the rows that they replace. What is not thinned keeps its row numbers: a frame is
split where an anomaly begins or ends. A frame that was sent is never touched.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.outbox_buckets import COARSE_US, FINE_US, bucket_of, bucketed, coarser
from edge.outbox_frames import FrameRef, Frames, Level
from edge.outbox_spans import ANOMALY, Span, Spans
from shared.frame_codec import encode_body
from shared.frames import MAX_REPLACES, MAX_ROWS, Aggregates, Readings, chosen_readings, concat_readings
from shared.packing import slice_body, split
from shared.ranges import RangeSet

MOST_FRAMES: Final = 32
MIN_RUN: Final = 8
"""Fewer rows than this between rows that stay are not worth frames of their own."""
GAIN: Final = 0.75
"""Aggregates must take less than this share of what they replace."""
FINE_SHARE: Final = 4
"""10 s aggregates beyond a fourth of the room become 1 min aggregates before more readings are thinned."""

_THIN, _STAY, _HOLD, _LATER = range(4)
Labels = NDArray[np.int64]
Thinnable = Readings | Aggregates


class Stage(NamedTuple):
    """One way to thin: frames at `source` to buckets of `width_us` at `target`."""

    source: Level
    target: Level
    width_us: int


FIRST: Final = Stage(Level.RAW, Level.FINE, FINE_US)
SECOND: Final = Stage(Level.FINE, Level.COARSE, COARSE_US)
THIRD: Final = Stage(Level.HELD, Level.HELD_FINE, FINE_US)
LAST: Final = Stage(Level.HELD_FINE, Level.COARSE, COARSE_US)


@dataclass(slots=True)
class Thinned:
    """What steps did: first rows of frames that are gone, and frames that are new."""

    gone: list[int] = field(default_factory=list)
    made: list[FrameRef] = field(default_factory=list)
    readings: int = 0
    """Readings that aggregates stand for now."""
    held: int = 0
    """Those of them that were around an anomaly."""
    looked: bool = False
    """Whether there was a frame to look at."""


@dataclass(slots=True)
class _Part:
    """A frame that is looked at, with the label of each row."""

    ref: FrameRef
    body: Thinnable
    labels: Labels


class Paper(NamedTuple):
    """What thinning needs of the outbox's file."""

    read: Callable[[FrameRef], Thinnable | None]
    """The frame's rows; None where it was damaged and has been set aside."""
    write: Callable[[FrameRef, Thinnable], FrameRef]
    """Keep rows under numbers that they have."""
    number: Callable[[str, Aggregates, Level], FrameRef]
    """Keep aggregates under the next numbers."""
    uncount: Callable[[str, Readings], None]
    """Take readings out of the tally: they will never reach the log."""
    degrade: Callable[[RangeSet], None]
    """Note rows that aggregates stand for."""


class _Made(NamedTuple):
    """New aggregates, in bodies that fit a frame, and what went into them."""

    bodies: list[Aggregates]
    absorbed: list[FrameRef]
    rows: RangeSet
    level: Level


def next_stage(sizes: dict[Level, int], room: int) -> Stage | None:
    """What to thin next; None where there is nothing left to thin."""
    for raw, fine in ((FIRST, SECOND), (THIRD, LAST)):
        if sizes[fine.source] * FINE_SHARE > room or (sizes[fine.source] and not sizes[raw.source]):
            return fine
        if sizes[raw.source]:
            return raw
    return None


class Thinner:
    """Thins the frames of one outbox. Call inside its transaction."""

    def __init__(self, frames: Frames, spans: Spans, paper: Paper) -> None:
        self._frames, self._spans, self._paper = frames, spans, paper

    def step(self, stage: Stage) -> Thinned:
        """Thin the oldest frames of one machine. A step always leaves less at the stage's source."""
        done = Thinned()
        refs = self._frames.oldest(stage.source, MOST_FRAMES)
        done.looked = bool(refs)
        parts = self._parts(stage, refs)
        if parts:
            self._label(stage, parts)
            self._replace(stage, parts, done)
        return done

    def _parts(self, stage: Stage, refs: Sequence[FrameRef]) -> list[_Part]:
        """The frames to look at: as many as make about one frame of aggregates, and as have one unit a sensor."""
        parts: list[_Part] = []
        units: dict[str, str] = {}
        buckets = ranges = 0
        for ref in refs:
            body = self._paper.read(ref)
            if body is None:
                continue
            told = dict(zip(body.sensor_names, body.units, strict=True))
            if len(told) < len(body.units):  # one sensor in two units: a bucket can't have both
                self._frames.put_at(ref, Level.KEPT)
                continue
            ranges += 1 + (len(body.replaces) if isinstance(body, Aggregates) else 0)
            if any(units.setdefault(name, unit) != unit for name, unit in told.items()):
                break
            if parts and (buckets >= MAX_ROWS or ranges > MAX_REPLACES // 4):
                break
            parts.append(_Part(ref, body, np.full(len(body), _THIN)))
            buckets += _buckets(body, stage.width_us)
        return parts

    def _label(self, stage: Stage, parts: Sequence[_Part]) -> None:
        times = [_times(part.body) for part in parts]
        newest = max(int(each.max()) for each in times)
        later = int(bucket_of(np.array([newest]), stage.width_us)[0])
        for part, time_us in zip(parts, times, strict=True):
            part.labels[time_us >= later] = _LATER  # the bucket may have more rows in the next frame
            if stage is FIRST:
                part.labels[self._spans.inside(part.ref.machine, ANOMALY, time_us)] = _HOLD
            start = bucket_of(time_us, stage.width_us)
            part.labels[self._spans.inside(part.ref.machine, stage.width_us, start)] = _STAY
            _smooth(part.labels)
        if all((part.labels == _LATER).all() for part in parts):  # then it can't wait for the next frame
            for part in parts:
                part.labels[:] = _THIN

    def _replace(self, stage: Stage, parts: Sequence[_Part], done: Thinned) -> None:
        chosen = [part for part in parts if (part.labels == _THIN).any()]
        made = self._aggregates(stage, chosen) if chosen else None
        if made is None:  # nothing would be gained
            for part in chosen:
                part.labels[part.labels == _THIN] = _STAY
        for part in parts:
            self._rewrite(stage, part, done)
        if made is None:
            return
        for ref in made.absorbed:
            self._frames.drop(ref.first)
            done.gone.append(ref.first)
        for part in chosen:
            if isinstance(part.body, Readings):
                thinned = chosen_readings(part.body, np.flatnonzero(part.labels == _THIN))
                self._paper.uncount(part.ref.machine, thinned)
                done.readings += len(thinned)
                done.held += len(thinned) if stage.source is Level.HELD else 0
        self._paper.degrade(made.rows)
        done.made += [self._paper.number(parts[0].ref.machine, body, made.level) for body in made.bodies]

    def _aggregates(self, stage: Stage, chosen: Sequence[_Part]) -> _Made | None:
        """What the chosen rows become; None where that would take as much room, with 1 min buckets even."""
        machine = chosen[0].ref.machine
        bodies = [_picked(part.body, np.flatnonzero(part.labels == _THIN)) for part in chosen]
        size = sum(len(encode_body(body)) for body in bodies)
        for width_us, level in dict.fromkeys(((stage.width_us, stage.target), (COARSE_US, Level.COARSE))):
            new = _bucketed(bodies, width_us)
            if self._spans.inside(machine, width_us, new.start_us).any():
                return None
            if len(encode_body(new)) < GAIN * size:
                return self._made(machine, new, level, chosen)
        return None

    def _made(self, machine: str, new: Aggregates, level: Level, chosen: Sequence[_Part]) -> _Made | None:
        """With them what unsent frames have of the same buckets; None if the rows are too scattered to be named."""
        rows = RangeSet(
            (part.ref.first + start, part.ref.first + stop - 1)
            for part in chosen
            for label, start, stop in _runs(part.labels)
            if label == _THIN
        )
        absorbed = self._same_buckets(machine, new)
        for ref, _ in absorbed:
            rows.add(ref.first, ref.last)
        for body in (*(part.body for part in chosen), *(body for _, body in absorbed)):
            for first, last in body.replaces if isinstance(body, Aggregates) else ():
                rows.add(first, last)
        named = tuple(rows)
        if len(named) > MAX_REPLACES:
            return None
        whole = coarser([new, *(body for _, body in absorbed)], new.width_us, named)
        made = [part for part, _ in split(whole) if isinstance(part, Aggregates)]
        refs = [ref for ref, _ in absorbed]
        return _Made(made, refs, rows, max((level, *(ref.level for ref in refs))))

    def _same_buckets(self, machine: str, new: Aggregates) -> list[tuple[FrameRef, Aggregates]]:
        """Unsent frames that have one of the new buckets already: a bucket must reach the store once."""
        keys = set(_keys(new))
        span = int(new.start_us.min()), int(new.start_us.max())
        found = []
        for ref in self._frames.aggregates(machine, new.width_us, *span):
            body = self._paper.read(ref)
            if isinstance(body, Aggregates) and not keys.isdisjoint(_keys(body)):
                found.append((ref, body))
        return found

    def _rewrite(self, stage: Stage, part: _Part, done: Thinned) -> None:
        """What is left of a frame, under the numbers that its rows have."""
        if isinstance(part.body, Aggregates) and (part.labels == _STAY).any():
            start = part.body.start_us[
                part.labels == _STAY
            ]  # as good as sent: nothing may join these buckets
            span = Span(part.ref.machine, int(start.min()), int(start.max()))
            self._spans.add(span, part.body.width_us)
        if (part.labels == _LATER).all():
            return
        levels = {_STAY: Level.KEPT, _HOLD: Level.HELD, _LATER: stage.source}
        runs = list(_runs(part.labels))
        if len(runs) == 1 and runs[0][0] != _THIN:
            self._frames.put_at(part.ref, levels[runs[0][0]])
            return
        self._frames.drop(part.ref.first)
        done.gone.append(part.ref.first)
        for label, start, stop in runs:
            if label != _THIN:
                first = part.ref.first + start
                ref = FrameRef(
                    first,
                    first + stop - start - 1,
                    part.ref.machine,
                    part.ref.urgent,
                    part.ref.kind,
                    levels[label],
                    width_us=part.ref.width_us,
                )
                body = slice_body(part.body, start, stop)
                assert isinstance(body, Readings | Aggregates)  # noqa: S101 - for the type
                done.made.append(self._paper.write(ref, body))


def _times(body: Thinnable) -> NDArray[np.int64]:
    return body.time_us if isinstance(body, Readings) else body.start_us


def _buckets(body: Thinnable, width_us: int) -> int:
    keys = bucket_of(_times(body), width_us) // width_us * len(body.sensor_names) + body.sensor
    return len(np.unique(keys))


def _keys(body: Aggregates) -> Iterator[tuple[str, int]]:
    return zip((body.sensor_names[n] for n in body.sensor.tolist()), body.start_us.tolist(), strict=True)


def _picked(body: Thinnable, at: NDArray[np.int64]) -> Thinnable:
    if isinstance(body, Readings):
        return chosen_readings(body, at)
    return Aggregates(
        body.sensor_names,
        body.units,
        body.width_us,
        body.sensor[at],
        body.start_us[at],
        body.rows[at],
        body.minimum[at],
        body.maximum[at],
        body.mean[at],
        replaces=body.replaces,
    )


def _bucketed(bodies: Sequence[Thinnable], width_us: int) -> Aggregates:
    readings = [body for body in bodies if isinstance(body, Readings)]
    if readings:
        return bucketed(concat_readings(readings), width_us)
    return coarser([body for body in bodies if isinstance(body, Aggregates)], width_us)


def _runs(labels: Labels) -> Iterator[tuple[int, int, int]]:
    """(label, start, stop) of rows that follow each other with one label."""
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(labels)], strict=True):
        yield int(labels[start]), start, stop


def _smooth(labels: Labels) -> None:
    """Let short runs that would be thinned stay with the rows beside them."""
    runs = list(_runs(labels))
    for place, (label, start, stop) in enumerate(runs):
        if label == _THIN and stop - start < MIN_RUN and len(runs) > 1:
            labels[start:stop] = runs[place - 1][0] if place else runs[1][0]
