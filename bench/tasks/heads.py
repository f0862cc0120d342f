"""The three questions: life by squared error, whether it degrades by cross entropy, the failure mode by focal loss."""

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn

from cloud.life.torch.heads import LIFE, Head

FOCUS: Final = (
    2.0  # the exponent that Lin et al. found best, "Focal loss for dense object detection", ICCV 2017
)


def crossed(said: Tensor, true: Tensor) -> Tensor:
    """Mean binary cross entropy; `said` is the logit."""
    return nn.functional.binary_cross_entropy_with_logits(said[:, 0], true)


def focal(said: Tensor, true: Tensor) -> Tensor:
    """Mean cross entropy, each row weighed by how far it is from being told: (1 - p) ** 2."""
    log_p = torch.log_softmax(said, dim=1).gather(1, true.long()[:, None])[:, 0]
    return -((1 - log_p.exp()) ** FOCUS * log_p).mean()


def heads_for(targets: Tensor, modes: int) -> tuple[Head, ...]:
    """Heads whose losses weigh alike: each is worth what life's is where nothing is known but the mean.

    That is decided by the targets alone, so nothing was tried out. A network of one head keeps its head's weight.

    Args:
        targets: float32[n, 2 or 3], life, degraded and, if `modes`, the mode; NaN = unknown.
        modes: How many failure modes there are, 0 = nobody knows.
    """
    anomaly = Head("anomaly", 1, crossed)
    asked = (LIFE, anomaly, Head("mode", modes, focal)) if modes else (LIFE, anomaly)
    blind = [_blind(head, column[~column.isnan()]) for head, column in zip(asked, targets.T, strict=True)]
    return tuple(replace(head, weight=blind[0] / each) for head, each in zip(asked, blind, strict=True))


def _blind(head: Head, known: Tensor) -> float:
    """The loss of the best answer that is the same for every row."""
    if head.loss is focal:
        share = torch.bincount(known.long(), minlength=head.outputs) / len(known)
        answer = share.clamp_min(1e-9).log()
    else:
        mean = known.mean()
        answer = (torch.logit(mean) if head.loss is crossed else mean)[None]
    return head.loss(answer.expand(len(known), -1), known).item()
