"""INT8 of convolutions: with measured ranges only, as ranges found anew for each request make them slower than FP32."""

import numpy as np
import onnx
import pytest
import yaml
from e2e_graphs import graph_of, parity, random_samples, written
from e2e_small_model import FEATURES, write_model_folder
from onnx import helper

from gpuserve_images.errors import SourceError
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.pipeline.build import build
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target
from gpuserve_images.verify.differences import ParityError

node, random = helper.make_node, np.random.default_rng(7)
CONVOLUTION = [
    node("Unsqueeze", ["x", "axis"], ["wide"]),
    node("Conv", ["wide", "kernel"], ["narrow"], name="convolution", pads=[1, 1]),
    node("Squeeze", ["narrow", "axis"], ["y"]),
]
KERNEL = {"kernel": random.normal(size=(1, 1, 3))}


def model_of(nodes, weights) -> onnx.ModelProto:
    model = graph_of(nodes, weights)
    model.graph.initializer.append(helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [1]))
    return model


@pytest.fixture
def samples():
    return random_samples()


def test_beside_matrix_products_they_stay_in_fp32(tmp_path, samples):
    nodes = [*CONVOLUTION[:2], node("Squeeze", ["narrow", "axis"], ["z"]), node("MatMul", ["z", "w"], ["y"])]
    source = written(model_of(nodes, KERNEL | {"w": random.normal(size=(FEATURES, FEATURES))}), tmp_path)
    record = quantise_dynamic(source, tmp_path / "out.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node].count("MatMulInteger") == 1
    assert "Conv" in {node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node}
    (note,) = record.notes
    assert note.startswith(
        "1 of 2 layers (Conv, Gemm, MatMul) are INT8; convolution is not: a convolution whose range is found anew"
    )
    assert parity(source, tmp_path / "out.onnx", samples).max_abs_error < 0.2


def test_alone_they_are_refused_with_what_to_write(tmp_path, samples):
    source = written(model_of(CONVOLUTION, KERNEL), tmp_path)
    with pytest.raises(SourceError, match=r"for each request is slower than in FP32 \(1\)\. Fix: Write `precision: int8` with"):
        quantise_dynamic(source, tmp_path / "out.onnx")
    spec = CalibrateSpec.parse({"inputs": "samples", "keep_head": False})
    quantise_static(source, tmp_path / "out.onnx", samples, spec, Target("cpu"))


def test_where_ranges_miss_the_bar_and_nothing_else_is_left_both_are_said(tmp_path, registry):
    folder = write_model_folder(tmp_path / "model").parent
    onnx.save(model_of(CONVOLUTION, KERNEL), folder / "small.onnx")
    calibrate = {"inputs": "samples", "method": "percentile", "percentile": 50.1, "keep_head": False}
    said = yaml.safe_load((folder / "small.yaml").read_text()) | {
        "builds": {"int8": {"engine": "onnxruntime", "precision": "int8", "calibrate": calibrate}},
        "verify": {"inputs": "samples", "max_abs_error": 1e-3},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(said))
    model = load_model(folder / "small.yaml")
    with pytest.raises(
        ParityError, match=r"static INT8: max_abs_error is .*, the bar is 0.001; dynamic INT8: would be an INT8 build"
    ):
        build(model, "int8", folder=folder, registry=f"{registry.host}/mine", cache=tmp_path / "cache")


def test_ranges_are_measured_without_a_word(tmp_path, samples, capfd):
    model = model_of(CONVOLUTION, KERNEL)
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1  # not what it answers, of which ONNX Runtime warns
    to_fp16(written(model, tmp_path), tmp_path / "out.onnx", samples=samples, batched=True)
    assert capfd.readouterr() == ("", "")
