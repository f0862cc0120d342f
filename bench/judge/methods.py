"""What is judged: the shipped scorer, and floors measured in the same run. Each gets FIT and TEST rows, never labels.

The floors are those of the data sets' own table: plain, untuned, and with limits from FIT alone. Two of them know what no detector
may: `always` alarms at every row, `random` at the true rate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import StandardScaler

from cloud.training.datasets.run import Bools, Run
from cloud.training.logic import Config
from industrialmind.score import score_rows
from shared.windows import Floats

QUANTILE: Final = 0.995
VARIANCE: Final = 0.9
FITTED: Final = 0.7  # of FIT; the rest sets PCA's limit
TREES: Final = 100


@dataclass(frozen=True, eq=False)
class Scored:
    """A method's answer for one run.

    Attributes:
        run: The run, with its labels.
        ratio: float64[n], scores over the limit, NaN = unscored.
        alarm: bool[n].
        contributions: float64[n, S], or None where the method names no sensor.
        about: What the model says of itself.
    """

    run: Run
    ratio: Floats
    alarm: Bools
    contributions: Floats | None = None
    about: str = ""


def configuration() -> str:
    """Hash of what `industrialmind score` is configured with: the same for every set."""
    return Config().sha256()


Method = Callable[[Run, int], Scored]


def shipped(run: Run, seed: int) -> Scored:
    """What `industrialmind score` does to the two files."""
    result = score_rows(run.sensors, run.fit_us, run.fit, run.test_us, run.test, seed=seed)
    manifest = result.manifest
    about = "provisional limit" if manifest.provisional else "limit at the budget"
    return Scored(run, result.score / manifest.limit, result.alarm, result.contributions, about)


def always(run: Run, seed: int) -> Scored:
    """An alarm on every row."""
    del seed
    return _above(run, np.full(len(run.test), 2.0))


def chance(run: Run, seed: int) -> Scored:
    """Uniform scores, alarming at the true rate."""
    draws = np.random.default_rng([seed, 13]).random(len(run.test))
    return _above(run, draws / max(1.0 - float(run.anomaly.mean()), 1e-9))


def pca(run: Run, seed: int) -> Scored:
    """Row-wise T² and Q; columns are scaled by all of FIT, as for the data sets' own table."""
    del seed
    cut = int(len(run.fit) * FITTED)
    scaler = StandardScaler().fit(run.fit)
    known, asked = scaler.transform(run.fit), scaler.transform(run.test)
    model = PCA(VARIANCE if run.fit.shape[1] > 1 else 1).fit(known[:cut])

    def parts(table: Floats) -> tuple[Floats, Floats]:
        scores = model.transform(table)
        t2 = (scores**2 / model.explained_variance_).sum(axis=1)
        return t2, ((table - model.inverse_transform(scores)) ** 2).sum(axis=1)

    limits = [np.quantile(part, QUANTILE) for part in parts(known[cut:])]
    ratios = [
        part / limit for part, limit in zip(parts(asked), limits, strict=True) if limit > np.finfo(float).eps
    ]
    return _above(run, np.max(ratios, axis=0))


def forest(run: Run, seed: int) -> Scored:
    """An isolation forest on rows."""
    model = IsolationForest(n_estimators=TREES, random_state=seed).fit(run.fit)
    limit = float(np.quantile(-model.score_samples(run.fit), QUANTILE))
    return _above(run, -model.score_samples(run.test) / limit)


def _above(run: Run, ratio: Floats) -> Scored:
    return Scored(run, np.asarray(ratio, dtype=np.float64), ratio > 1.0)


FLOORS: Final[dict[str, Method]] = {"always": always, "random": chance, "PCA": pca, "IForest": forest}
