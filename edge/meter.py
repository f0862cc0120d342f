"""How long scoring takes, in seconds and of the processor, and whether that is within its budget."""

from collections import deque
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_KEPT: Final = 1000
_QUANTILES: Final = (0.5, 0.99)


class ScoreMeter:
    """From the receipt of the newest reading in a batch to its windows' scores.

    Over `budget_s` a batch is counted, not stopped: a late score is better than none. The processor's share is kept by
    `pause`: what scoring took beyond `share` of one core is slept off, and its queue's bound decides what stays unscored.
    """

    def __init__(self, registry: CollectorRegistry, *, budget_s: float, share: float) -> None:
        self._budget_s, self._share = budget_s, share
        self._took: deque[float] = deque(maxlen=_KEPT)
        self._seconds = Histogram(
            "im_edge_score_seconds",
            "From the receipt of a window's last reading to its score",
            registry=registry,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
        )
        quantiles = Gauge(
            "im_edge_score_quantile_seconds",
            "The same over the last 1,000 batches, by quantile",
            ["quantile"],
            registry=registry,
        )
        for share_below in _QUANTILES:
            quantiles.labels(str(share_below)).set_function(lambda q=share_below: self.quantile(q))  # type: ignore[misc]
        self._over = Counter(
            "im_edge_score_over_budget",
            "Batches that were scored later than their latency budget",
            registry=registry,
        )
        self._cpu = Counter("im_edge_score_cpu_seconds", "Processor time of scoring", registry=registry)

    def scored(self, seconds: float) -> None:
        """A batch's newest window has its score, `seconds` after its last reading was received."""
        self._took.append(seconds)
        self._seconds.observe(max(seconds, 0.0))
        if seconds > self._budget_s:
            self._over.inc()

    def pause(self, cpu_seconds: float) -> float:
        """How long to sleep after a batch that took so much of a processor."""
        self._cpu.inc(cpu_seconds)
        return cpu_seconds * (1 / self._share - 1)

    def quantile(self, share: float) -> float:
        """The quantile of the last batches, NaN before the first."""
        return float(np.quantile(self._took, share)) if self._took else float("nan")
