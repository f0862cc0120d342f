"""Runs a life model's trees by onnxruntime."""

from typing import Final

import numpy as np
import onnxruntime as ort

from shared.errors import Rejected
from shared.onnxruntime import ERRORS
from shared.windows import Floats

_FATAL_ONLY: Final = 4


class Graph:
    """The trees, loaded. Raises Rejected at construction if the runtime can't load the graph as promised."""

    def __init__(self, model: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = _FATAL_ONLY  # what matters comes back as an exception
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except ERRORS as error:
            raise Rejected(f"onnxruntime {ort.__version__} can't load the model: {error}") from error
        inputs, outputs = self._session.get_inputs(), {each.name for each in self._session.get_outputs()}
        if [each.name for each in inputs] != ["features"] or outputs != {"life", "far"}:
            raise Rejected("the model's graph does not take features and give life and its reach")

    def run(self, features: Floats) -> tuple[Floats, Floats]:
        """(life, reach), float64[n], in cycles. Raises Rejected where the features are not the graph's."""
        try:
            life, far = self._session.run(
                ["life", "far"], {"features": np.ascontiguousarray(features, float)}
            )
        except ERRORS as error:
            raise Rejected(f"the model's graph failed: {error}") from error
        return life.astype(float), far.astype(float)
