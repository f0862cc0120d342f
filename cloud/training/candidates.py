"""Fits every method on the same rows of a machine and says which is the better. Needs the extra [train]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from cloud.training import compare, labelled
from cloud.training.autoencoder import LONGER
from cloud.training.checkpoints import Keep
from cloud.training.confusion import CHAMPION
from cloud.training.ensemble import METHOD as ENSEMBLE
from cloud.training.ensemble import fit_ensemble
from cloud.training.labelled import Labelled
from cloud.training.logic import METHOD, Config, fit_window_pca
from cloud.training.packing import Fitted, Request, pack_fitted
from cloud.training.recording import Recording, choose_step
from cloud.training.trained import Candidate, Trained
from cloud.training.watch import Unwatched, Watch
from shared.errors import Misconfigured, Rejected, lacking

log = structlog.get_logger()

LONG: Final = "window-pca-long"
LONG_WINDOWS: Final = (
    4  # windows, in the first model's: a small lasting shift stands out by the root of the length
)

DEFAULT: Final = (METHOD, LONG, "conv-autoencoder")
"""What is fitted for a machine where nobody says otherwise: all of METHODS that earned their time."""


class Fit(Protocol):
    """Fits a method. `config` is window PCA's, `step` the grid's in µs; what `keep` has is not done again."""

    def __call__(
        self,
        recording: Recording,
        config: Config,
        seed: int,
        step: int,
        watch: Watch,
        keep: Keep | None = None,
        /,
    ) -> Fitted:
        """Raises Rejected (these rows won't do), Misconfigured (what it needs is not installed)."""
        ...


Given = tuple[Recording, Config, int, int, Watch, Keep | None]
"""What a `Fit` takes."""


@dataclass(frozen=True, slots=True)
class Method:
    """How a method is fitted, how long its windows are, in window PCA's, and the others that it is an ensemble `of`."""

    fit: Fit
    windows: int = 1
    of: tuple[str, ...] = ()


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
    run_sha256: str | None = None,
    evidence: Labelled | None = None,
    methods: Sequence[str] = DEFAULT,
    more: Sequence[tuple[str, Method]] = (),
    watch: Watch | None = None,
    keep: Keep | None = None,
) -> Trained:
    """Fit the methods of `METHODS` that are asked for, and compare them.

    The same arguments give the same bytes. They are those of `cloud.training.logic.fit`; `config` is window PCA's, the
    others' follow from it. `run_sha256` is the run's, for the manifest; by `evidence`, what people confirmed, each candidate
    is judged too, and the champion beside it: that chooses none. `more` are rivals that METHODS does not have. A rival of the first that there are too few rows to fit or to compare on, or that can't be
    fitted (the autoencoder on one sensor), is left out.

    Raises:
        Rejected: Too few rows for the first method, or none that moves.
        Misconfigured: There is no such method, or what it needs is not installed.
    """
    first, *rivals = [*((name, METHODS[name]) for name in check_methods(methods)), *more]
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
        run_sha256,
    )
    watch, count = watch or Unwatched(), 1 + len(rivals)
    given: Given = (recording, config, seed, step, watch, keep)
    watch.fitting(first[0], 1, count)
    fitted = [_fit(first[1], (), given)]
    for number, (name, method) in enumerate(rivals, start=2):
        watch.fitting(name, number, count)
        try:
            compare.held_out(fitted[0], method.windows * config.window)
            fitted.append(_fit(method, fitted, given))
        except Rejected as error:
            log.info("no rival", machine=machine, method=name, reason=error.reason)
    panels = compare.judge_all(fitted, seed) if len(fitted) > 1 else []
    best = compare.better(panels) if panels else 0
    champion = _champion(evidence)
    made = tuple(
        _candidate(each, recording, request, _figures(fitted, panels, index) | champion, evidence)
        for index, each in enumerate(fitted)
    )
    for each in made:
        watch.judged(each.method, each.metrics)
    return Trained(machine, made, best, fitted[best].data)


def check_methods(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once. Raises Misconfigured: one is no method of METHODS, or there is none."""
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise Misconfigured(
            f"there is no model {', '.join(map(repr, unknown))}" if unknown else "no model was named",
            hint=f"there are {', '.join(METHODS)}",
        )
    return tuple(dict.fromkeys(names))


def _fit(method: Method, ready: Sequence[Fitted], given: Given) -> Fitted:
    """Fit a method; the members of an ensemble that are among the `ready` are not fitted again."""
    if not method.of:
        return method.fit(*given)
    known = {each.method: each for each in ready}
    return fit_ensemble([known.get(name) or _fit(METHODS[name], (), given) for name in method.of])


def _candidate(
    fitted: Fitted,
    recording: Recording,
    request: Request,
    figures: dict[str, float],
    evidence: Labelled | None,
) -> Candidate:
    graph = fitted.graph()  # written once: a network's takes seconds
    ready = replace(fitted, graph=lambda: graph)
    if evidence is not None:
        figures = figures | labelled.figures(
            lambda: pack_fitted(ready, recording, request, figures), evidence
        )
    return Candidate(
        method=fitted.method,
        artifact=pack_fitted(ready, recording, request, figures),
        parameters={**fitted.parameters, "limit": fitted.limit.value},
        metrics={**fitted.metrics, **figures},
        curves=fitted.curves,
    )


def _champion(evidence: Labelled | None) -> dict[str, float]:
    """The champion's figures on what people confirmed; none where it can't be replayed on these rows."""
    if evidence is None or (champion := evidence.champion) is None:
        return {}
    try:
        found = labelled.figures(lambda: champion, evidence)
    except Rejected as error:
        log.info("champion not judged on labels", reason=error.reason)
        return {}
    return {f"{CHAMPION}{name}": value for name, value in found.items()}


def _figures(fitted: Sequence[Fitted], panels: Sequence[compare.Panel], index: int) -> dict[str, float]:
    """A model's own figures on the panel, and its rivals' under their names."""
    found: dict[str, float] = {}
    for number, (each, panel) in enumerate(zip(fitted, panels, strict=False)):
        found |= panel.metrics("" if number == index else f"{each.method}.")
    return found


def _short(
    recording: Recording, config: Config, seed: int, step: int, watch: Watch, keep: Keep | None = None
) -> Fitted:
    del seed, watch, keep  # it draws nothing, and is done in a moment
    return fit_window_pca(recording, config, step)


def _long(
    recording: Recording, config: Config, seed: int, step: int, watch: Watch, keep: Keep | None = None
) -> Fitted:
    del seed, watch, keep
    return fit_window_pca(recording, replace(config, window=LONG_WINDOWS * config.window), step, LONG)


def _autoencoder(
    recording: Recording, config: Config, seed: int, step: int, watch: Watch, keep: Keep | None = None
) -> Fitted:
    try:
        from cloud.training.torch.fit import fit_autoencoder  # noqa: PLC0415 - seconds, and only trainers need it
    except ModuleNotFoundError as error:
        raise lacking(error, "train") from error
    return fit_autoencoder(recording, config, seed=seed, step_us=step, watch=watch, keep=keep)


def _transformer(
    recording: Recording, config: Config, seed: int, step: int, watch: Watch, keep: Keep | None = None
) -> Fitted:
    try:
        from cloud.training.torch.fit import fit_autoencoder  # noqa: PLC0415 - the same
        from cloud.training.torch.transformer import design  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise lacking(error, "train") from error
    return fit_autoencoder(
        recording,
        config,
        seed=seed,
        step_us=step,
        watch=watch,
        keep=keep,
        design=design(config.transformer),
    )


def _forest(
    recording: Recording, config: Config, seed: int, step: int, watch: Watch, keep: Keep | None = None
) -> Fitted:
    del watch, keep
    try:
        from cloud.training.forest import fit_forest  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise lacking(error, "train") from error
    return fit_forest(recording, config, seed=seed, step_us=step)


def _together(
    recording: Recording, config: Config, seed: int, step: int, watch: Watch, keep: Keep | None = None
) -> Fitted:
    return _fit(METHODS[ENSEMBLE], (), (recording, config, seed, step, watch, keep))


METHODS: Final[Mapping[str, Method]] = {
    METHOD: Method(_short),
    LONG: Method(_long, LONG_WINDOWS),
    "conv-autoencoder": Method(_autoencoder, LONGER),
    "transformer-autoencoder": Method(_transformer, LONGER),
    "isolation-forest": Method(_forest),
    ENSEMBLE: Method(_together, LONG_WINDOWS, (LONG, "conv-autoencoder")),
}
"""All there are, by name; a name is also its `Fitted.method`."""
