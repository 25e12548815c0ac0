"""Small graphs of one's own, as ONNX files, and how what is made of them is compared with them."""

import numpy as np
import onnx
from e2e_small_model import FEATURES
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.verify.parity import measure, reference_outputs

FLOAT = TensorProto.FLOAT


def graph_of(nodes, weights, *, outputs=("y",), inputs=("x",), shape=("n", FEATURES)) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value(name, FLOAT, list(shape)) for name in inputs],
        [value(name, FLOAT, ["n", None]) for name in outputs],
        [numpy_helper.from_array(np.asarray(array, dtype=np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def branching() -> onnx.ModelProto:
    """Return a model that multiplies `x` by a 3x3 matrix where `rate` is not 16000, within a branch."""
    weights = helper.make_tensor("weights", FLOAT, [3, 3], [1.0] * 9)
    result = [helper.make_tensor_value_info("scores", FLOAT, ["n", "k"])]
    same = helper.make_graph([helper.make_node("Identity", ["x"], ["scores"], "pass")], "same", [], result)
    other = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["scores"], "project")], "other", [], result, [weights]
    )
    known = helper.make_tensor("known", TensorProto.INT64, [], [16000])
    nodes = [
        helper.make_node("Equal", ["rate", "known"], ["equal"]),
        helper.make_node("If", ["equal"], ["scores"], "choose", then_branch=same, else_branch=other),
    ]
    inputs = [
        helper.make_tensor_value_info("x", FLOAT, ["n", "m"]),
        helper.make_tensor_value_info("rate", TensorProto.INT64, []),
    ]
    graph = helper.make_graph(nodes, "graph", inputs, result, [known])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def written(model, tmp_path, name="source.onnx"):
    onnx.save(model, tmp_path / name)
    return tmp_path / name


def parity(source, built, samples):
    return measure(built, reference_outputs(source, samples, (1, 8)), samples)


def random_samples(count=40):
    """Return requests of one row for `graph_of`'s default shape."""
    random = np.random.default_rng(3)
    return [{"x": random.normal(size=(1, FEATURES)).astype(np.float32)} for _ in range(count)]
