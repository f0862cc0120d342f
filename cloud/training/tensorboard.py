"""Epochs and figures as TensorBoard's event files, a folder a machine, method and fit. Needs the extra [tensorboard]."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud.training.curves import ready
from cloud.training.watch import Unwatched
from shared.clock import MICROSECONDS, Clock


class TensorBoardWatch(Unwatched):
    """A `cloud.training.watch.Watch` whose looks are points of TensorBoard's curves. A method without epochs is told of when it is judged."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._writers: dict[str, Any] = {}

    def epoch(self, method: str, epoch: int, of: int, figures: Mapping[str, float], /) -> None:
        """A point of each curve."""
        del of
        self._write(method, "epoch", epoch, figures)

    def judged(self, method: str, metrics: Mapping[str, float], /) -> None:
        """Its own figures; its rivals' are under their own names."""
        self._write(method, "figure", 0, {name: value for name, value in metrics.items() if "." not in name})

    def close(self) -> None:
        """Write what is still held."""
        for writer in self._writers.values():
            writer.close()

    def _write(self, method: str, group: str, step: int, figures: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - only who asks for it
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415 - the same
        from tensorboard.summary.writer.event_file_writer import EventFileWriter  # noqa: PLC0415 - the same

        if method not in self._writers:
            self._writers[method] = EventFileWriter(str(self._folder / method))
        values = [Summary.Value(tag=f"{group}/{name}", simple_value=value) for name, value in figures.items()]
        seconds = self._clock.now_us() / MICROSECONDS
        self._writers[method].add_event(Event(wall_time=seconds, step=step, summary=Summary(value=values)))
        self._writers[method].flush()


@contextmanager
def tensorboard_watch(folder: Path, machine: str, clock: Clock) -> Iterator[TensorBoardWatch]:
    """Look on for one machine's fit. Raises Misconfigured (it is not installed, or the folder can't be written)."""
    ready("tensorboard", folder / machine)
    watch = TensorBoardWatch(folder / machine / str(clock.now_us()), clock)
    try:
        yield watch
    finally:
        watch.close()
