"""FP16 of graphs that the converter breaks by itself, and weights that are sparse."""

import numpy as np
import onnx
import pytest
from e2e_graphs import graph_of, parity, random_samples, written
from e2e_small_model import FEATURES
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.compile.builders import rtx_module
from gpuserve_images.compile.parsing import require_accepted
from gpuserve_images.onnx_model.files import check
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.optimise.graph import optimise
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.target import Target

STATIC = CalibrateSpec.parse({"inputs": "samples"})
node, random = helper.make_node, np.random.default_rng(4)
SQUARE = random.normal(size=(FEATURES, FEATURES))


@pytest.fixture
def samples():
    return random_samples()


@pytest.mark.parametrize("passed", ["x", "w"])
@pytest.mark.parametrize("before", [False, True])
def test_an_output_that_no_node_makes_stays_one(tmp_path, samples, passed, before):
    outputs = (passed, "y") if before else ("y", passed)
    model = graph_of([node("MatMul", ["x", "w"], ["y"])], {"w": SQUARE}, outputs=outputs)
    if passed == "w":
        given = next(given for given in model.graph.output if given.name == "w")
        given.CopyFrom(helper.make_tensor_value_info("w", TensorProto.FLOAT, SQUARE.shape))
    source, out = written(model, tmp_path), tmp_path / "fp16.onnx"
    to_fp16(source, out, samples=samples)
    check(out)
    assert [given.name for given in onnx.load(out).graph.output] == list(outputs)
    want, got = (Session(file).run(samples[0]) for file in (source, out))
    assert 0 < np.abs(want["y"] - got["y"]).max() < 0.02
    assert np.allclose(want[passed], got[passed], rtol=2e-3)


@pytest.mark.parametrize(
    ("nodes", "kept"),
    [
        ([node("Celu", ["a"], ["b"], name="odd")], {"odd": "Celu has no FP16 form"}),
        (
            [node("QuantizeLinear", ["a", "s", "z"], ["q"], name="down"), node("DequantizeLinear", ["q", "s", "z"], ["b"], name="up")],
            {"down": "QuantizeLinear has no FP16 form", "up": "DequantizeLinear has no FP16 form"},
        ),
        ([node("LayerNormalization", ["a", "g"], ["b"], name="normal")], {}),
        ([node("Max", ["a", "s"], ["b"], name="in the converter's own list")], {}),
    ],
    ids=["celu", "qdq", "layer-norm", "max"],
)  # fmt: skip
def test_operators_without_an_fp16_form_stay_in_fp32(tmp_path, samples, nodes, kept):
    weights = {"w": SQUARE, "s": 0.1, "g": np.ones(FEATURES)}
    model = graph_of([node("MatMul", ["x", "w"], ["a"]), *nodes, node("MatMul", ["b", "w"], ["y"])], weights)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(np.int8(0)), "z"))
    source, out = written(model, tmp_path), tmp_path / "fp16.onnx"
    assert to_fp16(source, out, samples=samples).options["kept_in_fp32"] == kept
    check(out)
    assert parity(source, out, samples).cosine > 0.999


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(
    "stage",
    [
        lambda source, out, samples: optimise(source, out, "none"),
        lambda source, out, samples: optimise(source, out, "basic"),
        lambda source, out, samples: to_fp16(source, out, samples=samples),
        lambda source, out, samples: quantise_static(source, out, samples, STATIC, Target("gpu")),
    ],
    ids=["none", "basic", "fp16", "int8"],
)
def test_sparse_weights_are_written_out(tmp_path, samples, stage, flat):
    model = graph_of([node("MatMul", ["x", "few"], ["a"]), node("MatMul", ["a", "w"], ["y"])], {"w": SQUARE})
    places = np.array([0, 9, 63]) if flat else np.array([[0, 0], [1, 1], [7, 7]])
    values = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "few")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(places, "places"), SQUARE.shape)
    )
    source, out = written(model, tmp_path), tmp_path / "out.onnx"
    stage(source, out, samples)
    check(out)
    assert not onnx.load(out).graph.sparse_initializer
    require_accepted(rtx_module(), out)
    assert parity(source, out, samples).cosine > 0.99


def test_sparse_weights_are_quantised_dynamically(tmp_path, samples):
    model = graph_of([node("MatMul", ["x", "few"], ["y"])], {})
    values = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "few")
    places = numpy_helper.from_array(np.array([0, 9, 63]), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, SQUARE.shape))
    source, out = written(model, tmp_path), tmp_path / "out.onnx"
    assert quantise_dynamic(source, out).notes == ("1 of 1 layers (Conv, Gemm, MatMul) are INT8",)
    assert parity(source, out, samples).cosine > 0.99
