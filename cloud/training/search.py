"""Looks for better settings of the methods of a run, on rows that the choice between candidates does not see.

Each trial fits one method with settings of Optuna's choosing on the first SEEN of the rows and is judged on the panel of
`cloud.training.compare` there. The best is fitted on all rows as one candidate more, `NAME-tuned`, and has to win against
the others on the panel of the newest rows, which no trial saw: a tie keeps the usual settings. Needs the extra [train].
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog

from cloud.training import compare
from cloud.training.candidates import LONG, METHODS, Method
from cloud.training.checkpoints import Keep
from cloud.training.logic import METHOD, Config
from cloud.training.packing import Fitted
from cloud.training.recording import Recording, choose_step
from cloud.training.run import SETTINGS, Choice, turned
from cloud.training.watch import Unwatched, Watch
from shared.errors import Misconfigured, Rejected, lacking

log = structlog.get_logger()

SEEN: Final = 0.85
"""Share of the rows, in order of time. The panel that chooses holds out the last third of the last 40 %, 13.3 %."""
STUDY: Final = "settings"


@dataclass(frozen=True, slots=True)
class Range:
    """A setting of `SETTINGS` and where it is looked for; by its logarithm if `log`."""

    name: str
    least: float
    most: float
    log: bool = True


_WINDOW: Final = Range("window", 6, 48)
_NETWORK: Final = (
    _WINDOW,
    Range("batch", 16, 128),
    Range("learning_rate", 1e-3, 2e-2),
    Range("weight_decay", 1e-5, 3e-2),
)
SPACE: Final[Mapping[str, tuple[Range, ...]]] = {
    METHOD: (_WINDOW,),
    LONG: (_WINDOW,),
    "isolation-forest": (_WINDOW,),
    "conv-autoencoder": _NETWORK,
    "transformer-autoencoder": (*_NETWORK, Range("patch", 2, 16), Range("layers", 1, 3, log=False)),
}
"""What is searched of each method. An ensemble has no settings of its own."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best of a search: a method's name, its settings, its value, and the values of all trials in order."""

    name: str
    settings: Mapping[str, int | float]
    value: float
    values: tuple[float, ...]

    def method(self, config: Config) -> tuple[str, Method]:
        """As one candidate more of a fit by `config`, under a name of its own."""
        base, own = METHODS[self.name], turned(config, self.settings)
        name = f"{self.name}-tuned"

        def fit(
            recording: Recording,
            _: Config,
            seed: int,
            step: int,
            watch: Watch,
            keep: Keep | None = None,
            /,
        ) -> Fitted:
            fitted = base.fit(recording, own, seed, step, _Renaming(watch, name), keep)
            return replace(
                fitted,
                method=name,
                parameters={**fitted.parameters, **self.settings},
                figures={**fitted.figures, "search_value": self.value, "search_trials": len(self.values)},
                curves={**fitted.curves, "search_value": self.values},
            )

        return name, Method(fit, -(-base.windows * own.window // config.window))


class _Renaming(Unwatched):
    """Passes epochs on under the candidate's name: the method's own is that of the usual settings."""

    def __init__(self, watch: Watch, name: str) -> None:
        self._watch, self._name = watch, name

    def epoch(self, method: str, epoch: int, of: int, figures: Mapping[str, float], /) -> None:
        """See `Watch`."""
        del method
        self._watch.epoch(self._name, epoch, of, figures)


def searched(choice: Choice) -> dict[str, tuple[Range, ...]]:
    """What a choice leaves to search, by method. Raises Misconfigured: nothing."""
    left = {
        name: tuple(one for one in SPACE[name] if one.name not in choice.given)
        for name in choice.methods
        if name in SPACE
    }
    found = {name: ranges for name, ranges in left.items() if ranges}
    if not found:
        raise Misconfigured(
            "there is nothing to search: --set fixes every setting of these methods",
            hint=f"leave one out, or name one of {', '.join(SPACE)} by --model",
        )
    return found


def search(
    choice: Choice,
    recording: Recording,
    file: Path | None = None,
    watch: Watch | None = None,
    keep: Keep | None = None,
) -> Tuned | None:
    """Try `choice.search` settings; None if no trial came to an end. Deterministic in its arguments.

    `file` is the study, in SQLite: a search that was killed goes on with the trials that it has. Without it they are in memory.

    Raises:
        Misconfigured: Optuna is not installed, or nothing is left to search.
        Rejected: The rows are too few.
    """
    try:
        import optuna  # noqa: PLC0415 - a second, and only who searches needs it
    except ModuleNotFoundError as error:
        raise lacking(error, "train") from error
    space, watch = searched(choice), watch or Unwatched()
    step = choice.step_us or choose_step(recording, choice.config.mask_limit)
    part = _first(recording)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    state = optuna.trial.TrialState
    with _storage(file) as storage:
        study = optuna.create_study(
            storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True
        )
        for one in study.get_trials(states=[state.RUNNING]):  # it was killed in this one
            study.tell(one.number, state=state.FAIL)
        ended = (state.COMPLETE, state.PRUNED)
        while (done := len(study.get_trials(deepcopy=False, states=ended))) < choice.search:
            # Drawn anew for each trial: one that goes on after a kill draws what an unbroken one does.
            study.sampler = optuna.samplers.TPESampler(seed=(choice.seed * 1009 + done) % 2**32)
            trial = study.ask()
            name, settings = _draw(trial, space)
            value = _value(name, settings, choice, part, step, keep)
            study.tell(trial.number, value, state=state.PRUNED if value is None else state.COMPLETE)
            watch.trial(name, done + 1, choice.search, settings, value)
        complete = study.get_trials(deepcopy=False, states=(state.COMPLETE,))
        if not complete:
            return None
        best = max(complete, key=lambda one: (one.value or 0.0, -one.number))
        name, settings = _draw(optuna.trial.FixedTrial(best.params), space)
        return Tuned(
            name,
            settings,
            best.value or 0.0,
            tuple(value for one in complete if (value := one.value) is not None),
        )


@contextmanager
def _storage(file: Path | None) -> Iterator[Any]:
    """The trials that a file holds; one that can't be read is begun anew."""
    from optuna.storages import InMemoryStorage, RDBStorage  # noqa: PLC0415 - see `search`
    from sqlalchemy.exc import DatabaseError  # noqa: PLC0415 - the same

    if file is None:
        yield InMemoryStorage()
        return
    try:
        storage = RDBStorage(f"sqlite:///{file}")
    except DatabaseError as error:
        log.warning("a search's trials can't be read, so it begins anew", file=str(file), reason=str(error))
        file.unlink()
        storage = RDBStorage(f"sqlite:///{file}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _first(recording: Recording) -> Recording:
    """The rows that a search sees."""
    cut = int(len(recording.times_us) * SEEN)
    return replace(recording, times_us=recording.times_us[:cut], values=recording.values[:cut])


def _draw(
    trial: Any,  # noqa: ANN401 - Optuna's, which need not be there
    space: Mapping[str, Sequence[Range]],
) -> tuple[str, dict[str, int | float]]:
    name = trial.suggest_categorical("method", list(space))
    settings: dict[str, int | float] = {}
    for one in space[name]:
        key = f"{name}.{one.name}"
        settings[one.name] = (
            trial.suggest_int(key, int(one.least), int(one.most), log=one.log)
            if SETTINGS[one.name].kind is int
            else trial.suggest_float(key, one.least, one.most, log=one.log)
        )
    return name, settings


def _value(
    name: str,
    settings: Mapping[str, int | float],
    choice: Choice,
    recording: Recording,
    step: int,
    keep: Keep | None,
) -> float | None:
    """Share of the panel's faults that are found, or minus the false episodes over budget; None: it can't be fitted."""
    config = turned(choice.config, settings)
    try:
        fitted = METHODS[name].fit(recording, config, choice.seed, step, Unwatched(), keep)
        [panel] = compare.judge_all([fitted], choice.seed)
    except Rejected as error:
        log.info("a trial can't be fitted", method=name, settings=dict(settings), reason=error.reason)
        return None
    return -panel.over if panel.over else panel.found
