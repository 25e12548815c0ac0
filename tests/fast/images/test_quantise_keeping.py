"""Layers that INT8 leaves in fp32 because `keep_fp32` names them."""

import numpy as np
import onnx
import pytest
from e2e_graphs import graph_of, random_samples, written
from e2e_small_model import FEATURES
from onnx import helper

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import SourceError
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.spec import BuildSpec
from gpuserve_images.target import Target

ALL = CalibrateSpec.parse({"inputs": "samples", "keep_head": False, "method": "minmax"})
WAYS = {
    "cpu": lambda source, out, keep: quantise_static(source, out, random_samples(), ALL, Target("cpu"), keep=keep),
    "gpu": lambda source, out, keep: quantise_static(source, out, random_samples(), ALL, Target("gpu"), keep=keep),
    "dynamic": lambda source, out, keep: quantise_dynamic(source, out, keep=keep),
}
node = helper.make_node


@pytest.fixture
def source(tmp_path):
    random = np.random.default_rng(7)
    square, other, third = (random.normal(size=(FEATURES, FEATURES)) / 4 for _ in range(3))
    nodes = [
        node("Gemm", ["x", "w", "c"], ["a"], name="gemm", transB=1),
        node("Tanh", ["a"], ["u"], name="bend"),
        node("MatMul", ["u", "o"], ["b"], name="product"),
        node("Add", ["b", "c"], ["d"], name="sum"),
        node("Tanh", ["d"], ["v"], name="bend_again"),
        node("MatMul", ["v", "l"], ["y"], name="last"),
    ]
    return written(graph_of(nodes, {"w": square, "o": other, "l": third, "c": random.normal(size=FEATURES)}), tmp_path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (["gemm"], ["gemm"]),
        # ONNX Runtime makes one Gemm of a MatMul and an Add: its old name holds, and its old operator.
        (["product"], ["product/MatMulAddFusion"]),
        (["product/MatMulAddFusion", "last"], ["product/MatMulAddFusion", "last"]),
        (["MatMul"], ["product/MatMulAddFusion", "last"]),
        (["Gemm"], ["gemm", "product/MatMulAddFusion"]),
    ],
    ids=str,
)
def test_layers_are_kept_by_name_and_by_operator(tmp_path, source, way, keep, kept):
    out = tmp_path / "int8.onnx"
    record = WAYS[way](source, out, keep)
    assert record.options["kept_in_fp32"] == kept
    assert record.notes[0].startswith(f"{3 - len(kept)} of 3 layers")
    weights = [tensor for tensor in onnx.load(out).graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert sum(len(tensor.dims) == 2 for tensor in weights) == len(kept)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (
            "bend",
            r"keep_fp32 \(bend\): is none of the operators that INT8 takes .* others stay in fp32 anyway.*'Gemm', 'MatMul'",
        ),
        ("gem", r"keep_fp32 \(gem\): is none of the operators"),
    ],
)
def test_what_is_no_layer_is_refused(tmp_path, source, way, keep, words):
    with pytest.raises(SourceError, match=words):
        WAYS[way](source, tmp_path / "int8.onnx", [keep])


@pytest.mark.parametrize("way", WAYS)
def test_a_build_of_which_nothing_is_left_is_refused(tmp_path, source, way):
    with pytest.raises(SourceError, match=r"it is named in keep_fp32 \(3\)\. Fix: Name fewer in `keep_fp32:`"):
        WAYS[way](source, tmp_path / "int8.onnx", ["Gemm", "MatMul"])


def test_builds_that_are_fp32_anyway_keep_nothing():
    BuildSpec.parse({"engine": "onnxruntime", "precision": "int8-dynamic", "keep_fp32": ["MatMul"]})
    with pytest.raises(SpecError, match=r"fp32 throughout\. Fix: remove `keep_fp32:`, or write another `precision:`"):
        BuildSpec.parse({"engine": "onnxruntime", "keep_fp32": ["MatMul"]})
