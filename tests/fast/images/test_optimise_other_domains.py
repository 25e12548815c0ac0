"""Precision of models with operators that ONNX knows no types of: those of ONNX Runtime, and `ai.onnx.ml` as scikit-learn gives it."""

import numpy as np
import onnx
import pytest
from e2e_graphs import graph_of, parity, random_samples, written
from e2e_small_model import FEATURES
from onnx import TensorProto, helper

from gpuserve_images.onnx_model.files import check
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.shapes import with_shapes
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.target import Target

ML, MICROSOFT = "ai.onnx.ml", "com.microsoft"
ALL = CalibrateSpec.parse({"inputs": "samples", "keep_head": False})
WAYS = {
    "fp16": lambda source, out, samples: to_fp16(source, out, samples=samples),
    "cpu": lambda source, out, samples: quantise_static(source, out, samples, ALL, Target("cpu")),
    "gpu": lambda source, out, samples: quantise_static(source, out, samples, ALL, Target("gpu")),
    "dynamic": lambda source, out, _: quantise_dynamic(source, out),
}
node, random = helper.make_node, np.random.default_rng(11)
SQUARE, HEAD = random.normal(size=(FEATURES, FEATURES)) / 4, random.normal(size=(FEATURES, 4)) / 4
FIRST = {
    "scaler": node("Scaler", ["x"], ["s"], domain=ML, name="first", offset=[0.1] * FEATURES, scale=[0.5] * FEATURES),
    "gelu": node("Gelu", ["x"], ["s"], domain=MICROSOFT, name="first"),
}


def behind(first: onnx.NodeProto) -> onnx.ModelProto:
    """Two layers that come after a node."""
    nodes = [
        first,
        node("MatMul", ["s", "w"], ["a"], name="dense"),
        node("Relu", ["a"], ["r"], name="relu"),
        node("MatMul", ["r", "h"], ["y"], name="head"),
    ]
    model = graph_of(nodes, {"w": SQUARE, "h": HEAD})
    model.opset_import.append(helper.make_opsetid(first.domain, 1))
    return model


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", FIRST)
def test_layers_behind_an_operator_that_onnx_does_not_know_get_the_precision_too(tmp_path, first, way):
    source, out, samples = written(behind(FIRST[first]), tmp_path), tmp_path / "out.onnx", random_samples()
    WAYS[way](source, out, samples)
    check(out)
    assert parity(source, out, samples).max_abs_error < (0.01 if way == "fp16" else 0.2)
    wanted = {TensorProto.FLOAT16} if way == "fp16" else {TensorProto.INT8}
    matrices = {weight.data_type for weight in onnx.load(out).graph.initializer if len(weight.dims) == 2}
    assert matrices == wanted


def test_what_is_no_tensor_or_known_already_is_left_to_onnx():
    nodes = [
        FIRST["scaler"],
        node("SplitToSequence", ["s", "one"], ["list"], axis=1),
        node("SequenceAt", ["list", "two"], ["y"]),
    ]
    model = graph_of(nodes, {})
    model.opset_import.append(helper.make_opsetid(ML, 1))
    for name, number in (("one", 1), ("two", 2)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [], [number]))
    found = {value.name: value.type for value in with_shapes(model).graph.value_info}
    assert found["s"].tensor_type.elem_type == TensorProto.FLOAT
    assert not found["s"].tensor_type.HasField("shape")
    assert "list" not in found or found["list"].WhichOneof("value") == "sequence_type"


def test_a_model_that_onnx_runtime_cannot_load_keeps_what_onnx_found():
    model = graph_of([FIRST["scaler"], node("Relu", ["s"], ["r"]), node("Missing", ["r"], ["y"], domain=ML)], {})
    model.opset_import.append(helper.make_opsetid(ML, 1))
    assert not with_shapes(model).graph.value_info


def test_operators_of_onnx_runtime_without_an_fp16_form_stay(tmp_path):
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="dense"),
        node("DynamicQuantizeMatMul", ["a", "v", "scale"], ["y"], name="rough", domain=MICROSOFT),
    ]
    model = graph_of(nodes, {"w": SQUARE, "scale": [0.01]})
    model.graph.initializer.append(onnx.numpy_helper.from_array((HEAD * 100).astype(np.int8), "v"))
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    source, out, samples = written(model, tmp_path), tmp_path / "out.onnx", random_samples()
    record = to_fp16(source, out, samples=samples)
    assert record.options["kept_in_fp32"] == {"rough": "DynamicQuantizeMatMul has no FP16 form"}
    assert parity(source, out, samples).max_abs_error < 0.1
