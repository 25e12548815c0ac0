"""FP16 of models that compute sizes, positions and identifiers in floating point."""

import numpy as np
import pytest
from e2e_graphs import graph_of, written
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from gpuserve_images.onnx_model.files import check
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.optimise.half import to_fp16

REASON = "counts, and FP16 skips numbers from 2048 on"
ROWS, WIDE = 6000, 2501
node, random = helper.make_node, np.random.default_rng(2)
TABLE, SQUARE = random.normal(size=(ROWS, 4)), random.normal(size=(4, 4))
INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT
LOOK_UP = [
    node("Cast", ["position"], ["row"], name="row", to=INT64),
    node("Gather", ["table", "row"], ["found"], name="find"),
    node("MatMul", ["found", "w"], ["y"], name="dense"),
]
WAYS = {
    INT64: [
        node("Cast", ["x"], ["f"], name="number", to=FLOAT),
        node("Add", ["f", "one"], ["position"], name="next"),
        *LOOK_UP,
    ],
    FLOAT: [node("Squeeze", ["x"], ["f"], name="number"), node("Add", ["f", "one"], ["position"], name="next"), *LOOK_UP],
}


@pytest.mark.parametrize("kind", WAYS, ids=TensorProto.DataType.Name)
def test_rows_of_a_table_are_found_by_their_own_numbers(tmp_path, kind):
    model = graph_of(WAYS[kind], {"table": TABLE, "w": SQUARE, "one": 1.0}, shape=("n", 1) if kind == FLOAT else ("n",))
    model.graph.input[0].type.tensor_type.elem_type = kind
    source, out = written(model, tmp_path), tmp_path / "fp16.onnx"
    kept = to_fp16(source, out).options["kept_in_fp32"]
    check(out)
    assert kept == dict.fromkeys(("number", "next", "row"), REASON)
    numbers = np.arange(0, ROWS - 1, 37)
    rows = {"x": numbers.astype(np.float32)[:, None] if kind == FLOAT else numbers}
    # ONNX Runtime computes in FP32 on CPUs, where every number is there.
    assert np.allclose(Session(source).run(rows)["y"], ReferenceEvaluator(str(out)).run(None, rows)[0], atol=0.03)


def test_a_size_stays_the_size_that_it_is(tmp_path):
    nodes = [
        node("Mul", ["x", "two"], ["a"], name="dense"),
        node("Shape", ["a"], ["shape"], name="shape"),
        node("Cast", ["shape"], ["sizes"], name="sizes", to=FLOAT),
        node("Mul", ["sizes", "factors"], ["scaled"], name="scaled"),
        node("Floor", ["scaled"], ["whole"], name="whole"),
        node("Cast", ["whole"], ["wanted"], name="wanted", to=INT64),
        node("Expand", ["one", "wanted"], ["ones"], name="ones"),
        node("Concat", ["a", "ones"], ["y"], name="both", axis=0),
    ]
    model = graph_of(nodes, {"two": 2.0, "factors": [2.0, 1.0], "one": 1.0}, shape=("n", "wide"))
    source, out = written(model, tmp_path), tmp_path / "fp16.onnx"
    kept = to_fp16(source, out, batched=False).options["kept_in_fp32"]
    assert kept == dict.fromkeys(("sizes", "scaled", "whole", "wanted"), REASON)
    [result] = ReferenceEvaluator(str(out)).run(None, {"x": np.ones((1, WIDE), np.float32)})
    assert result.shape == (3, WIDE)


@pytest.mark.parametrize("last", [TensorProto.BOOL, FLOAT], ids=TensorProto.DataType.Name)
def test_numbers_that_nobody_counts_with_become_fp16(tmp_path, last):
    nodes = [
        node("Cast", ["x"], ["f"], name="number", to=FLOAT),
        node("Sub", ["f", "one"], ["g"], name="mask"),
        node("Cast", ["g"], ["h"], name="cast", to=last),
        node("Cast", ["h"], ["y"], name="out", to=FLOAT),
    ]
    model = graph_of(nodes, {"one": 1.0}, shape=("n", 4))
    model.graph.input[0].type.tensor_type.elem_type = INT64
    assert not to_fp16(written(model, tmp_path), tmp_path / "fp16.onnx").options["kept_in_fp32"]


def test_what_a_layer_makes_does_not_count(tmp_path):
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="dense"),
        node("Round", ["a"], ["b"], name="round"),
        node("Cast", ["b"], ["c"], name="cast", to=INT64),
        node("Cast", ["c"], ["y"], name="out", to=FLOAT),
    ]
    assert not to_fp16(written(graph_of(nodes, {"w": SQUARE}, shape=("n", 4)), tmp_path), tmp_path / "o").options[
        "kept_in_fp32"
    ]
