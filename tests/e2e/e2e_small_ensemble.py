"""The small classifier as an ensemble: a model `prepare` before it halves what the request brings."""

from pathlib import Path

import onnx
import yaml
from e2e_small_model import FEATURES
from onnx import TensorProto, helper

ENSEMBLE = {
    "name": "whole",
    "inputs": ["raw"],
    "outputs": ["answer"],
    "steps": [
        {"model": "prepare", "build": "fp32", "inputs": {"x": "raw"}, "outputs": {"y": "ready"}},
        {"model": "small", "inputs": {"x": "ready"}, "outputs": {"scores": "answer"}},
    ],
}


def halving(width: int = FEATURES) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["half"], value_float=0.5), helper.make_node("Mul", ["x", "half"], ["y"])],
        "halving",
        [value("x", TensorProto.FLOAT, ["batch", width])],
        [value("y", TensorProto.FLOAT, ["batch", width])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_prepare(folder: Path, model: onnx.ModelProto | None = None, **changes: object) -> None:
    """Write the model `prepare` and its YAML, of which `changes` replace fields."""
    onnx.save(model or halving(), folder / "prepare.onnx")
    data = {"name": "prepare", "source": {"file": "prepare.onnx"}, "builds": {"fp32": {"engine": "onnxruntime"}}}
    (folder / "prepare.yaml").write_text(yaml.safe_dump(data | changes), encoding="utf-8")
