"""A model whose rows depend on each other is refused; one that rounds otherwise in a batch is not."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.verify.apart import Mixed, mixed_rows
from gpuserve_images.verify.parity import ParityError, reference_outputs

RANDOM = np.random.default_rng(5)
SAMPLES = [{"x": RANDOM.uniform(-1, 1, size=(1, 3)).astype(np.float32)} for _ in range(20)]
SIZES = (1, 8, 20)


UNSHARED = {
    "several rows each": [
        helper.make_node("Constant", [], ["to"], value_ints=[-1]),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ],
    "one row of all": [helper.make_node("ReduceMax", ["x"], ["y"], axes=[0], keepdims=1)],
    "as many rows as there are values": [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("NonZero", ["positive"], ["places"]),
        helper.make_node("Transpose", ["places"], ["y"]),
    ],
}
"""Models whose free first axis of the output is not that of the input."""


def model(folder, nodes, kind=TensorProto.FLOAT, shape=("n", 3), constants=()):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "rows", [value("x", TensorProto.FLOAT, ["n", 3])], [value("y", kind, list(shape))], list(constants)
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "rows.onnx")
    return folder / "rows.onnx"


MIXING = {
    "from their middle": [
        helper.make_node("ReduceMean", ["x"], ["middle"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "middle"], ["y"]),
    ],
    "shares of all": [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
    "a running sum": [
        helper.make_node("Constant", [], ["axis"], value_int=0),
        helper.make_node("CumSum", ["x", "axis"], ["y"]),
    ],
    "by chance": [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["y"]),
    ],
}


@pytest.mark.parametrize("nodes", MIXING.values(), ids=MIXING)
def test_rows_that_follow_from_others_are_refused(tmp_path, nodes):
    words = r"source model, output y: answers \d+ of 20 samples otherwise in a batch of \d+ than in one of 1, .*`batch: none`"
    with pytest.raises(ParityError, match=words):
        reference_outputs(model(tmp_path, nodes), SAMPLES, SIZES)


def test_so_are_labels(tmp_path):
    nodes = [*MIXING["a running sum"][:1], helper.make_node("CumSum", ["x", "axis"], ["sums"])]
    nodes += [helper.make_node("Cast", ["wide"], ["y"], to=TensorProto.INT64)]
    nodes.insert(2, helper.make_node("Mul", ["sums", "hundred"], ["wide"]))
    hundred = numpy_helper.from_array(np.array(100, np.float32), "hundred")
    with pytest.raises(ParityError, match="rows depend on each other"):
        reference_outputs(model(tmp_path, nodes, TensorProto.INT64, constants=[hundred]), SAMPLES, SIZES)


@pytest.mark.parametrize("kind", [np.int64, np.uint16])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_labels_whose_numbers_are_near_each_other_are_other_answers(kind, shape):
    labels = np.arange(1000, 1008, dtype=kind).reshape(shape)
    assert mixed_rows({1: {"label": labels}, 8: {"label": labels + 1}}) == Mixed("label", (1, 8), 8)
    assert mixed_rows({1: {"label": labels}, 8: {"label": labels.copy()}}) is None


def test_a_range_that_quantisation_takes_from_the_whole_batch_is_no_mixing(tmp_path):
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    reference = reference_outputs(model(tmp_path, nodes), SAMPLES, SIZES)
    assert not np.array_equal(reference[1]["y"], reference[8]["y"])


def test_one_request_at_a_time_is_never_mixed(tmp_path):
    assert set(reference_outputs(model(tmp_path, MIXING["shares of all"]), SAMPLES, (1,))) == {1}


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.bool_, np.float32, object])
def test_a_few_points_of_each_mask_may_change_with_rounding(kind):
    masks = RANDOM.integers(0, 2, size=(8, 50, 50))
    changed = masks.copy()
    changed[:, 3, :5] = 1 - changed[:, 3, :5]
    first, second = (
        values.astype(str).astype(object) if kind is object else values.astype(kind) for values in (masks, changed)
    )
    assert mixed_rows({1: {"y": first}, 8: {"y": second}}) is None
    assert mixed_rows({1: {"y": first}, 8: {"y": second[::-1]}}).samples == 8


def test_noise_about_nothing_and_few_changed_labels_are_let_through():
    noise = [{"y": RANDOM.normal(size=(8, 2)).astype(np.float32) * 1e-7} for _ in range(2)]
    assert mixed_rows(dict(zip((1, 8), noise, strict=True))) is None
    labels = np.arange(8)
    changed = np.where(labels < 3, -1, labels)
    assert mixed_rows({1: {"y": labels}, 8: {"y": changed}}) is None
    text = labels.astype(str).astype(object)
    assert mixed_rows({1: {"y": text}, 8: {"y": text}}) is None
    assert mixed_rows({1: {"y": text}, 8: {"y": text[::-1]}}).samples == 8
    assert mixed_rows({1: {"y": labels}, 8: {"y": labels[:2]}}) is None
    assert mixed_rows({}) is None


@pytest.mark.parametrize("case", UNSHARED)
def test_an_output_without_a_row_for_each_request_is_refused_where_they_are_joined(tmp_path, case):
    kind = TensorProto.INT64 if "values" in case else TensorProto.FLOAT
    shape = ("m",) if "several" in case else ("m", 2 if "values" in case else 3)
    path = model(tmp_path, UNSHARED[case], kind, shape)
    words = r"source model, output y: has not one row for each request of a batch: .* shape \[\d+.*`batch: none`"
    with pytest.raises(ParityError, match=words):
        reference_outputs(path, SAMPLES, SIZES, batched=True)


def test_so_are_rows_as_long_as_the_batch(tmp_path):
    """Each client would be told how near it is to all the others."""
    nodes = [helper.make_node("Transpose", ["x"], ["turned"]), helper.make_node("MatMul", ["x", "turned"], ["y"])]
    path = model(tmp_path, nodes, shape=("n", "m"))
    with pytest.raises(ParityError, match="answers 20 of 20 samples otherwise in a batch of 8"):
        reference_outputs(path, SAMPLES, SIZES, batched=True)
    assert reference_outputs(path, SAMPLES, (1,))[1]["y"].shape == (20, 1)
