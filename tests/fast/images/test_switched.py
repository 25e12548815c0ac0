"""A model in two precisions in one graph: with all switches on it answers as the lowered model, with all off as the source."""

import numpy as np
import onnx
import pytest
from e2e_graphs import graph_of, random_samples, written
from e2e_small_model import FEATURES
from onnx import helper

from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.optimise.half import prepared as prepared_for_fp16
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.preparing import prepared
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.saving import put_back
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.optimise.switched import SwitchedRunner
from gpuserve_images.optimise.switched_fp16 import with_fp16
from gpuserve_images.optimise.switched_int8 import with_int8
from gpuserve_images.target import Target

ALL = CalibrateSpec.parse({"inputs": "samples", "keep_head": False, "method": "minmax"})
node, random = helper.make_node, np.random.default_rng(7)
SQUARE, OTHER, ROW = (random.normal(size=size) / 4 for size in ((FEATURES, FEATURES), (FEATURES, FEATURES), FEATURES))
LAYERS = ("first", "second", "third")
WAYS = ("cpu", "gpu", "dynamic")


@pytest.fixture
def source(tmp_path):
    """Three layers, of which one reads what another makes and what a third reads too, and one shares its weight."""
    nodes = [
        node("Gemm", ["x", "w", "c"], ["a"], name="first", transB=1),
        node("Relu", ["a"], ["u"], name="relu"),
        node("MatMul", ["u", "o"], ["b"], name="second"),
        node("Gemm", ["u", "w", "c"], ["d"], name="third", transB=1),
        node("Mul", ["b", "d"], ["y"], name="product"),
    ]
    return written(graph_of(nodes, {"w": SQUARE, "o": OTHER, "c": ROW}), tmp_path)


def lowered(source, out, way, keep=()):
    """Write the model as INT8."""
    if way == "dynamic":
        quantise_dynamic(source, out, keep=keep)
    else:
        quantise_static(source, out, random_samples(), ALL, Target(way), keep=keep)
    return out


def both(source, low, way, keep=()):
    out = low.with_name("both.onnx")
    with prepared(source, out, keep=keep, dynamic=way == "dynamic") as ready:
        return with_int8(onnx.load(ready.file), onnx.load(low), out, ready.left)


def answers(runner):
    return np.concatenate([runner.run(sample)["y"] for sample in random_samples()])


def distance(got, want):
    """The kernels of the two round otherwise, and by a whole step of INT8 here and there."""
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.parametrize("way", WAYS)
def test_layers_are_int8_but_for_those_that_are_kept(source, tmp_path, way):
    switched = both(source, lowered(source, tmp_path / "low.onnx", way), way)
    runner = SwitchedRunner(switched, read_signature(source))
    assert switched.layers == tuple(sorted(LAYERS))
    plain = answers(Session(source))
    np.testing.assert_allclose(answers(runner.but(LAYERS)), plain, atol=1e-5)
    for keep in [(), ("first",), ("second", "third")]:
        wanted = answers(Session(lowered(source, tmp_path / "kept.onnx", way, keep)))
        assert distance(wanted, plain) > 1e-3
        assert distance(answers(runner.but(keep)), wanted) < distance(wanted, plain) / 4


@pytest.mark.parametrize("way", WAYS)
def test_layers_that_are_kept_anyway_have_no_switch(source, tmp_path, way):
    low = lowered(source, tmp_path / "low.onnx", way, ["Gemm"])
    switched = both(source, low, way, ["Gemm"])
    assert switched.layers == ("second",)
    runner = SwitchedRunner(switched, read_signature(source))
    assert (
        distance(answers(runner.but(())), answers(Session(low))) < distance(answers(Session(low)), answers(Session(source))) / 4
    )


def test_nodes_round_to_fp16_but_for_those_that_are_kept(source, tmp_path):
    plain, outputs = prepared_for_fp16(source)
    put_back(plain, outputs)
    switched = with_fp16(plain, tmp_path / "both.onnx", ("product",))
    assert switched.layers == ("first", "relu", "second", "third")
    runner = SwitchedRunner(switched, read_signature(source))
    exact = answers(Session(source))
    np.testing.assert_allclose(answers(runner.but(switched.layers)), exact, atol=1e-5)

    def half(array):
        return array.astype(np.float16).astype(np.float32)

    x = np.concatenate([sample["x"] for sample in random_samples()])
    w, o, c = (half(array.astype(np.float32)) for array in (SQUARE, OTHER, ROW))
    u = half(np.maximum(half(half(x) @ w.T + c), 0))
    np.testing.assert_allclose(answers(runner.but(())), half(u @ o) * half(u @ w.T + c), atol=5e-3)
    assert np.abs(answers(runner.but(())) - exact).max() > 1e-4


def test_outputs_that_are_inputs_stay(tmp_path):
    graph = graph_of([node("MatMul", ["x", "w"], ["y"], name="first")], {"w": SQUARE})
    graph.graph.output.append(graph.graph.input[0])
    source, low = written(graph, tmp_path), tmp_path / "low.onnx"
    to_fp16(source, low)
    plain, outputs = prepared_for_fp16(source)
    put_back(plain, outputs)
    runner = SwitchedRunner(with_fp16(plain, tmp_path / "both.onnx", ()), read_signature(source))
    assert runner.outputs == Session(low).outputs == ["y", "x"]
    quantise_dynamic(source, low)
    assert SwitchedRunner(both(source, low, "dynamic"), read_signature(source)).outputs == ["y", "x"]
