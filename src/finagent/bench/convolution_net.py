"""The net that `bench inference` serves: a causal convolution net of random numbers, as ONNX and as torch.

Layer norm over 100 features, 100 -> 64, four residual causal convolutions (kernel 3, dilation 1, 2, 4, 8: Bai, Kolter & Koltun
2018), the last of 32 steps, one score: 56,137 parameters. A row is the whole window, step by step. It predicts nothing.
"""

import importlib
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from finagent.adapters.models.package import Canary, ModelFacts, ModelPackage, sealed
from finagent.domain.bars import Floats
from finagent.domain.data_spec import AvailableAt, DataSpec, FeatureSpec, Group
from finagent.domain.errors import BadInput

FEATURES, STEPS, CHANNELS, KERNEL, DILATIONS = 100, 32, 64, 3, (1, 2, 4, 8)
EPSILON = 1e-5
COLUMNS = DataSpec(
    "a window of the bench",
    tuple(
        FeatureSpec(f"f{feature}_{step}", Group.RETURNS, "none", 1, 1, ("close",), AvailableAt.OPEN, "bench/convolution_net.py")
        for step in range(STEPS)
        for feature in range(FEATURES)
    ),
)
Single = npt.NDArray[np.float32]


def weights_of(number: int) -> dict[str, Single]:
    """The same for the same number; another number scores otherwise."""
    chance = np.random.Generator(np.random.Philox(key=number))

    def drawn(*shape: int, inputs: int) -> Single:
        values: Single = (chance.standard_normal(shape) / np.sqrt(inputs)).astype(np.float32)
        return values

    weights = {
        "scale": np.ones(FEATURES, dtype=np.float32),
        "shift": np.zeros(FEATURES, dtype=np.float32),
        "w_in": drawn(FEATURES, CHANNELS, inputs=FEATURES),
        "b_in": drawn(CHANNELS, inputs=FEATURES),
    }
    for dilation in DILATIONS:
        weights[f"w_{dilation}"] = drawn(CHANNELS, CHANNELS, KERNEL, inputs=CHANNELS * KERNEL)
        weights[f"b_{dilation}"] = drawn(CHANNELS, inputs=CHANNELS * KERNEL)
    return weights | {"w_out": drawn(CHANNELS, 1, inputs=CHANNELS), "b_out": drawn(1, inputs=CHANNELS)}


def rows_of(count: int) -> Floats:
    """Windows that differ, the same each time."""
    drawn: Floats = np.random.Generator(np.random.Philox(key=7)).standard_normal((count, FEATURES * STEPS))
    return drawn


def onnx_model(weights: dict[str, Single]) -> bytes:
    """The graph. Raises BadInput where the package that writes it is not installed."""
    try:
        helper, numpy_helper = importlib.import_module("onnx.helper"), importlib.import_module("onnx.numpy_helper")
    except ImportError as error:
        raise BadInput('bench inference writes its own model: pip install "finagent[bench]" brings onnx') from error
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "window"], ["steps"]),
        node("LayerNormalization", ["steps", "scale", "shift"], ["normal"], axis=-1, epsilon=EPSILON),
        node("MatMul", ["normal", "w_in"], ["mixed"]),
        node("Add", ["mixed", "b_in"], ["entered"]),
        node("Transpose", ["entered"], ["h0"], perm=[0, 2, 1]),
    ]
    for block, dilation in enumerate(DILATIONS):
        before, after = f"h{block}", f"h{block + 1}"
        causal = {"dilations": [dilation], "pads": [(KERNEL - 1) * dilation, 0], "kernel_shape": [KERNEL]}
        nodes += [
            node("Conv", [before, f"w_{dilation}", f"b_{dilation}"], [f"c{block}"], **causal),
            node("Relu", [f"c{block}"], [f"r{block}"]),
            node("Add", [before, f"r{block}"], [after]),
        ]
    nodes += [
        node("Gather", [f"h{len(DILATIONS)}", "last"], ["end"], axis=2),
        node("Gemm", ["end", "w_out", "b_out"], ["z"]),
        node("Sigmoid", ["z"], ["y"]),
    ]
    numbers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    numbers.append(numpy_helper.from_array(np.asarray([0, STEPS, FEATURES], dtype=np.int64), "window"))
    numbers.append(numpy_helper.from_array(np.asarray(STEPS - 1, dtype=np.int64), "last"))
    single = importlib.import_module("onnx").TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, single, ["rows", width]) for name, width in (("x", FEATURES * STEPS), ("y", 1))]
    graph = helper.make_graph(nodes, "bench", ends[:1], ends[1:], numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def unbatched_onnx(model: bytes) -> Callable[[Floats], Floats]:
    """ONNX Runtime alone, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def scores(rows: Floats) -> Floats:
        (found,) = session.run(None, {"x": rows.astype(np.float32)})
        return np.asarray(found, dtype=np.float64).reshape(-1)

    return scores


def unbatched_torch(weights: dict[str, Single]) -> Callable[[Floats], Floats]:
    """The same net in torch, on one thread, without gradients. Raises ImportError where torch is not installed."""
    torch: Any = importlib.import_module("torch")
    functional = torch.nn.functional
    torch.set_num_threads(1)
    numbers = {name: torch.from_numpy(value) for name, value in weights.items()}

    def scores(rows: Floats) -> Floats:
        with torch.inference_mode():
            window = torch.from_numpy(rows.astype(np.float32)).reshape(-1, STEPS, FEATURES)
            normal = functional.layer_norm(window, (FEATURES,), numbers["scale"], numbers["shift"], EPSILON)
            hidden = (normal @ numbers["w_in"] + numbers["b_in"]).transpose(1, 2)
            for dilation in DILATIONS:
                padded = functional.pad(hidden, ((KERNEL - 1) * dilation, 0))
                found = functional.conv1d(padded, numbers[f"w_{dilation}"], numbers[f"b_{dilation}"], dilation=dilation)
                hidden = hidden + functional.relu(found)
            ended = torch.sigmoid(hidden[:, :, -1] @ numbers["w_out"] + numbers["b_out"])
            return np.asarray(ended.numpy(), dtype=np.float64).reshape(-1)

    return scores


def package_of(number: int, model: bytes) -> ModelPackage:
    """The model as the registry takes it."""
    rows = rows_of(2)
    canary = Canary(inputs=tuple(map(tuple, rows.tolist())), outputs=tuple(unbatched_onnx(model)(rows).tolist()))
    facts = ModelFacts(
        name="bench-net",
        version=str(number),
        description="a causal convolution net of random numbers, to measure with",
        data_spec_hash=COLUMNS.hash,
        features=COLUMNS.names,
        trained_until=date(2000, 1, 1),
        metrics={},
        created_by="finagent bench inference",
        canary=canary,
    )
    return sealed(facts, model)
