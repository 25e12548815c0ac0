"""INT8 of graphs that ONNX Runtime's quantiser gets wrong by itself: factors, odd biases, shared weights, stacked weights, no names."""

import numpy as np
import onnx
import pytest
from e2e_graphs import graph_of, parity, random_samples, written
from e2e_small_model import FEATURES
from onnx import helper

from gpuserve_images.onnx_model.files import check
from gpuserve_images.optimise.kept import own_constants
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.saving import save
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.target import Target

CPU, GPU = Target("cpu"), Target("gpu")
ALL = CalibrateSpec.parse({"inputs": "samples", "keep_head": False, "method": "minmax"})
HEAD_KEPT = ALL.model_copy(update={"keep_head": True})
WAYS = {
    "cpu": lambda source, out, samples: quantise_static(source, out, samples, ALL, CPU),
    "gpu": lambda source, out, samples: quantise_static(source, out, samples, ALL, GPU),
    "dynamic": lambda source, out, _: quantise_dynamic(source, out),
}
INTEGER = ("MatMulInteger", "ConvInteger")
node, random = helper.make_node, np.random.default_rng(7)
SQUARE, ROW, OTHER = (
    random.normal(size=(FEATURES, FEATURES)),
    random.normal(size=FEATURES),
    random.normal(size=(FEATURES, FEATURES)),
)


@pytest.fixture
def samples():
    return random_samples()


def quantised(path) -> set[str]:
    """Names of the layers of a file that compute in INT8."""
    nodes = onnx.load(path).graph.node
    maker = {name: made.op_type for made in nodes for name in made.output}
    static = {made.name for made in nodes if [maker.get(name) for name in made.input[:2]] == ["DequantizeLinear"] * 2}
    return static | {made.name.removesuffix("_quant") for made in nodes if made.op_type in INTEGER}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.25}, {"beta": 3.0}, {"alpha": 0.5, "beta": 4.0}], ids=str)
@pytest.mark.parametrize(
    "bias", [ROW, ROW[:1], ROW[0], ROW.reshape(1, -1), ROW[:1].reshape(1, 1)], ids=lambda bias: str(np.shape(bias))
)
def test_factors_and_biases_of_gemm_stay(tmp_path, samples, way, factors, bias):
    model = graph_of([node("Gemm", ["x", "w", "c"], ["y"], name="gemm", **factors)], {"w": SQUARE, "c": bias})
    source, out = written(model, tmp_path), tmp_path / "int8.onnx"
    WAYS[way](source, out, samples)
    assert [name.split("_")[0] for name in quantised(out)] == ["gemm"]
    assert parity(source, out, samples).max_abs_error < 0.15
    check(out)


@pytest.mark.parametrize("way", WAYS)
def test_a_bias_that_cannot_be_scaled_ahead_leaves_its_layer_alone(tmp_path, samples, way):
    model = graph_of(
        [node("MatMul", ["x", "v"], ["c"], name="first"), node("Gemm", ["x", "w", "c"], ["y"], name="gemm", beta=0.5)],
        {"w": SQUARE, "v": OTHER},
    )
    source, out = written(model, tmp_path), tmp_path / "int8.onnx"
    WAYS[way](source, out, samples)
    assert quantised(out) == {"first"}
    assert parity(source, out, samples).max_abs_error < 0.15


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_that_is_read_both_ways_round_stays_right_for_both(tmp_path, samples, way):
    model = graph_of(
        [
            node("Gemm", ["x", "w"], ["a"], name="plain"),
            node("Gemm", ["x", "w"], ["b"], name="turned", transB=1),
            node("Sub", ["a", "b"], ["y"]),
        ],
        {"w": SQUARE * np.arange(1, FEATURES + 1)},
    )
    source, out = written(model, tmp_path), tmp_path / "int8.onnx"
    WAYS[way](source, out, samples)
    assert parity(source, out, samples).max_abs_error < 1.5


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("nodes", "weight"),
    [
        ([node("MatMul", ["a", "v"], ["y"], name="vector")], ROW),
        ([node("Unsqueeze", ["a", "axes"], ["u"]), node("MatMul", ["u", "v"], ["s"]), node("ReduceMax", ["s"], ["y"], axes=[1, 2], keepdims=0)], random.normal(size=(3, FEATURES, 4))),
    ],
    ids=["vector", "stack"],
)  # fmt: skip
def test_a_weight_without_channels_leaves_its_layer_alone(tmp_path, samples, way, nodes, weight):
    model = graph_of([node("MatMul", ["x", "w"], ["a"], name="first"), *nodes], {"w": SQUARE, "v": weight})
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 2]), "axes"))
    if nodes[0].name == "vector":
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"]))
    source, out = written(model, tmp_path), tmp_path / "int8.onnx"
    WAYS[way](source, out, samples)
    assert quantised(out) == {"first"}
    assert parity(source, out, samples).max_abs_error < 0.5


@pytest.mark.parametrize("names", [["", "", ""], ["l0", "", ""], ["l0", "l1", ""]], ids=str)
def test_the_head_is_kept_where_nodes_have_no_names(tmp_path, samples, names):
    weights = {"w": SQUARE / 4}
    layers = [
        node("MatMul", [made, "w"], [last], **({"name": name} if name else {}))
        for name, made, last in zip(names, ("x", "u", "v"), ("a", "b", "y"), strict=True)
    ]
    model = graph_of([layers[0], node("Tanh", ["a"], ["u"]), layers[1], node("Tanh", ["b"], ["v"]), layers[2]], weights)
    source, out = written(model, tmp_path), tmp_path / "int8.onnx"
    kept = quantise_static(source, out, samples, HEAD_KEPT, CPU).options["kept_in_fp32"]
    head = next(made for made in onnx.load(out).graph.node if "y" in made.output)
    assert (kept, head.op_type) == ([head.name], "MatMul")
    assert len(quantised(out)) == 2


@pytest.mark.parametrize("target", [CPU, GPU], ids=lambda target: target.kind)
@pytest.mark.parametrize("beside", [False, True])
def test_the_head_has_weights_and_a_bias_of_its_own(tmp_path, samples, target, beside, monkeypatch):
    # One layer applied again and again, as in recurrent and iterative models.
    times = {"x": "a", "a": "b", "b": "y"}
    nodes = [node("Gemm", [made, "w", "c"], [result], name=f"makes_{result}") for made, result in times.items()]
    source, out = written(graph_of(nodes, {"w": SQUARE / 8, "c": ROW}), tmp_path), tmp_path / "int8.onnx"
    if beside:
        monkeypatch.setitem(save.__kwdefaults__, "limit", 100)
        monkeypatch.setattr("gpuserve_images.optimise.saving.SMALL_TENSOR", 16)
        monkeypatch.setattr("gpuserve_images.optimise.preparing.INLINE_LIMIT", 100)
    record = quantise_static(source, out, samples, HEAD_KEPT, target)
    assert record.options["kept_in_fp32"] == ["makes_y"]
    assert record.notes[0].startswith("2 of 3 layers")
    assert quantised(out) == {"makes_a", "makes_b"}
    assert parity(source, out, samples).max_abs_error < 0.15
    check(out)


def test_constants_that_no_quantised_layer_reads_are_not_copied():
    nodes = [node("Gemm", ["x", "w", "c"], ["a"], name="one"), node("Gemm", ["a", "v", "d"], ["y"], name="two")]
    model = graph_of(nodes, {"w": SQUARE, "v": OTHER, "c": ROW, "d": ROW})
    assert not own_constants(model, {"two"})
    assert len(model.graph.initializer) == 4


@pytest.mark.parametrize("target", [CPU, GPU], ids=lambda target: target.kind)
@pytest.mark.parametrize("kind", ["Gemm", "Conv"])
@pytest.mark.parametrize("scale", [1e-9, 1e-20, 0])
def test_a_channel_that_training_left_without_weights_keeps_its_bias(tmp_path, target, kind, scale):
    # Quantised, its bias would need more than 32 bits in units of such weights.
    weight, bias = SQUARE.T / 4, ROW.copy()
    weight[1], bias[1] = weight[1] * scale, 7
    shape, factors = ((), {"transB": 1}) if kind == "Gemm" else ((1, 1), {})
    nodes = [
        node(kind, ["x", "w", "c"], ["a"], name="dead", **factors),
        node("Relu", ["a"], ["r"]),
        node(kind, ["r", "v", "d"], ["y"], **factors),
    ]
    weights = {"w": weight.reshape(*weight.shape, *shape), "v": SQUARE.reshape(*weight.shape, *shape), "c": bias, "d": ROW}
    model = graph_of(nodes, weights, shape=("n", FEATURES, *shape))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", None, *shape]))
    rows = [{"x": sample["x"].reshape(1, FEATURES, *shape)} for sample in random_samples()]
    source, out = written(model, tmp_path), tmp_path / "int8.onnx"
    quantise_static(source, out, rows, ALL, target)
    assert parity(source, out, rows).scaled_error < 0.05


@pytest.mark.parametrize("way", ["cpu", "dynamic"])
def test_layers_that_were_integers_before_do_not_count(tmp_path, samples, way):
    first = graph_of([node("MatMul", ["x", "w"], ["y"], name="first")], {"w": SQUARE})
    quantise_dynamic(written(first, tmp_path), tmp_path / "first.onnx")
    model = onnx.load(tmp_path / "first.onnx")
    model.graph.node.append(node("MatMul", ["y", "v"], ["z"], name="second"))
    model.graph.output[0].name = "z"
    model.graph.initializer.append(onnx.numpy_helper.from_array(OTHER.astype(np.float32), "v"))
    record = WAYS[way](written(model, tmp_path), tmp_path / "int8.onnx", samples)
    assert record.notes[0].startswith("1 of 1 layers ")
