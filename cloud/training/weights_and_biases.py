"""Epochs and figures as offline runs of Weights & Biases, one a method and fit. Needs the extra [wandb].

Nothing leaves the machine: a person may `wandb sync` the folder. What W&B would note of the machine itself is left out.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cloud.training.curves import ready
from cloud.training.watch import Unwatched

PROJECT: Final = "industrialmind"


class WandbWatch(Unwatched):
    """A `cloud.training.watch.Watch` whose looks are steps of runs, one a method."""

    def __init__(self, folder: Path, machine: str) -> None:
        self._folder, self._machine = folder, machine
        self._runs: dict[str, Any] = {}

    def epoch(self, method: str, epoch: int, of: int, figures: Mapping[str, float], /) -> None:
        """A step of the run."""
        del of
        self._run(method).log(dict(figures), step=epoch)

    def judged(self, method: str, metrics: Mapping[str, float], /) -> None:
        """Its own figures, as the run's summary; its rivals' are in their own runs."""
        own = {name: value for name, value in metrics.items() if "." not in name}
        self._run(method).summary.update(own)

    def close(self) -> None:
        """End the runs; their files are whole when the process ends."""
        for run in self._runs.values():
            run.finish()

    def _run(self, method: str) -> Any:  # noqa: ANN401 - of a package that need not be there
        import wandb  # noqa: PLC0415 - only who asks for it

        if method not in self._runs:
            settings = wandb.Settings(
                mode="offline",
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_machine_info=True,
            )
            self._runs[method] = wandb.init(
                project=PROJECT,
                dir=str(self._folder),
                name=f"{self._machine} {method}",
                group=self._machine,
                config={"machine": self._machine, "method": method},
                reinit="create_new",
                settings=settings,
            )
        return self._runs[method]


@contextmanager
def wandb_watch(folder: Path, machine: str) -> Iterator[WandbWatch]:
    """Look on for one machine's fit. Raises Misconfigured (it is not installed, or the folder can't be written)."""
    ready("wandb", folder)
    watch = WandbWatch(folder, machine)
    try:
        yield watch
    finally:
        watch.close()
