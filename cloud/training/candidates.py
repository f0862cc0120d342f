"""Fits every method on the same rows of a machine and says which is the better. Needs the extra [train]."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from cloud.training import compare
from cloud.training.autoencoder import LONGER
from cloud.training.logic import Config, fit_window_pca
from cloud.training.packing import Fitted, Request, pack_fitted
from cloud.training.recording import Recording, choose_step
from cloud.training.trained import Candidate, Trained
from shared.errors import Misconfigured, Rejected

log = structlog.get_logger()

LONG: Final = "window-pca-long"
LONG_WINDOWS: Final = (
    4  # windows, in the first model's: a small lasting shift stands out by the root of the length
)

Rival = tuple[str, int, Callable[[], Fitted]]  # its name, how many cells its windows have, its fit


def fit_candidates(
    recording: Recording,
    *,
    machine: str,
    machine_type: str,
    now_us: int,
    seed: int = 0,
    config: Config | None = None,
    step_us: int | None = None,
    operating_sensor: str | None = None,
    author: str = "industrialmind",
    code_sha: str | None = None,
    lock_sha256: str | None = None,
    parent: str | None = None,
    clusters: bool = False,
    labels_as_of_us: int | None = None,
) -> Trained:
    """Fit window PCA, window PCA over longer time scales and the convolutional autoencoder, and compare them.

    The same arguments give the same bytes. They are those of `cloud.training.logic.fit`; `config` is window PCA's, the
    others' follow from it. A rival that there are too few rows to fit or to compare on, or that can't be fitted (the
    autoencoder on one sensor), is left out.

    Raises:
        Rejected: Too few rows, or none that moves.
        Misconfigured: torch is not installed.
    """
    config = config or Config()
    step = step_us or choose_step(recording, config.mask_limit)
    request = Request(
        machine,
        machine_type,
        now_us,
        seed,
        operating_sensor,
        author,
        code_sha,
        lock_sha256,
        parent,
        clusters,
        labels_as_of_us,
    )
    fitted = [fit_window_pca(recording, config, step)]
    rivals: list[Rival] = [
        (LONG, LONG_WINDOWS * config.window, lambda: _long(recording, config, step)),
        (
            "autoencoder",
            LONGER * config.window,
            lambda: _autoencoder()(recording, config, seed=seed, step_us=step),
        ),
    ]
    for name, cells, fit in rivals:
        try:
            compare.held_out(fitted[0], cells)
            fitted.append(fit())
        except Rejected as error:
            log.info("no rival", machine=machine, method=name, reason=error.reason)
    panels = compare.judge_all(fitted, seed) if len(fitted) > 1 else []
    best = compare.better(panels) if panels else 0
    made = tuple(
        _candidate(each, recording, request, _figures(fitted, panels, index))
        for index, each in enumerate(fitted)
    )
    return Trained(machine, made, best, fitted[best].data)


def _candidate(
    fitted: Fitted, recording: Recording, request: Request, figures: dict[str, float]
) -> Candidate:
    return Candidate(
        method=fitted.method,
        artifact=pack_fitted(fitted, recording, request, figures),
        parameters={**fitted.parameters, "limit": fitted.limit.value},
        metrics={**fitted.metrics, **figures},
        curves=fitted.curves,
    )


def _figures(fitted: Sequence[Fitted], panels: Sequence[compare.Panel], index: int) -> dict[str, float]:
    """A model's own figures on the panel, and its rivals' under their names."""
    found: dict[str, float] = {}
    for number, (each, panel) in enumerate(zip(fitted, panels, strict=False)):
        found |= panel.metrics("" if number == index else f"{each.method}.")
    return found


def _long(recording: Recording, config: Config, step: int) -> Fitted:
    return fit_window_pca(recording, replace(config, window=LONG_WINDOWS * config.window), step, LONG)


def _autoencoder() -> Callable[..., Fitted]:
    """Raises Misconfigured where torch is not installed."""
    try:
        from cloud.training.torch.fit import fit_autoencoder  # noqa: PLC0415 - seconds, and only trainers need it
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"training needs {error.name}, which is not installed", hint="install industrialmind[train]"
        ) from error
    return fit_autoencoder
