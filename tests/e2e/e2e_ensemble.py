"""An ensemble of the file-type model and a small one that reads what it says."""

from pathlib import Path

import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ENSEMBLE = "whole"
_LABELS, _RANKS = 214, 4


def write_ensemble(models: Path) -> NDArray[np.float32]:
    """Make `filetype.yaml` an ensemble with a model `rank` beside it, and return the matrix by which `rank` makes `answer` of `seen`."""
    weights = np.random.default_rng(5).normal(size=(_LABELS, _RANKS)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["likely", "weights"], ["ranks"])],
        "rank",
        [helper.make_tensor_value_info("likely", TensorProto.FLOAT, ["batch", _LABELS])],
        [helper.make_tensor_value_info("ranks", TensorProto.FLOAT, ["batch", _RANKS])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), models / "rank.onnx")
    rank = {"name": "rank", "source": {"file": "rank.onnx"}, "builds": {"fp32": {"engine": "onnxruntime"}}}
    (models / "rank.yaml").write_text(yaml.safe_dump(rank))
    path = models / "filetype.yaml"
    steps = [
        {"model": "filetype", "inputs": {"bytes": "raw"}, "outputs": {"target_label": "seen"}},
        {"model": "rank", "build": "fp32", "inputs": {"likely": "seen"}, "outputs": {"ranks": "answer"}},
    ]
    ensemble = {"name": ENSEMBLE, "inputs": ["raw"], "outputs": ["seen", "answer"], "steps": steps}
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "layout": {"ensemble": ensemble}}))
    return weights
