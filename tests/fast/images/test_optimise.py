"""What optimisation writes down, models as they were written once, and calibration that does not fit."""

import numpy as np
import onnx
import pytest
from e2e_graphs import FLOAT, graph_of, parity, random_samples, written
from e2e_small_model import FEATURES, classifier
from onnx import helper, numpy_helper

from gpuserve_images.compile.builders import rtx_module
from gpuserve_images.compile.parsing import require_accepted
from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.files import check
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.optimise.graph import optimise
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.quantise import quantise_dynamic, quantise_static
from gpuserve_images.optimise.saving import save, sort_nodes
from gpuserve_images.optimise.spec import CalibrateSpec
from gpuserve_images.samples.codec import CodecError, encode_all, load_codec
from gpuserve_images.target import Target

STATIC = CalibrateSpec.parse({"inputs": "samples"})


@pytest.fixture
def samples():
    return random_samples()


class TestOptimise:
    def test_constants_are_folded_and_shapes_written_down(self, tmp_path):
        node = helper.make_node
        model = graph_of(
            [
                node("Add", ["a", "b"], ["folded"]),
                node("Mul", ["x", "folded"], ["scaled"]),
                node("Identity", ["scaled"], ["same"]),
                node("MatMul", ["same", "w"], ["y"]),
            ],
            {"a": np.ones(FEATURES), "b": np.ones(FEATURES), "w": np.ones((FEATURES, 3))},
        )
        record = optimise(written(model, tmp_path), tmp_path / "out.onnx", "basic")
        graph = onnx.load(tmp_path / "out.onnx").graph
        assert [made.op_type for made in graph.node] == ["Mul", "MatMul"]
        shapes = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in graph.value_info
        }
        assert shapes == {graph.node[0].output[0]: ["n", FEATURES]}
        assert record.notes == ("4 nodes became 2; 1 of 1 inner shapes are known",)

    @pytest.mark.parametrize("as_node", [False, True])
    def test_a_small_model_does_not_become_a_large_one(self, tmp_path, as_node):
        """What was made of a shape stays made of it; a large weight that is only turned is folded, wherever it stands."""
        node = helper.make_node
        wide = np.ones((600_000, FEATURES), np.float32)
        turned = node("Constant", [], ["w"], value=numpy_helper.from_array(wide))
        model = graph_of(
            [
                *([turned] if as_node else []),
                node("Transpose", ["w"], ["turned"], perm=[1, 0]),
                node("MatMul", ["x", "turned"], ["far"]),
                node("ConstantOfShape", ["size"], ["mask"], value=helper.make_tensor("one", FLOAT, [1], [1.0])),
                node("ReduceMax", ["mask"], ["most"], keepdims=0),
                node("Mul", ["far", "most"], ["y"]),
            ],
            {} if as_node else {"w": wide},
        )
        model.graph.initializer.append(numpy_helper.from_array(np.array([8192, 2048]), "size"))
        optimise(written(model, tmp_path), tmp_path / "out.onnx", "basic")
        found = sorted(made.op_type for made in onnx.load(tmp_path / "out.onnx").graph.node)
        assert found == ["ConstantOfShape", "MatMul", "Mul", "ReduceMax"]
        assert (tmp_path / "out.onnx").stat().st_size < 2 * wide.nbytes

    def test_a_model_that_hears_nobody_is_refused(self, tmp_path):
        weights = {name: np.ones(3) for name in "ab"}
        source = written(graph_of([helper.make_node("Add", ["a", "b"], ["y"])], weights), tmp_path)
        with pytest.raises(
            SourceError, match=r"source\.onnx: gives the same answer to every request: .* Fix: Export the model"
        ):
            optimise(source, tmp_path / "out.onnx", "basic")

    @pytest.mark.parametrize("opset", [13, 15, 16])
    def test_comparisons_of_old_operator_sets_are_folded_too(self, tmp_path, samples, opset):
        node = helper.make_node
        model = graph_of(
            [
                node("GreaterOrEqual", ["a", "b"], ["high"]),
                node("LessOrEqual", ["a", "b"], ["low"]),
                node("Or", ["high", "low"], ["either"]),
                node("Cast", ["either"], ["factor"], to=FLOAT),
                node("Mul", ["x", "factor"], ["y"]),
            ],
            {"a": np.arange(FEATURES), "b": np.ones(FEATURES)},
        )
        model.opset_import[0].version = opset
        source = written(model, tmp_path)
        optimise(source, tmp_path / "out.onnx", "basic")
        assert not {"GreaterOrEqual", "LessOrEqual", "Or"} & {n.op_type for n in onnx.load(tmp_path / "out.onnx").graph.node}
        assert parity(source, tmp_path / "out.onnx", samples).max_abs_error == 0

    @pytest.mark.parametrize("level", ["none", "basic"])
    def test_weights_in_a_file_of_their_own_are_taken_in(self, tmp_path, samples, level):
        source = tmp_path / "source.onnx"
        onnx.save(classifier(), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
        (tmp_path / "out").mkdir()
        out = tmp_path / "out" / "model.onnx"
        record = optimise(source, out, level)
        assert list(record.outputs) == ["model.onnx"]
        assert [file.name for file in out.parent.iterdir()] == ["model.onnx"]
        assert parity(source, out, samples).max_abs_error < 1e-6

    def test_weights_over_the_limit_stay_beside_the_model(self, tmp_path, samples):
        source = written(graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.eye(FEATURES, 300)}), tmp_path)
        out = tmp_path / "model.onnx"
        for _ in range(2):  # a second time over the first: nothing is appended
            files = save(onnx.load(source), out, limit=1000)
        assert [(file.name, file.stat().st_size >= FEATURES * 300 * 4) for file in files] == [
            ("model.onnx", False),
            ("model.onnx.data", True),
        ]
        assert files[1].stat().st_size < 2 * FEATURES * 300 * 4
        assert parity(source, out, samples).max_abs_error == 0


def of_2019() -> onnx.ModelProto:
    """A model as exporters wrote it then: every weight an input as well, in an operator set without axes of Q/DQ."""
    model = classifier()
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in model.graph.initializer
    )
    model.ir_version, model.opset_import[0].version = 3, 11
    return model


class TestOldModels:
    @pytest.mark.parametrize(
        "stage",
        [
            lambda source, out, samples: optimise(source, out, "basic"),
            lambda source, out, samples: optimise(source, out, "none"),
            lambda source, out, samples: to_fp16(source, out, samples=samples),
            lambda source, out, samples: quantise_static(source, out, samples, STATIC, Target("gpu")),
            lambda source, out, samples: quantise_dynamic(source, out),
        ],
        ids=["basic", "none", "fp16", "int8", "int8-dynamic"],
    )
    def test_requests_never_carry_weights_and_the_result_is_valid(self, tmp_path, samples, stage):
        source, out = written(of_2019(), tmp_path), tmp_path / "out.onnx"
        stage(source, out, samples)
        check(out)
        assert [value.name for value in onnx.load(out).graph.input] == ["x"]
        assert parity(source, out, samples).top1_agreement >= 0.9


class TestCalibration:
    def test_a_model_without_a_batch_axis_is_calibrated_one_by_one(self, tmp_path, samples):
        source, out = written(classifier(batch=1), tmp_path), tmp_path / "int8.onnx"
        quantise_static(source, out, samples, STATIC, Target("gpu"))
        assert any(node.op_type == "QuantizeLinear" for node in onnx.load(out).graph.node)
        require_accepted(rtx_module(), out)

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            (
                {"image": np.zeros((1, FEATURES), np.float32)},
                r"0.npz \(\['image'\]\): holds other inputs.*Save exactly \['x'\]",
            ),
            ({"x": np.zeros((1, 3), np.float32)}, r"float32 \[1, 3\].*wants FP32 of shape \[-1, 8\]"),
            ({"x": np.zeros((1, FEATURES), np.int64)}, r"int64 \[1, 8\].*wants FP32"),
        ],
    )
    def test_samples_with_wrong_names_shapes_or_types_are_refused(self, tmp_path, arrays, words):
        np.savez(tmp_path / "0.npz", **arrays)
        source = written(classifier(), tmp_path)
        with pytest.raises(CodecError, match=words):
            encode_all(load_codec(None, tmp_path), [tmp_path / "0.npz"], read_signature(source), "builds.int8.calibrate.inputs")


def test_sorting_keeps_the_order_of_equals_and_sees_what_branches_read():
    value = helper.make_tensor_value_info
    branch = helper.make_graph([helper.make_node("Relu", ["late"], ["r"])], "b", [], [value("r", FLOAT, None)])
    nodes = [
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch),
        helper.make_node("Relu", ["x"], ["other"], name="other"),
        helper.make_node("Abs", ["x"], ["late"], name="late"),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", FLOAT, ["n"])], [value("y", FLOAT, ["n"])])
    sort_nodes(graph)
    assert [node.name for node in graph.node] == ["other", "late", "if"]
    graph.node[0].input[0] = "other"
    with pytest.raises(ValueError, match="cycle"):
        sort_nodes(graph)


@pytest.mark.parametrize("level", ["none", "basic", "extended"])
def test_sparse_weights_of_branches_are_written_out(tmp_path, level):
    """ONNX Runtime writes them in a way that it does not read."""
    value = helper.make_tensor_value_info
    places = helper.make_tensor("places", onnx.TensorProto.INT64, [2], [0, 5])
    sparse = helper.make_sparse_tensor(helper.make_tensor("w", FLOAT, [2], [2.0, 3.0]), places, (FEATURES, 2))
    branches = []
    for name in ("MatMul", "Gemm"):
        branches.append(helper.make_graph([helper.make_node(name, ["x", "w"], [name])], name, [], [value(name, FLOAT, None)]))
        branches[-1].sparse_initializer.append(sparse)
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["positive"], to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["positive"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", FLOAT, ["n", FEATURES])], [value("y", FLOAT, ["n", 2])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    source, out = written(model, tmp_path), tmp_path / "out.onnx"
    optimise(source, out, level)
    found, wanted = (Session(path).run({"x": np.ones((3, FEATURES), np.float32)})["y"] for path in (out, source))
    np.testing.assert_array_equal(found, wanted)
