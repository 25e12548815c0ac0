"""Shapes of models that are too large for one message: found without the large weights, and the same."""

import numpy as np
import onnx
import pytest
from e2e_graphs import graph_of, random_samples, written
from e2e_small_model import FEATURES, classifier
from onnx import helper

from gpuserve_images.optimise.graph import optimise
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.shapes import inferred, with_shapes

SQUARE = np.random.default_rng(3).normal(size=(FEATURES, FEATURES))
TEXTS = {
    "a shape that is a weight": "<float[8,16] w = {0}, int64[3] s = {{0,2,8}}> {{a = MatMul(x, w) b = MatMul(a, v) r = Reshape(b, s) y = Relu(r)}}",
    "a branch": "<float[8,16] w = {0}> {{c = Constant<value_float=1.0>() b = Cast<to=9>(c) "
    "y = If(b) <then_branch = yes () => (float[n,m] z) {{p = MatMul(x, w) z = MatMul(p, v)}},"
    " else_branch = no () => (float[n,m] z) {{z = Identity(x)}}>}}",
    "an output without a shape": "<float[8,16] w = {0}> {{a = MatMul(x, w) y = MatMul(a, v)}}",
}


def parsed(text: str) -> onnx.ModelProto:
    numbers = f"{{{','.join(map(str, range(128)))}}}"
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> g (float[n,8] x) => (float[a,b] y) {text.format(numbers)}'
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((16, 8), np.float32), "v"))
    if "Reshape" in text:
        model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def scaled() -> onnx.ModelProto:
    """ONNX finds no types behind a scaler, ONNX Runtime does."""
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[1.0] * FEATURES, scale=[2.0] * FEATURES),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    model = graph_of(nodes, {"w": SQUARE})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return model


MODELS = {name: lambda text=text: parsed(text) for name, text in TEXTS.items()} | {
    "a scaler": scaled,
    "a classifier": classifier,
}


@pytest.fixture
def large(monkeypatch):
    """Every model counts as too large from here on."""

    def on():
        monkeypatch.setattr("gpuserve_images.optimise.shapes.INLINE_LIMIT", 0)
        monkeypatch.setattr("gpuserve_images.optimise.shapes.READ_BY_INFERENCE", 64)

    return on


@pytest.mark.parametrize("name", MODELS)
def test_a_large_model_gets_the_same_shapes(name, large):
    model, again = MODELS[name](), MODELS[name]()
    wanted = with_shapes(model)
    assert wanted.graph.value_info or any(node.op_type == "If" for node in wanted.graph.node)
    large()
    assert len(inferred(again).graph.initializer) < len(again.graph.initializer)
    assert with_shapes(again) == wanted


@pytest.mark.parametrize("name", ["a scaler", "a classifier"])
def test_fp16_of_a_large_model_is_the_same(tmp_path, name, large):
    source, samples = written(MODELS[name](), tmp_path), random_samples()
    optimise(source, tmp_path / "small.onnx", "basic")
    kept = to_fp16(tmp_path / "small.onnx", tmp_path / "small16.onnx", samples=samples).options
    large()
    optimise(source, tmp_path / "large.onnx", "basic")
    assert to_fp16(tmp_path / "large.onnx", tmp_path / "large16.onnx", samples=samples).options == kept
    assert (tmp_path / "large16.onnx").read_bytes() == (tmp_path / "small16.onnx").read_bytes()
