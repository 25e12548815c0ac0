"""A small classifier with real structure, made in milliseconds: two dense layers over eight numbers, four classes."""

from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

FEATURES, HIDDEN, CLASSES = 8, 32, 4


def classifier(seed: int = 0, *, batch: str | int = "batch") -> onnx.ModelProto:
    random = np.random.default_rng(seed)
    weights = {
        "w1": random.normal(size=(FEATURES, HIDDEN)),
        "b1": random.normal(size=HIDDEN),
        "w2": random.normal(size=(HIDDEN, CLASSES)),
        "b2": random.normal(size=CLASSES),
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["h1"], name="first"),
            helper.make_node("Add", ["h1", "b1"], ["h2"]),
            helper.make_node("Relu", ["h2"], ["h3"]),
            helper.make_node("Gemm", ["h3", "w2", "b2"], ["logits"], name="head"),
            helper.make_node("Softmax", ["logits"], ["scores"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_model_folder(folder: Path, *, samples: int = 96, **changes: object) -> Path:
    """Write model, samples and `small.yaml`; return the YAML's path. `changes` replace fields of the YAML."""
    (folder / "samples").mkdir(parents=True)
    onnx.save(classifier(), folder / "small.onnx")
    random = np.random.default_rng(1)
    for index in range(samples):
        np.savez(folder / "samples" / f"{index}.npz", x=random.normal(size=(1, FEATURES)).astype(np.float32))
    data = {
        "name": "small",
        "source": {"file": "small.onnx"},
        "builds": {
            "fp32": {"engine": "onnxruntime"},
            "int8": {"engine": "onnxruntime", "precision": "int8", "calibrate": "samples"},
        },
        "batch": {"max": 16},
        "verify": {"inputs": "samples", "top1_agreement": 0.9},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(data | changes), encoding="utf-8")
    return path
