"""What a training run is: everything that decides its models, as values, with a hash. Pure.

`--model` and `--set` of a command line are read here into a `Choice`; with a machine and a range of time it is a `Run`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

import orjson

from cloud.training.candidates import DEFAULT, check_methods
from cloud.training.learning import Learning, Transformer
from cloud.training.limits import Budget
from cloud.training.logic import Config
from shared.artifact import sha256
from shared.errors import Misconfigured

ALIASES: Final[Mapping[str, str]] = {
    "autoencoder": "conv-autoencoder",
    "transformer": "transformer-autoencoder",
}


SEARCH_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Setting:
    """One name that `--set` takes: its kind and its bounds, both allowed, and what it is."""

    kind: type[int] | type[float]
    least: float
    most: float
    says: str

    @property
    def range(self) -> str:
        """As people read it."""
        kind = "a whole number" if self.kind is int else "a number"
        return f"{kind} from {self.least:g} to {self.most:g}"


SETTINGS: Final[Mapping[str, Setting]] = {
    "window": Setting(int, 4, 256, "cells of window PCA's window; the other methods' follow from it"),
    "step": Setting(float, 0.001, 86_400, "seconds of a cell; found from the rows without it"),
    "max_age": Setting(int, 0, 60, "cells that a last value stands in for an empty one"),
    "lateness": Setting(int, 0, 60, "cells that rows may be late"),
    "mask_limit": Setting(float, 0, 0.9, "share of a window's cells that may be empty"),
    "settle_s": Setting(float, 0, 86_400, "seconds after a return to a known state before it is scored"),
    "episodes_month": Setting(float, 0.01, 1000, "false episodes allowed a machine-month"),
    "m": Setting(int, 1, 100, "alarming windows of the last n that make an episode"),
    "n": Setting(int, 1, 100, "see m"),
    "batch": Setting(int, 1, 4096, "windows a step of a network's training"),
    "epochs": Setting(int, 1, 1000, "most passes of a network's training"),
    "patience": Setting(int, 0, 1000, "epochs without gain before a network's training stops"),
    "learning_rate": Setting(float, 1e-6, 1, "of a network's training"),
    "weight_decay": Setting(float, 0, 1, "of a network's training"),
    "patch": Setting(int, 1, 64, "cells from one patch of the Transformer autoencoder to the next"),
    "width": Setting(int, 4, 128, "values a patch of it, a multiple of heads"),
    "heads": Setting(int, 1, 16, "of its attention"),
    "layers": Setting(int, 1, 6, "of its attention, one after the other"),
    "seed": Setting(int, 0, 2**31 - 1, "what is drawn is drawn from it"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person may choose of a fit.

    Attributes:
        methods: Names of `METHODS`, the first being the one that rivals are compared with.
        config: Window PCA's configuration, which the others' follow from.
        seed: See `SETTINGS`.
        step_us: The grid's step; None: found from the rows.
        search: How many settings are tried out beside these; 0: none (`cloud.training.search`).
        given: Names of the settings that a person chose, which no search turns.
    """

    methods: tuple[str, ...] = DEFAULT
    config: Config = field(default_factory=Config)
    seed: int = 0
    step_us: int | None = None
    search: int = 0
    given: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """All that decides a machine's models but the rows, whose hash is in the manifest, and the code.

    Attributes:
        machine: Its id.
        machine_type: Its type, an id.
        choice: What was chosen.
        from_us: The rows' range; the store's ends where nobody bounded it.
        to_us: See from_us.
        labels_as_of_us: Labels are read as of this time.
        operating_sensor: The sensor of the operating point, if any.
        clusters: Whether only its set-points are scored.
        parent: Version hash of the model that is to be replaced.
    """

    machine: str
    machine_type: str
    choice: Choice
    from_us: int
    to_us: int
    labels_as_of_us: int | None = None
    operating_sensor: str | None = None
    clusters: bool = False
    parent: str | None = None

    def to_json(self) -> str:
        """Keys in order, so that equal runs are equal text."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS).decode()

    def sha256(self) -> str:
        """Hash of the description."""
        return sha256(self.to_json().encode())


def read_choice(models: Sequence[str] = (), settings: Sequence[str] = (), search: int = 0) -> Choice:
    """Of `--model NAME`, `--set NAME=VALUE` and `--search N`; nothing given is what is fitted unasked.

    Raises:
        Misconfigured: A name that there is not, a value out of its range, a name twice; the hint says what there is.
    """
    if not 0 <= search <= SEARCH_MAX:
        raise Misconfigured(
            f"--search takes a whole number from 1 to {SEARCH_MAX}, not {search}",
            hint="it is how many settings are tried",
        )
    methods = check_methods([ALIASES.get(name, name) for name in models] or DEFAULT)
    given: dict[str, int | float] = {}
    for text in settings:
        name, value = _read_setting(text)
        if name in given:
            raise Misconfigured(f"--set {name} is given twice", hint="give each name once")
        given[name] = value
    return replace(_chosen(methods, given), search=search, given=tuple(sorted(given)))


def _read_setting(text: str) -> tuple[str, int | float]:
    name, equals, written = text.partition("=")
    if not equals or name not in SETTINGS:
        wrong = f"there is no setting {name!r}" if equals else f"--set {text!r} is not NAME=VALUE"
        raise Misconfigured(wrong, hint=f"there are {', '.join(SETTINGS)}")
    setting = SETTINGS[name]
    try:
        value = setting.kind(written)
    except ValueError:
        value = setting.kind(-1)  # below every range
    if not setting.least <= value <= setting.most:  # nor is NaN
        raise Misconfigured(f"--set {name} takes {setting.range}, not {written!r}", hint=setting.says)
    return name, value


def _chosen(methods: tuple[str, ...], given: Mapping[str, int | float]) -> Choice:
    config = turned(Config(), given)
    budget, transformer = config.budget, config.transformer
    if budget.m > budget.n:
        raise Misconfigured(f"--set m={budget.m} is more than n={budget.n}", hint=SETTINGS["m"].says)
    if transformer.width % transformer.heads:
        raise Misconfigured(
            f"--set width={transformer.width} is no multiple of heads={transformer.heads}",
            hint=SETTINGS["width"].says,
        )
    step_us = round(given["step"] * 1e6) if "step" in given else None
    return Choice(methods, config, int(given.get("seed", 0)), step_us)


def turned(config: Config, given: Mapping[str, int | float]) -> Config:
    """A configuration with some of `SETTINGS` turned; the step and the seed are no part of it."""

    def of(kind: type) -> dict[str, Any]:
        return {each.name: given[each.name] for each in fields(kind) if each.name in given}

    return replace(
        config,
        **of(Config),
        budget=replace(config.budget, **of(Budget)),
        learning=replace(config.learning, **of(Learning)),
        transformer=replace(config.transformer, **of(Transformer)),
    )
