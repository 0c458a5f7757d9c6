"""A trained specialist as an ONNX graph, written node by node from its weights: inputs as they come, one score a row.

Imports onnx, which the agent does not. No exporter of torch is asked: each has its own form of the same network, and one that
changes with its version; here every number and operator of what serves stands in this file.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from finagent.domain.errors import BadInput
from finagent.quant.evaluation.labels import Outcome
from finagent.quant.evaluation.scores import PROBABILITY_MIN
from finagent.quant.specialists.networks import DILATIONS, STANDARD_MAX, TAPS
from finagent.quant.specialists.specialist import Specialist, Weights
from finagent.quant.specialists.training_plan import Architecture

OPSET, IR_VERSION = 17, 8
SINGLE = np.float32


def specialist_graph(specialist: Specialist, direction: int | None = None) -> bytes:
    """An ONNX model from rows of features [rows, steps * features], the oldest step first, to a score [rows, 1] in [0, 1].

    The score is the probability of UP given that a barrier is met; where the feature in column `direction` of the last step is
    below zero it is that of DOWN. Transform, ensemble, temperature, and the base rates of one without skill are part of it.
    BadInput for a direction that is no column.
    """
    shape = specialist.shape
    if direction is not None and not 0 <= direction < shape.features:
        raise BadInput(f"specialist graph: direction is column {direction}, there are {shape.features}")
    graph = _Graph()
    probabilities = _probabilities(graph, specialist)
    score = _score(graph, probabilities, direction, (shape.steps - 1) * shape.features)
    made = helper.make_graph(
        [*graph.nodes, helper.make_node("Identity", [score], ["score"])],
        "specialist",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", shape.steps * shape.features])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", 1])],
        graph.numbers,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="finagent")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@dataclass(slots=True)
class _Graph:
    """Nodes and numbers so far; a value is named by the node that makes it."""

    nodes: list[NodeProto] = field(default_factory=list)
    numbers: list[TensorProto] = field(default_factory=list)

    def number(self, value: object, dtype: Any = SINGLE) -> str:
        name = f"number_{len(self.numbers)}"
        self.numbers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def node(self, operator: str, *inputs: str, output: int = 0, **attributes: Any) -> str:
        """The name of that output of a new node."""
        name = f"value_{len(self.nodes)}"
        outputs = [""] * output + [name]
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, **attributes))
        return name

    def reshape(self, value: str, *shape: int) -> str:
        return self.node("Reshape", value, self.number(shape, np.int64))

    def columns(self, value: str, first: int, last: int) -> str:
        bounds = [self.number([each], np.int64) for each in (first, last, 1)]
        return self.node("Slice", value, *bounds)

    def linear(self, value: str, weights: Weights, name: str) -> str:
        product = self.node("MatMul", value, self.number(weights[f"{name}.weight"].T))
        return self.node("Add", product, self.number(weights[f"{name}.bias"]))


def _probabilities(graph: _Graph, specialist: Specialist) -> str:
    """[rows, classes]."""
    steps, features = specialist.shape.steps, specialist.shape.features
    given = graph.reshape("features", -1, steps, features)
    unknown = graph.node("IsNaN", given)
    centred = graph.node("Sub", given, graph.number(specialist.inputs.mean))
    scaled = graph.node("Div", centred, graph.number(specialist.inputs.deviation))
    bounded = graph.node("Clip", scaled, graph.number(-STANDARD_MAX), graph.number(STANDARD_MAX))
    standard = graph.node("Where", unknown, graph.number(0.0), bounded)
    known = graph.node("Cast", graph.node("Not", unknown), to=TensorProto.FLOAT)
    there = graph.node("ReduceMax", known, axes=[2], keepdims=1)
    shares = [_member(graph, specialist, weights, standard, there) for weights in specialist.members]
    mean = graph.node("Div", graph.node("Sum", *shares), graph.number(len(shares)))
    logits = graph.node("Log", graph.node("Max", mean, graph.number(PROBABILITY_MIN)))
    told = graph.node("Softmax", graph.node("Div", logits, graph.number(specialist.temperature)), axis=1)
    if specialist.has_skill:
        return told
    nothing = graph.node("Mul", told, graph.number(0.0))
    return graph.node("Add", nothing, graph.number(specialist.base_rates))


def _score(graph: _Graph, probabilities: str, direction: int | None, last_step: int) -> str:
    down, up = (graph.columns(probabilities, each, each + 1) for each in (int(Outcome.DOWN), int(Outcome.UP)))
    wanted = up
    if direction is not None:
        heading = graph.columns("features", last_step + direction, last_step + direction + 1)
        wanted = graph.node("Where", graph.node("Less", heading, graph.number(0.0)), down, up)
    decided = graph.node("Max", graph.node("Add", down, up), graph.number(PROBABILITY_MIN))
    return graph.node("Clip", graph.node("Div", wanted, decided), graph.number(0.0), graph.number(1.0))


def _member(graph: _Graph, specialist: Specialist, weights: Weights, standard: str, there: str) -> str:
    """The probabilities of one network, which is that of quant.specialists.networks."""
    shape = specialist.shape
    if shape.architecture is Architecture.MLP:
        flat = graph.reshape(graph.node("Mul", standard, there), -1, shape.steps * shape.features)
        once = graph.node("Relu", graph.linear(flat, weights, "first"))
        hidden = graph.node("Relu", graph.linear(once, weights, "second"))
    else:
        embedded = graph.node("Mul", graph.linear(standard, weights, "embed"), there)
        recurrent = shape.architecture is Architecture.GRU
        hidden = (_gru if recurrent else _convolutions)(graph, specialist, weights, embedded, there)
    return graph.node("Softmax", graph.linear(hidden, weights, "classes"), axis=1)


def _gru(graph: _Graph, specialist: Specialist, weights: Weights, embedded: str, there: str) -> str:
    """ONNX has the update gate first, torch the reset gate."""

    def gates(name: str) -> NDArray[np.float32]:
        reset, update, new = np.split(weights[name], 3)
        return np.concatenate([update, reset, new])

    inward, inner = (graph.number(gates(f"gru.weight_{each}_l0")[np.newaxis]) for each in ("ih", "hh"))
    bias = graph.number(np.concatenate([gates("gru.bias_ih_l0"), gates("gru.bias_hh_l0")])[np.newaxis])
    by_time = graph.node("Transpose", embedded, perm=[1, 0, 2])
    hidden = specialist.shape.hidden
    last = graph.node("GRU", by_time, inward, inner, bias, output=1, hidden_size=hidden, linear_before_reset=1)
    return graph.reshape(last, -1, hidden)


def _convolutions(graph: _Graph, specialist: Specialist, weights: Weights, embedded: str, there: str) -> str:
    steps, mask = (graph.node("Transpose", each, perm=[0, 2, 1]) for each in (embedded, there))
    for place, dilation in enumerate(DILATIONS):
        kernel, bias = (graph.number(weights[f"convolutions.{place}.{each}"]) for each in ("weight", "bias"))
        pads = [(TAPS - 1) * dilation, 0]
        convolved = graph.node("Conv", steps, kernel, bias, dilations=[dilation], pads=pads, kernel_shape=[TAPS])
        steps = graph.node("Add", steps, graph.node("Mul", graph.node("Relu", convolved), mask))
    newest = graph.node("Gather", steps, graph.number(specialist.shape.steps - 1, np.int64), axis=2)
    return graph.reshape(newest, -1, specialist.shape.hidden)
