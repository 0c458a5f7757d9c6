"""The logistic baseline, from a recipe and a file of rows to a graph of ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finagent.adapters.models.learning_files import open_rows
from finagent.adapters.models.package import Canary
from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.learning.experiment import State
from finagent.quant.learning.learning_rows import LearningRows
from finagent.quant.specialists.logistic import DEVIATIONS_MAX, LogisticPlan, LogisticTraining

CANARY_ROWS = 16
_OPSET, _IR = 17, 8


def logistic_training(recipe: Mapping[str, Any], data: Path) -> LogisticTraining:
    """`learn_before` is the session before which labels must be decided, `test_from` and `test_to` span the sessions that are
    tested; all null: every row is learned from and none tested."""
    rows = open_rows(data, verify=False).rows
    plan = LogisticPlan(l2=float(recipe["l2"]), epochs=int(recipe["epochs"]))
    if recipe["learn_before"] is None:
        return LogisticTraining(plan, rows, None)
    learned = rows.take(np.flatnonzero(rows.ends < recipe["learn_before"]))
    tested = rows.take(np.flatnonzero((rows.starts >= recipe["test_from"]) & (rows.starts < recipe["test_to"])))
    return LogisticTraining(plan, learned, tested)


def export_logistic(recipe: Mapping[str, Any], data: Path, state: State) -> tuple[bytes, Canary, dict[str, float]]:
    """The graph, what it says to some rows, and the values that unknown features take. The canary is of numpy: a package is taken
    in only where ONNX Runtime says the same."""
    file = open_rows(data, verify=False)
    training = logistic_training(recipe, data)
    training.restore(state)
    model = training.model
    if "gap" not in file.features:
        raise BadInput(f"{data}: there is no feature gap, which says what way a candidate would go")
    gap = file.features.index("gap")
    graph = _graph(gap, {"mean": model.mean, "deviation": model.deviation, "weights": model.weights, "bias": model.bias})
    rows = _canary_rows(file.rows)
    scores = model.scores(rows, rows[:, gap])
    inputs = tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in rows)
    return (
        graph,
        Canary(inputs=inputs, outputs=tuple(scores.tolist())),
        dict(zip(file.features, model.mean.tolist(), strict=True)),
    )


def _canary_rows(rows: LearningRows) -> Any:
    """Spread over all there are, with what is unknown in them."""
    places = np.unique(np.linspace(0, len(rows) - 1, CANARY_ROWS).astype(int))
    if len(places) < 2:
        raise BadInput("one row makes no canary: more candidates are needed")
    return rows.inputs[places, -1, :].astype(np.float64)


def _graph(gap: int, numbers: Mapping[str, Any]) -> bytes:
    """From `x` [rows, features] to `y` [rows, 1]: standardised, clipped, Gemm, Softmax, and the class that the gap points to."""
    from onnx import TensorProto, helper, numpy_helper

    constants: dict[str, Any] = {name: np.asarray(value, dtype=np.float32) for name, value in numbers.items()}
    constants |= {"least": np.float32(-DEVIATIONS_MAX), "most": np.float32(DEVIATIONS_MAX), "zero": np.float32(0.0)}
    constants |= {name: np.asarray([place], dtype=np.int64) for name, place in (("gap", gap), ("up", Outcome.UP))}
    constants["down"] = np.asarray([Outcome.DOWN], dtype=np.int64)
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "least", "most"], ["standard"]),
        helper.make_node("Gemm", ["standard", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Gather", ["probabilities", "up"], ["goes_up"], axis=1),
        helper.make_node("Gather", ["probabilities", "down"], ["goes_down"], axis=1),
        helper.make_node("Gather", ["x", "gap"], ["way"], axis=1),
        helper.make_node("Greater", ["way", "zero"], ["upwards"]),
        helper.make_node("Where", ["upwards", "goes_up", "goes_down"], ["y"]),
    ]
    features = len(constants["mean"])
    graph = helper.make_graph(
        nodes,
        "multinomial logistic regression",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR
    return bytes(model.SerializeToString())
