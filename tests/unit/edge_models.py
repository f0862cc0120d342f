"""A small real model and rows of its machine, for the tests of scoring, delivery and the agent."""

from functools import cache

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cloud.training.logic import Config, Recording, fit
from shared.artifact import pack, sha256, unpack
from shared.frames import Readings
from shared.loaded import Desired, LoadedModel, load_model

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
SENSORS, UNITS = ("flow", "power", "temperature"), ("l/min", "kW", "degC")


def plant(
    rows: int, seed: int, *, fault_from: int | None = None
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """float64[rows, 3]: flow wanders, power follows it, temperature follows slowly; a fault heats by 8 degrees."""
    rng = np.random.default_rng(seed)
    flow = 100 + 5 * np.sin(np.arange(rows) / 30) + rng.normal(0, 0.5, rows)
    power = flow / 10 + rng.normal(0, 0.1, rows)
    temperature = 40 + power / 5 + rng.normal(0, 0.2, rows)
    if fault_from is not None:
        temperature[fault_from:] += 8
    return np.stack([flow, power, temperature], axis=1)


@cache
def artifact(machine: str = "pump", seed: int = 1) -> bytes:
    """A model's bytes."""
    table = plant(3000, seed)
    times = START + np.arange(len(table)) * SECOND
    recording = Recording(times, SENSORS, UNITS, table)
    return fit(
        recording, machine=machine, machine_type="pump", now_us=START, step_us=SECOND, config=Config(window=8)
    )


def greedy(data: bytes, values: int) -> bytes:
    """The model with a graph that makes so many float32 beside its score, each time that it is run."""
    whole = unpack(data)
    model = onnx.load_model_from_string(whole.model)
    score = next(node for node in model.graph.node if "score" in node.output)
    score.output[list(score.output).index("score")] = "modest"
    constants = {"much": np.array([values]), "no": np.float32(0)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    model.graph.node.extend(
        (
            helper.make_node("ConstantOfShape", ["much"], ["heap"]),
            helper.make_node("ReduceSum", ["heap"], ["heap_sum"], keepdims=0),
            helper.make_node("Mul", ["heap_sum", "no"], ["nothing"]),
            helper.make_node("Add", ["modest", "nothing"], ["score"]),
        )
    )
    graph = model.SerializeToString()
    return pack(graph, whole.manifest.model_copy(update={"onnx_sha256": sha256(graph)}), whole.probe)


def desired(data: bytes, version: int = 1) -> Desired:
    """What the cloud would ask for."""
    digest = unpack(data).version_hash
    return Desired("pump-pca", version, digest, digest)


@cache
def loaded(machine: str = "pump", seed: int = 1) -> LoadedModel:
    """The model, ready."""
    data = artifact(machine, seed)
    return load_model(desired(data), data)


def rows(
    table: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", first: int = 0, units: tuple[str, ...] = UNITS
) -> Readings:
    """All cells of a table as readings, row by row, one a second from `first` on."""
    count, width = table.shape
    times = START + (first + np.repeat(np.arange(count), width)) * SECOND
    return Readings(
        SENSORS,
        units,
        np.tile(np.arange(width), count),
        times,
        times + 500,
        table.reshape(-1),
        np.zeros(count * width, np.uint8),
    )
