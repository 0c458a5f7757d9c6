"""Model packages made by hand: a logistic model over any features, and graphs that nobody should load."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from finagent.adapters.models.package import Canary, ModelFacts, ModelPackage, sealed
from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.quant.features.catalogue import CANDIDATE

SPEC = CANDIDATE.select("of the tests", ("gap_magnitude", "log_relative_volume", "position_in_range"))
WEIGHTS = (6.0, 0.5, 2.0)
BIAS = -1.0
Precision = type[np.float32] | type[np.float64]
_TYPES: dict[Precision, int] = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}


def graph_model(nodes: Sequence[NodeProto], features: int, numbers: dict[str, Floats], dtype: Precision = np.float32) -> bytes:
    """An ONNX model from `x` to `y`."""
    kind = _TYPES[dtype]
    graph = helper.make_graph(
        list(nodes),
        "of the tests",
        [helper.make_tensor_value_info("x", kind, ["rows", features])],
        [helper.make_tensor_value_info("y", kind, ["rows", 1])],
        [numpy_helper.from_array(np.asarray(value, dtype=dtype), name) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("shop", 1)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def logistic_model(weights: Sequence[float], bias: float = BIAS, dtype: Precision = np.float32, last: str = "Sigmoid") -> bytes:
    """y = 1 / (1 + exp(-(x w + b))), or another function in the place of the last one."""
    numbers = {"w": np.asarray(weights).reshape(-1, 1), "b": np.asarray([bias])}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Add", ["xw", "b"], ["z"]),
        helper.make_node(last, ["z"], ["y"]),
    ]
    return graph_model(nodes, len(weights), numbers, dtype)


def logistic_score(rows: Floats, weights: Sequence[float], bias: float = BIAS) -> Floats:
    """The same in numpy."""
    score: Floats = 1.0 / (1.0 + np.exp(-(rows @ np.asarray(weights) + bias)))
    return score


def canary_rows(features: int) -> Floats:
    """Four rows that differ."""
    return np.asarray([[0.1 * (row + 1) * (-1) ** (row + column) for column in range(features)] for row in range(4)])


def facts_of(spec: DataSpec, canary: Canary, **other: Any) -> ModelFacts:
    """Facts with everything in them that a test does not ask about."""
    told: dict[str, Any] = {
        "name": "gap-logistic",
        "version": "1",
        "description": "a logistic model of the tests, fitted to nothing",
        "data_spec_hash": spec.hash,
        "features": spec.names,
        "trained_until": date(2008, 9, 30),
        "metrics": {"brier": 0.25},
        "created_by": "the tests",
        "canary": canary,
    }
    return ModelFacts(**(told | other))


def logistic_package(
    spec: DataSpec = SPEC, weights: Sequence[float] = WEIGHTS, bias: float = BIAS, dtype: Precision = np.float32, **other: Any
) -> ModelPackage:
    """A sound package; its canary is computed in numpy."""
    rows = canary_rows(len(spec.features))
    scores = logistic_score(rows, weights, bias)
    canary = Canary(inputs=tuple(map(tuple, rows.tolist())), outputs=tuple(scores.tolist()))
    return sealed(facts_of(spec, canary, **other), logistic_model(weights, bias, dtype))


def with_external_data(model: bytes, *, marked: bool = True, named: bool = True, location: str = "numbers.bin") -> bytes:
    """The same model, whose numbers lie in another file; it is marked as such, or names the file, or both."""
    loaded = onnx.load_model_from_string(model)
    tensor = loaded.graph.initializer[0]
    tensor.ClearField("raw_data")
    if marked:
        tensor.data_location = TensorProto.EXTERNAL
    if named:
        tensor.external_data.add(key="location", value=location)
    return bytes(loaded.SerializeToString())


def with_external_data_in_a_branch(model: bytes) -> bytes:
    """The same, within a graph that is an attribute of a node."""
    inner = onnx.load_model_from_string(with_external_data(model)).graph
    outer = onnx.load_model_from_string(model)
    outer.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner))
    return bytes(outer.SerializeToString())


def with_custom_operator() -> bytes:
    """A model that asks for an operator of a shop."""
    return graph_model([helper.make_node("Discount", ["x"], ["y"], domain="shop")], len(SPEC.features), {})


def with_functions(model: bytes) -> bytes:
    """A model that brings a function along."""
    loaded = onnx.load_model_from_string(model)
    body = [helper.make_node("Identity", ["a"], ["b"])]
    loaded.functions.append(helper.make_function("shop", "Own", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    return bytes(loaded.SerializeToString())


def with_two_outputs(model: bytes) -> bytes:
    """A model that says more than one thing."""
    loaded = onnx.load_model_from_string(model)
    loaded.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["rows", 1]))
    return bytes(loaded.SerializeToString())


def abstaining_in_words(model: bytes) -> bytes:
    """A model that says in words whether it abstains."""
    loaded = onnx.load_model_from_string(model)
    loaded.graph.initializer.append(numpy_helper.from_array(np.asarray(["no"], dtype=object), "word"))
    loaded.graph.node.append(helper.make_node("Shape", ["y"], ["shape"]))
    loaded.graph.node.append(helper.make_node("Expand", ["word", "shape"], ["abstains"]))
    loaded.graph.output.append(helper.make_tensor_value_info("abstains", TensorProto.STRING, ["rows", 1]))
    return bytes(loaded.SerializeToString())


def of_whole_batches() -> bytes:
    """A model whose score of a row depends on the rows beside it."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["c"]),
        helper.make_node("ReduceSum", ["c", "one"], ["z"], keepdims=1),
        helper.make_node("Sigmoid", ["z"], ["y"]),
    ]
    model = onnx.load_model_from_string(graph_model(nodes, len(SPEC.features), {}))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([1], dtype=np.int64), "one"))
    return bytes(model.SerializeToString())


def endless_model(beyond: float) -> bytes:
    """The logistic model, which never comes to an end where a value of the rows is beyond that."""
    condition, carried = (
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("before", "after")],
    )
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["goes_on"]), helper.make_node("Identity", ["before"], ["after"])],
        "for ever",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []), condition, carried[0]],
        [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []), carried[1]],
    )
    numbers = {"w": np.asarray(WEIGHTS).reshape(-1, 1), "b": np.asarray([BIAS]), "beyond": np.asarray(beyond)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Add", ["xw", "b"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["s"]),
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "beyond"], ["odd"]),
        helper.make_node("Loop", ["", "odd", "s"], ["y"], body=body),
    ]
    return graph_model(nodes, len(WEIGHTS), numbers)


def endless_package(beyond: float, **other: Any) -> ModelPackage:
    """Its canary has no value beyond 100."""
    sound = logistic_package()
    return sealed(facts_of(SPEC, sound.manifest.canary, **other), endless_model(beyond))


def greedy_package(numbers_a_unit: float) -> ModelPackage:
    """The logistic model, which also asks for so many numbers for each unit of the largest value of its rows."""
    numbers = {"w": np.asarray(WEIGHTS).reshape(-1, 1), "b": np.asarray([BIAS]), "a_unit": np.asarray([numbers_a_unit])}
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "a_unit"], ["wanted"]),
        helper.make_node("Cast", ["wanted"], ["shape"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Add", ["xw", "b"], ["z"]),
        helper.make_node("Add", ["z", "nothing"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["y"]),
    ]
    return sealed(facts_of(SPEC, logistic_package().manifest.canary), graph_model(nodes, len(WEIGHTS), numbers))
