"""The whole computation as one module, from a window to score, limit and contributions; and as an ONNX graph."""

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from cloud.training import pca
from cloud.training.autoencoder import Inputs, Judge, Readout
from cloud.training.torch.export import exported
from cloud.training.torch.network import Autoencoder
from shared.windows import Floats, Ints

_OUTPUTS: Final = ("score", "limit", "alarm", "contributions", "expected", "seen")
CHUNK: Final = 512


class WindowAutoencoder(nn.Module):
    """float64[n, W, S] windows, NaN = empty, to what `cloud.training.onnx.to_onnx` promises.

    Columns are put in the model's own order first and what comes out is put back last.
    """

    centre: Tensor
    inverse: Tensor
    step_inverse: Tensor
    spread: Tensor
    linear: Tensor
    curved: Tensor
    base: Tensor
    usual: Tensor
    left_mean: Tensor
    left_inverse: Tensor
    phi: Tensor
    directions: Tensor
    power: Tensor
    gain: Tensor
    low: Tensor
    high: Tensor
    order: Tensor
    back: Tensor
    threshold: Tensor

    def __init__(
        self,
        network: Autoencoder,
        scale: pca.Scale,
        inputs: Inputs,
        readout: Readout,
        judge: Judge,
        order: Ints,
    ) -> None:
        super().__init__()
        self.network = network
        self.sensors = len(order)
        spread = np.divide(1.0, scale.inverse, out=np.zeros(self.sensors), where=scale.inverse > 0)
        held: dict[str, Floats] = {
            "centre": scale.centre,
            "inverse": scale.inverse,
            "step_inverse": scale.step,
            "spread": spread,
            "linear": readout.linear,
            "curved": readout.curved,
            "base": readout.base,
            "usual": readout.mean,
            "left_mean": judge.mean,
            "left_inverse": judge.inverse,
            "phi": judge.phi,
            "directions": judge.directions,
            "power": judge.power,
        }
        for name, value in held.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))
        for name, value in {"gain": inputs.gain, "low": inputs.low, "high": inputs.high}.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))
        self.register_buffer("order", torch.tensor(order, dtype=torch.int64))
        self.register_buffer("back", torch.tensor(np.argsort(order), dtype=torch.int64))
        # Not named `limit`: a buffer with an output's name makes an invalid graph.
        self.register_buffer("threshold", torch.tensor(torch.inf, dtype=torch.float32))

    def set_limit(self, limit: float) -> None:
        """The score's limit."""
        self.threshold.fill_(limit)

    def forward(self, window: Tensor) -> tuple[Tensor, ...]:
        """Score, limit, alarm, contributions, expected, seen."""
        window = window.index_select(2, self.order)
        there = ~torch.isnan(window)
        present = there.to(torch.float64)
        count = present.sum(dim=1)
        raw = torch.where(there, window, 0.0).sum(dim=1) / count.clamp(min=1.0)
        seen = torch.where(count > 0, raw, torch.nan)
        filled = torch.where(there, window, self.centre)
        standard = ((filled - self.centre) * self.inverse).clamp(-pca.CLIP, pca.CLIP).to(torch.float32)
        features, known = self._features(standard.to(torch.float64), present, count)
        bent = self._bent(standard, there)

        # A silent sensor is expected from the others first, so that they are not judged by a gap.
        features = torch.where(known, features, self.usual)
        features = torch.where(known, features, features @ self.linear + self.base + bent)
        expected = features @ self.linear + self.base + bent
        left = torch.where(known, (features - expected - self.left_mean) * self.left_inverse, 0.0)
        toward = left @ self.phi @ self.directions
        each = toward * toward * self.power
        sensor = each[:, : self.sensors] + each[:, self.sensors :]
        total = sensor.sum(dim=1, keepdim=True)
        share = sensor / torch.where(total > 0, total, 1.0)
        score = (sensor * sensor).sum(dim=1).sqrt().sqrt().to(torch.float32)
        level = expected[:, : self.sensors] * self.spread + self.centre
        return (
            score,
            self.threshold.clone(),
            score > self.threshold,
            share.to(torch.float32).index_select(1, self.back),
            level.index_select(1, self.back),
            seen.index_select(1, self.back),
        )

    def _features(self, standard: Tensor, present: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """`pca.features` and which of them the window shows."""
        level = standard.sum(dim=1) / count.clamp(min=1.0)
        step = standard[:, 1:] - standard[:, :-1]
        both = present[:, 1:] * present[:, :-1]
        pairs = both.sum(dim=1)
        squares = (step * step * both).sum(dim=1) / pairs.clamp(min=1.0)
        rest = torch.log(squares * self.step_inverse + pca.REST)
        return torch.cat([level, rest], dim=1), torch.cat([count > 0, pairs > 0], dim=1)

    def _bent(self, standard: Tensor, there: Tensor) -> Tensor:
        """float64[n, 2S] what the network adds to the expected features."""
        cells = torch.minimum(torch.maximum(standard * self.gain, self.low), self.high).transpose(1, 2)
        codes = self.network.codes(cells, there.to(torch.float32).transpose(1, 2))
        each = (codes.to(torch.float64).unsqueeze(2) @ self.curved).squeeze(2)
        return each.transpose(1, 2).flatten(1)


@torch.no_grad()
def judge_windows(module: WindowAutoencoder, windows: Floats) -> tuple[Floats, Floats]:
    """float64[n] scores and float64[n, S] contributions of float64[n, W, S] windows."""
    scores, shares = [np.zeros(0)], [np.zeros((0, windows.shape[2]))]
    for at in range(0, len(windows), CHUNK):
        score, _, _, share, _, _ = module(torch.from_numpy(windows[at : at + CHUNK]))
        scores.append(score.numpy().astype(np.float64))
        shares.append(share.numpy().astype(np.float64))
    return np.concatenate(scores), np.concatenate(shares)


def to_onnx(module: WindowAutoencoder, window: int, name: str) -> bytes:
    """The graph's bytes: like window PCA's in its input, its outputs and its operators' version."""
    example = torch.zeros((2, window, module.sensors), dtype=torch.float64)
    return exported(module, (example,), ["window"], _OUTPUTS, name)
