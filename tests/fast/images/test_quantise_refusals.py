"""INT8 of models that it is not for, or that fail on the way: what is said, and what is done about it."""

import numpy as np
import onnx
import pytest
from e2e_graphs import FLOAT, branching, graph_of, parity, random_samples, written
from e2e_small_model import FEATURES
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.files import check
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.target import Target

ALL = CalibrateSpec.parse({"inputs": "samples", "keep_head": False})
WAYS = {
    "cpu": lambda source, out, samples: quantise_static(source, out, samples, ALL, Target("cpu")),
    "gpu": lambda source, out, samples: quantise_static(source, out, samples, ALL, Target("gpu")),
    "dynamic": lambda source, out, _: quantise_dynamic(source, out),
}
node, value, random = helper.make_node, helper.make_tensor_value_info, np.random.default_rng(7)
SQUARE = random.normal(size=(FEATURES, FEATURES))
TWO_LAYERS = [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "w"], ["y"])]


@pytest.fixture
def samples():
    return random_samples()


def in_type(dtype) -> onnx.ModelProto:
    """Two layers whose weights, inputs and outputs are of one type."""
    model = graph_of(TWO_LAYERS, {"w": SQUARE / 4})
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array((SQUARE / 4).astype(dtype), "w"))
    for given in (*model.graph.input, *model.graph.output):
        given.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return model


@pytest.mark.parametrize("way", WAYS)
def test_a_model_in_fp64_is_refused_by_type(tmp_path, samples, way):
    source = written(in_type(np.float64), tmp_path)
    wide = [{"x": sample["x"].astype(np.float64)} for sample in samples]
    with pytest.raises(SourceError, match=r"none of its 2 layers \(Conv, Gemm, MatMul\) is INT8: it computes in DOUBLE \(2\)"):
        WAYS[way](source, tmp_path / "out.onnx", wide)


@pytest.mark.parametrize("way", WAYS)
def test_a_model_in_fp16_is_quantised_with_its_weights(tmp_path, samples, way):
    source, out = written(in_type(np.float16), tmp_path), tmp_path / "out.onnx"
    half = [{"x": sample["x"].astype(np.float16)} for sample in samples]
    assert WAYS[way](source, out, half).notes[0] == "2 of 2 layers (Conv, Gemm, MatMul) are INT8"
    assert [tensor.name for tensor in onnx.load(out).graph.initializer if list(tensor.dims) == [FEATURES, FEATURES]]
    assert all(tensor.data_type != TensorProto.FLOAT16 for tensor in onnx.load(out).graph.initializer)
    assert parity(source, out, half).max_abs_error < 0.2


def test_two_computed_tensors_are_nothing_for_dynamic_int8(tmp_path):
    model = graph_of([node("Transpose", ["x"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])], {})
    with pytest.raises(SourceError, match=r"none of its 1 layers .*found no constant FP32 weight that it could quantise \(1\)"):
        quantise_dynamic(written(model, tmp_path), tmp_path / "out.onnx")


@pytest.mark.parametrize("way", WAYS)
def test_what_became_int8_and_what_did_not_is_in_the_record(tmp_path, samples, way):
    model = graph_of(
        [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "v"], ["y"], name="odd")], {"w": SQUARE, "v": SQUARE[0]}
    )
    model.graph.output[0].CopyFrom(value("y", FLOAT, ["n"]))
    record = WAYS[way](written(model, tmp_path), tmp_path / "out.onnx", samples)
    assert record.notes[0] == "1 of 2 layers (Conv, Gemm, MatMul) are INT8; odd is not: its weight has 1 axes"


@pytest.mark.parametrize("way", WAYS)
def test_operators_that_onnx_runtime_lacks_are_named(tmp_path, samples, way):
    model = graph_of([*TWO_LAYERS[:1], node("Mine", ["a"], ["y"], name="odd", domain="my.own")], {"w": SQUARE})
    model.opset_import.append(helper.make_opsetid("my.own", 1))
    with pytest.raises(SourceError, match=r"does not know: my.own.Mine \(node 'odd'\)"):
        WAYS[way](written(model, tmp_path), tmp_path / "out.onnx", samples)


@pytest.mark.parametrize("way", WAYS)
def test_functions_of_an_old_model_become_nodes(tmp_path, samples, way, capfd):
    body = [
        node("MatMul", ["a", "w"], ["t"]),
        node("ReduceSum", ["t"], ["q"], axes=[1], keepdims=1),
        node("Add", ["t", "q"], ["o"]),
    ]
    block = helper.make_function("my.own", "Block", ["a", "w"], ["o"], body, [helper.make_opsetid("", 11)])
    model = graph_of([node("Block", ["x", "w"], ["h"], domain="my.own"), node("MatMul", ["h", "w"], ["y"])], {"w": SQUARE})
    model.functions.append(block)
    model.opset_import[0].version = 11
    model.opset_import.append(helper.make_opsetid("my.own", 1))
    source, out = written(model, tmp_path), tmp_path / "out.onnx"
    assert WAYS[way](source, out, samples).notes[0].startswith("2 of 2 layers")
    check(out)
    Session(out).run(samples[0])
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("way", WAYS)
def test_branches_read_what_was_made_before_them(tmp_path, samples, way):
    then, other = (
        helper.make_graph([node(kind, ["a"], [f"{kind}_out"])], kind, [], [value(f"{kind}_out", FLOAT, None)])
        for kind in ("Neg", "Abs")
    )
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["positive"]),
        node("MatMul", ["x", "w"], ["a"]),
        node("If", ["positive"], ["o"], then_branch=then, else_branch=other),
        node("MatMul", ["o", "w"], ["y"]),
    ]
    source, out = written(graph_of(nodes, {"w": SQUARE, "zero": 0.0}), tmp_path), tmp_path / "out.onnx"
    WAYS[way](source, out, samples)
    check(out)


@pytest.mark.parametrize("way", WAYS)
def test_an_input_that_is_an_output_too_stays_both(tmp_path, samples, way):
    source, out = written(graph_of(TWO_LAYERS, {"w": SQUARE}, outputs=("x", "y")), tmp_path), tmp_path / "out.onnx"
    WAYS[way](source, out, samples)
    assert [given.name for given in onnx.load(out).graph.output] == ["x", "y"]
    np.testing.assert_array_equal(Session(out).run(samples[0])["x"], samples[0]["x"])


BAD = [{"ids": np.array([[1, 2, 99 if number == 10 else 3]])} for number in range(12)]


class TestSamples:
    """One sample of twelve names a row that the table does not have."""

    @pytest.fixture
    def source(self, tmp_path):
        model = graph_of(
            [node("Gather", ["table", "ids"], ["a"]), *TWO_LAYERS], {"table": SQUARE, "w": SQUARE}, inputs=("ids",)
        )
        model.graph.node[1].input[0] = "a"
        model.graph.node[1].output[0] = model.graph.node[2].input[0] = "b"
        model.graph.input[0].CopyFrom(value("ids", TensorProto.INT64, ["n", 3]))
        model.graph.output[0].CopyFrom(value("y", FLOAT, ["n", 3, FEATURES]))
        return written(model, tmp_path)

    @pytest.mark.parametrize(
        "stage",
        [
            lambda source, out, samples: to_fp16(source, out, samples=samples),
            lambda source, out, samples: quantise_static(source, out, samples, ALL, Target("cpu")),
        ],
        ids=["fp16", "int8"],
    )
    def test_the_one_that_fails_is_named(self, source, tmp_path, stage):
        with pytest.raises(
            SourceError, match=r"fails while ranges are measured \(on sample 11 of 12\): .*99.* Fix: Correct the sample"
        ) as refused:
            stage(source, tmp_path / "out.onnx", BAD)
        assert str(refused.value).startswith(f"{source}: fails")

    def test_a_session_names_what_it_was_given(self, source):
        with pytest.raises(SourceError, match=r"fails in ONNX Runtime on inputs ids int64\[1, 3\]: .*99"):
            Session(source).run(BAD[10])


@pytest.mark.parametrize("method", ["percentile", "minmax", "entropy"])
@pytest.mark.parametrize("names", [(), [f"{number:02}.npz" for number in range(40)]], ids=["numbers", "files"])
def test_a_sample_with_infinity_is_named(tmp_path, samples, method, names):
    source, out = written(graph_of(TWO_LAYERS, {"w": SQUARE}), tmp_path), tmp_path / "int8.onnx"
    samples[12]["x"][0, 3] = np.inf
    calibrate = ALL.model_copy(update={"method": method})
    words = f"sample 13 of 40{', 12.npz' if names else ''} has NaN or infinity in 'x', so that a range has no end: "
    with pytest.raises(SourceError, match=words) as refused:
        quantise_static(source, out, samples, calibrate, Target("cpu"), names=names)
    assert refused.value.fix == "Correct the sample, or leave it out."


def test_a_missing_number_that_the_model_fills_in_is_no_reason(tmp_path, samples):
    nodes = [node("IsNaN", ["x"], ["none"]), node("Where", ["none", "zero", "x"], ["f"]), *TWO_LAYERS]
    nodes[2].input[0] = "f"
    model = graph_of(nodes, {"w": SQUARE / 4, "zero": 0.0})
    source, out = written(model, tmp_path), tmp_path / "int8.onnx"
    samples[12]["x"][0, 3] = np.nan
    quantise_static(source, out, samples, ALL, Target("cpu"))
    assert parity(source, out, samples).scaled_error < 0.1


def test_a_range_that_the_model_itself_leaves_without_an_end_is_not_blamed_on_a_sample(tmp_path, samples):
    nodes = [node("Mul", ["x", "huge"], ["f"]), node("MatMul", ["f", "w"], ["y"])]
    source = written(graph_of(nodes, {"w": SQUARE, "huge": 3e38}), tmp_path)
    with pytest.raises(SourceError, match=r"cannot be quantised: \w+: .*(finite|scale)"):
        quantise_static(source, tmp_path / "int8.onnx", samples, ALL.model_copy(update={"method": "minmax"}), Target("cpu"))


@pytest.mark.parametrize("way", WAYS)
def test_layers_in_branches_are_not_reached_and_it_is_said(tmp_path, way):
    ones = [{"x": np.ones((1, 3), np.float32), "rate": np.array(8000)}] * 8
    with pytest.raises(
        SourceError, match=r"which ONNX Runtime's quantiser does not reach \(1\)\. Fix: Export the model without branches"
    ):
        WAYS[way](written(branching(), tmp_path), tmp_path / "out.onnx", ones)
