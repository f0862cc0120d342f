"""Fits an autoencoder on a machine's rows: training, readout, judge and limit."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Final

import numpy as np
import orjson
import torch

from cloud.training import autoencoder, limits, pca
from cloud.training import learning as learning_module
from cloud.training.autoencoder import Inputs, Judge, Singles
from cloud.training.checkpoints import Keep
from cloud.training.learning import Learning
from cloud.training.logic import TRAIN_SHARE, Config, full_windows, split
from cloud.training.packing import Fitted
from cloud.training.recording import Recording
from cloud.training.torch import convolution, network
from cloud.training.torch.graph import WindowAutoencoder, judge_windows, to_onnx
from cloud.training.watch import Unwatched, Watch
from shared.artifact import sha256
from shared.errors import Rejected
from shared.windows import Cells, Floats, Ints

TARGET_MAX: Final = 6.0  # spreads; what the linear part misses by more is no lesson


def config_of(config: Config) -> Config:
    """The autoencoder's configuration, from window PCA's."""
    return replace(config, window=autoencoder.LONGER * config.window)


def method_hash(design: network.Design, config: Config) -> str:
    """Hash of the configuration and of the method's constants."""
    parts = {
        f"{module.__name__}.{name}": value
        for module in (autoencoder, network)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, int | float)
    }
    # As when they all stood in the network's module: what is fitted unasked keeps its hash.
    apart = {name: value for name, value in vars(learning_module).items() if name.isupper()}
    parts |= {f"{network.__name__}.{name}": value for name, value in (apart | {**design.constants}).items()}
    fixed = [TRAIN_SHARE, TARGET_MAX, limits.MARGIN_MIN, limits.TAIL]
    turned = [] if config.learning == Learning() else [asdict(config.learning)]
    turned += [dict(design.settings)] if design.settings else []
    said = [config.prepared(), parts, fixed, *turned]
    return sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS))


def fit_autoencoder(
    recording: Recording,
    config: Config,
    *,
    seed: int,
    step_us: int | None = None,
    watch: Watch | None = None,
    design: network.Design = convolution.DESIGN,
    keep: Keep | None = None,
) -> Fitted:
    """Fit the autoencoder of a design and set its limit. `config` is window PCA's; deterministic in its arguments.

    Epochs that `keep` has of the same training are not done again.

    Raises:
        Rejected: Too few rows, too many sensors, or none that moves.
    """
    config = config_of(config)
    if not 1 < len(recording.sensors) <= autoencoder.SENSORS_MAX:
        raise Rejected(
            f"the autoencoder expects a sensor from the others: it takes 2 to {autoencoder.SENSORS_MAX} sensors"
        )
    given, ends = full_windows(recording, config, step_us)
    train, after = split(ends, config.window)

    def epoch(number: int, figures: Mapping[str, float]) -> None:
        (watch or Unwatched()).epoch(design.method, number, config.learning.epochs, figures)

    with network.repeatable():
        module, scale, left, curves = _fit(design, given, train, seed, config.learning, epoch, keep)
        healthy, _ = _score(module, given, after)
    forward = _forward_ratio(left)
    limit = limits.set_limit(
        healthy,
        window=config.window,
        step_us=given.spec.step_us,
        budget=config.budget,
        forward_ratio=forward,
    )
    module.set_limit(limit.value)

    def score(windows: Floats) -> tuple[Floats, Floats]:
        with network.repeatable():
            return judge_windows(module, windows)

    def graph() -> bytes:
        with network.repeatable():
            return to_onnx(module, config.window, design.method)

    weights = sum(each.numel() for each in module.network.parameters())
    epochs = len(curves["validation_loss"])
    return Fitted(
        method=design.method,
        method_hash=method_hash(design, config),
        scale=scale,
        cells=given,
        ends=ends,
        after=after,
        healthy=healthy,
        forward=forward,
        limit=limit,
        budget=config.budget,
        settle_s=config.settle_s,
        score=score,
        graph=graph,
        parameters={**_parameters(config, given, weights, seed), **design.settings},
        figures={"epochs": float(epochs), "validation_loss": min(curves["validation_loss"])},
        curves=curves,
    )


def _parameters(config: Config, cells: Cells, weights: int, seed: int) -> dict[str, str | int | float]:
    return {
        "window": config.window,
        "step_us": cells.spec.step_us,
        "batch": config.learning.batch,
        "epochs_max": config.learning.epochs,
        "patience": config.learning.patience,
        "learning_rate": config.learning.learning_rate,
        "weight_decay": config.learning.weight_decay,
        "weights": weights,
        "seed": seed,
        "torch": torch.__version__,
    }


def _fit(
    design: network.Design,
    given: Cells,
    train: Ints,
    seed: int,
    learning: Learning,
    epoch: network.Epoch,
    keep: Keep | None,
) -> tuple[WindowAutoencoder, pca.Scale, Floats, dict[str, tuple[float, ...]]]:
    """The module (no limit yet), the scale in the recording's order, scores forward in time, and the curves."""
    rows = int(train[-1]) + 1
    cells, order = autoencoder.arrange(given, rows)
    scale = pca.fit_scale(cells.cells[:rows])
    inputs = autoencoder.fit_inputs(scale, cells.cells[:rows])
    hop = max(1, len(train) // autoencoder.WINDOWS)
    chosen = train[::hop]
    table = autoencoder.filled_features(scale, cells, chosen)
    standard, there = _cells(scale, inputs, cells, chosen)
    targets = autoencoder.targets(table, TARGET_MAX)
    examples = network.Examples(standard, there, targets)
    net, curves = network.train(
        design,
        examples,
        gap=-(-cells.spec.window // hop),
        seed=seed,
        learning=learning,
        epoch=epoch,
        keep=keep,
    )
    readout, left = autoencoder.fit_readout(table, network.codes_of(net, standard, there))
    judge = autoencoder.fit_judge(readout, left, cells.spec.window)
    module = WindowAutoencoder(net, scale, inputs, readout, judge, order).eval()
    back = np.argsort(order)
    own = pca.Scale(scale.centre[back], scale.inverse[back], scale.step[back])
    return module, own, _forward_scores(judge, left), curves


def _cells(scale: pca.Scale, inputs: Inputs, cells: Cells, ends: Ints) -> tuple[Singles, Singles]:
    """Cells and masks float32[n, S, W] as the network takes them, in whole grains."""
    windows = cells.gather(ends).values
    there = ~np.isnan(windows)
    standard = np.where(there, (windows - scale.centre) * scale.inverse * inputs.gain, 0.0)
    held = np.clip(standard, inputs.low, inputs.high)
    grains = np.round(held * autoencoder.GRAIN) / autoencoder.GRAIN
    return (
        np.ascontiguousarray(grains.transpose(0, 2, 1), np.float32),
        np.ascontiguousarray(there.transpose(0, 2, 1), np.float32),
    )


def _score(module: WindowAutoencoder, cells: Cells, ends: Ints) -> tuple[Floats, Floats]:
    parts = [
        judge_windows(module, cells.gather(ends[at : at + 2048]).values) for at in range(0, len(ends), 2048)
    ]
    if not parts:
        return np.zeros(0), np.zeros((0, len(cells.spec.sensors)))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _forward_scores(judge: Judge, left: Floats) -> Floats:
    scores: Floats = (autoencoder.explained(judge, left) ** 2).sum(axis=1) ** 0.25
    return scores


def _forward_ratio(scores: Floats) -> float:
    """How much the largest score grows from one block forward in time to the next, the median over the blocks."""
    blocks = np.array_split(scores, autoencoder.BLOCKS - autoencoder.FORWARD)
    tops = np.array([float(block.max(initial=0.0)) for block in blocks])
    known = tops[:-1] > 0
    return float(np.median(tops[1:][known] / tops[:-1][known])) if known.any() else 1.0
