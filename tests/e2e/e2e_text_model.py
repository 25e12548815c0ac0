"""A small model of texts, made in milliseconds: a table of words, their mean, four classes; batch and length are free."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORDS, WIDTH, CLASSES = 100, 16, 4


def write_text_model(path: Path) -> Path:
    """Write the model; its input is `tokens`, [batch, length] whole numbers below 100."""
    random = np.random.default_rng(0)
    weights = {"table": random.normal(size=(WORDS, WIDTH)), "head": random.normal(size=(WIDTH, CLASSES))}
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "tokens"], ["words"]),
            helper.make_node("ReduceMean", ["words"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["mean", "head"], ["scores"]),
        ],
        "text",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
