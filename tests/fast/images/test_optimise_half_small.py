"""FP16 of models with numbers that are too small for it: an epsilon that it takes for zero guards nothing."""

import numpy as np
import pytest
from e2e_graphs import graph_of, random_samples, written
from e2e_small_model import FEATURES
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from gpuserve_images.onnx_model.files import check
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.optimise.half import to_fp16

node, random = helper.make_node, np.random.default_rng(9)
SQUARE = random.normal(size=(FEATURES, FEATURES)) / 4
EACH = np.linspace(1, 3, FEATURES)
DENSE = [node("MatMul", ["x", "w"], ["a"], name="dense"), node("Relu", ["a"], ["r"], name="relu")]
GUARDED = {
    "length": [
        node("ReduceL2", ["r"], ["n"], name="n", axes=[-1]),
        node("Max", ["n", "e"], ["safe"], name="safe"),
        node("Shape", ["r"], ["shape"], name="shape"),
        node("Expand", ["safe", "shape"], ["wide"], name="wide"),
        node("Div", ["r", "wide"], ["y"], name="last"),
    ],
    "inverse": [
        node("ReduceSumSquare", ["r"], ["n"], name="n", axes=[-1]),
        node("Add", ["n", "e"], ["safe"], name="safe"),
        node("Sqrt", ["safe"], ["root"], name="root"),
        node("Reciprocal", ["root"], ["factor"], name="factor"),
        node("Mul", ["r", "factor"], ["y"], name="last"),
    ],
    "logarithm": [node("Max", ["r", "e"], ["safe"], name="safe"), node("Log", ["safe"], ["y"], name="last")],
}


def converted(model, tmp_path):
    """Return what a model becomes, the reasons of the nodes that stay, and the answers of both to a row of zeros and another."""
    source, out = written(model, tmp_path), tmp_path / "fp16.onnx"
    record = to_fp16(source, out, samples=random_samples())
    check(out)
    rows = {"x": np.concatenate([np.zeros((1, FEATURES), np.float32), random_samples()[0]["x"]])}
    # ONNX Runtime computes in FP32 on CPUs, where no zero shows.
    return record.options["kept_in_fp32"], Session(source).run(rows)["y"], ReferenceEvaluator(str(out)).run(None, rows)[0]


@pytest.mark.parametrize("epsilon", [1e-12, np.full(1, 1e-9)], ids=["lone", "axis"])
@pytest.mark.parametrize("guarded", GUARDED)
def test_an_epsilon_still_guards_what_follows_it(tmp_path, guarded, epsilon):
    kept, want, got = converted(graph_of([*DENSE, *GUARDED[guarded]], {"w": SQUARE, "e": epsilon}), tmp_path)
    assert kept["last"] == "follows constant e, which FP16 takes for zero"
    assert not {"dense", "relu"} & kept.keys()
    assert np.isfinite(want).all()
    assert np.allclose(want, got, rtol=5e-3, atol=2e-3)


def test_an_epsilon_that_fp16_can_tell_from_zero_keeps_its_own_node_only(tmp_path):
    kept, want, got = converted(graph_of([*DENSE, *GUARDED["logarithm"]], {"w": SQUARE, "e": 1e-6}), tmp_path)
    assert kept == {"safe": "constant e is 1e-06, below 6.1e-05"}
    assert np.allclose(want, got, atol=0.07)


@pytest.mark.parametrize("small", [EACH * 1e-6, EACH * 1e-9, SQUARE * 1e-9], ids=["scale", "tiny", "matrix"])
def test_constants_of_small_numbers_alone_keep_their_values(tmp_path, small):
    operator = "MatMul" if small.ndim == 2 else "Mul"
    nodes = [*DENSE, node(operator, ["r", "s"], ["b"], name="small"), node("Div", ["b", "k"], ["y"], name="large")]
    kept, want, got = converted(graph_of(nodes, {"w": SQUARE, "s": small, "k": 1e-9}), tmp_path)
    assert kept["small"].startswith("constant s is at most ")
    assert np.allclose(want, got, rtol=5e-3, atol=1e-3 * np.abs(want).max())


def test_a_small_number_beside_larger_ones_is_no_reason(tmp_path):
    kept, want, got = converted(graph_of([*DENSE, node("Mul", ["r", "s"], ["y"])], {"w": SQUARE, "s": EACH - 1}), tmp_path)
    assert not kept
    assert np.allclose(want, got, atol=0.02)


def test_small_values_in_nodes_count_too(tmp_path):
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1e-10])
    nodes = [
        *DENSE,
        node("Shape", ["r"], ["shape"], name="shape"),
        node("ConstantOfShape", ["shape"], ["e"], name="filled", value=value),
        node("Max", ["r", "e"], ["safe"], name="safe"),
        node("Log", ["safe"], ["y"], name="last"),
    ]
    kept, want, got = converted(graph_of(nodes, {"w": SQUARE}), tmp_path)
    assert kept["filled"] == "value is 1e-10, below 6.1e-05"
    assert kept["safe"] == "constant e is 1e-10, below 6.1e-05"
    assert np.allclose(want, got, rtol=5e-3, atol=2e-3)
