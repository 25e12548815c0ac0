"""Optimising for GPUs: the types of a model stay as they are, and TensorRT takes the result where it took the source."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from e2e_graphs import graph_of, parity, written
from e2e_small_model import FEATURES, classifier
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.compile import tensorrt
from gpuserve_images.compile.builders import rtx_module
from gpuserve_images.compile.parsing import require_accepted
from gpuserve_images.compile.spec import CompileSpec
from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.files import check
from gpuserve_images.optimise.graph import optimise
from gpuserve_images.optimise.half import to_fp16

node, random = helper.make_node, np.random.default_rng(2)
WEIGHT = random.normal(size=(FEATURES, FEATURES))


def operators(path) -> Counter[str]:
    return Counter(made.op_type for made in onnx.load(path).graph.node)


def quantised_already() -> onnx.ModelProto:
    """A convolution in Q/DQ as trainers write it: weight and activations INT8, the bias FP32."""
    q, dq = "QuantizeLinear", "DequantizeLinear"
    model = graph_of(
        [
            node(q, ["x", "s", "z"], ["xq"]),
            node(dq, ["xq", "s", "z"], ["xd"]),
            node(q, ["w", "ws", "wz"], ["wq"], axis=0),
            node(dq, ["wq", "ws", "wz"], ["wd"], axis=0),
            node("Conv", ["xd", "wd", "b"], ["c"]),
            node("Relu", ["c"], ["r"]),
            node(q, ["r", "s", "z"], ["rq"]),
            node(dq, ["rq", "s", "z"], ["rd"]),
            node("Flatten", ["rd"], ["y"]),
        ],
        {"w": random.normal(size=(4, 3, 3, 3)), "b": np.arange(4), "s": 0.05, "ws": np.full(4, 0.02)},
        shape=("n", 3, 8, 8),
    )
    zeros = {"z": np.int8(0), "wz": np.zeros(4, np.int8)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in zeros.items())
    return model


def in_half() -> onnx.ModelProto:
    """Layers that compute in FP16, inputs and outputs too, with something to fold."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Identity", ["a"], ["same"]),
        node("Relu", ["same"], ["b"]),
        node("MatMul", ["b", "w"], ["y"]),
    ]
    model = graph_of(nodes, {"w": WEIGHT})
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHT.astype(np.float16), "w"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


@pytest.mark.parametrize("level", ["none", "basic"])
def test_a_model_in_int8_is_taken_by_tensorrt_after_it_as_before_it(tmp_path, level):
    source, out = written(quantised_already(), tmp_path), tmp_path / "out.onnx"
    require_accepted(rtx_module(), source)
    images = [{"x": random.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(8)]
    optimise(source, out, level)
    require_accepted(rtx_module(), out)
    assert parity(source, out, images).max_abs_error < 0.06  # one step of its output


def test_a_model_in_fp16_stays_so_on_gpus_and_its_record_says_why(tmp_path):
    source, out = written(in_half(), tmp_path), tmp_path / "out.onnx"
    record = optimise(source, out, "basic", gpu=True)
    assert operators(out) == operators(source)
    assert {value.type.tensor_type.elem_type for value in onnx.load(out).graph.value_info} == {TensorProto.FLOAT16}
    assert len(record.notes) == 2
    assert "left as it was, because ONNX Runtime would move 3 tensors of it from FP16 to FP32" in record.notes[1]
    require_accepted(rtx_module(), out)
    check(out)


def test_a_model_in_fp32_is_optimised_for_gpus_without_further_words(tmp_path):
    source, out = written(classifier(), tmp_path), tmp_path / "out.onnx"
    assert len(optimise(source, out, "basic", gpu=True).notes) == 1


def test_what_tensorrt_would_refuse_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("gpuserve_images.onnx_model.session.HARMFUL", ())
    source, out = written(quantised_already(), tmp_path), tmp_path / "out.onnx"
    record = optimise(source, out, "basic", gpu=True)
    assert "left as it was, because TensorRT would refuse it otherwise: was accepted by TensorRT before" in record.notes[1]
    assert operators(out) == operators(source)
    require_accepted(rtx_module(), out)


def test_the_two_ways_out_of_a_wrong_precision_do_not_name_each_other(tmp_path):
    half = written(in_half(), tmp_path)
    with pytest.raises(SourceError, match="Write `precision: fp32`, which leaves the types of a model as they are"):
        to_fp16(half, tmp_path / "out.onnx")
    logger = SimpleNamespace(last="FP32 convolutions are not supported on this GPU")
    module = SimpleNamespace(__name__="tensorrt_rtx", __version__="1")
    for model, fix in (
        (in_half(), "Part of it is FP16 already: export the rest in FP16 too"),
        (classifier(), "Write `precision: fp16`"),
    ):
        error = tensorrt._failed(module, written(model, tmp_path), "sm_75", CompileSpec(), logger)
        assert error.fix.startswith(fix)
