"""FP16 that keeps what FP16 cannot hold."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from e2e_graphs import FLOAT, graph_of, parity, random_samples, written
from e2e_small_model import FEATURES, classifier
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from gpuserve_images.compile.builders import rtx_module
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.parsing import require_accepted
from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.files import check
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.optimise.accepted import acceptance
from gpuserve_images.optimise.graph import optimise
from gpuserve_images.optimise.half import to_fp16
from gpuserve_images.optimise.saving import save
from gpuserve_images.samples.codec import encode_all, load_codec
from gpuserve_images.samples.picking import sample_set
from gpuserve_images.spec import load_model

HALF = TensorProto.FLOAT16


def normalised() -> onnx.ModelProto:
    """A layer normalisation written out: several nodes that must stay in fp32 read the same tensors."""
    node, random = helper.make_node, np.random.default_rng(5)
    return graph_of(
        [
            node("MatMul", ["x", "w"], ["a"], name="dense"),
            node("ReduceMean", ["a"], ["mean"], name="mean", axes=[-1]),
            node("Sub", ["a", "mean"], ["d"], name="centre"),
            node("Pow", ["d", "two"], ["square"], name="square"),
            node("ReduceMean", ["square"], ["variance"], name="variance", axes=[-1]),
            node("Add", ["variance", "epsilon"], ["safe"], name="safe"),
            node("Sqrt", ["safe"], ["deviation"], name="deviation"),
            node("Div", ["d", "deviation"], ["normal"], name="divide"),
            node("Constant", [], ["last"], name="last", value_ints=[-1]),
            node("ReduceSum", ["a", "last"], ["total"], name="total"),
            node("MatMul", ["normal", "w2"], ["y0"], name="head"),
            node("Add", ["y0", "total"], ["y"], name="out"),
        ],
        {"w": random.normal(size=(FEATURES, 16)), "w2": random.normal(size=(16, 4)), "two": 2.0, "epsilon": 1e-12},
    )


@pytest.fixture
def samples():
    return random_samples()


def test_weights_halve_and_the_interface_stays(tmp_path, samples):
    source, out = written(classifier(), tmp_path), tmp_path / "fp16.onnx"
    record = to_fp16(source, out, samples=samples)
    assert read_signature(out) == read_signature(source)
    assert {tensor.data_type for tensor in onnx.load(out).graph.initializer} == {HALF}
    found = parity(source, out, samples)
    assert 0 < found.max_abs_error < 5e-3
    assert found.cosine > 0.99999
    assert record.options["kept_in_fp32"] == {}


def test_what_outgrows_fp16_is_kept_with_its_reason(tmp_path, samples):
    source, out = written(normalised(), tmp_path), tmp_path / "fp16.onnx"
    kept = to_fp16(source, out, samples=samples).options["kept_in_fp32"]
    assert kept == {
        "mean": "ReduceMean outgrows its inputs",
        "square": "Pow outgrows its inputs",
        "variance": "ReduceMean outgrows its inputs",
        "safe": "constant epsilon is 1e-12, below 6.1e-05",
        "deviation": "follows constant epsilon, which FP16 takes for zero",
        "divide": "follows constant epsilon, which FP16 takes for zero",
        "total": "ReduceSum outgrows its inputs",
    }
    check(out)
    assert parity(source, out, samples).cosine > 0.9999


def test_what_overflows_on_samples_is_kept_and_only_then_the_answers_stay(tmp_path, samples):
    node = helper.make_node
    model = graph_of(
        [
            node("Mul", ["x", "big"], ["large"], name="grow"),
            node("Mul", ["large", "big"], ["larger"], name="overflow"),
            node("Div", ["larger", "big"], ["back"], name="shrink"),
            node("Div", ["back", "big"], ["small"], name="again"),
            node("MatMul", ["small", "w"], ["y"], name="head"),
        ],
        {"big": 1000.0, "w": np.random.default_rng(1).normal(size=(FEATURES, 4))},
    )
    source, out = written(model, tmp_path), tmp_path / "fp16.onnx"
    kept = to_fp16(source, out, samples=samples).options["kept_in_fp32"]
    assert set(kept) == {"overflow", "shrink"}
    assert "larger reaches" in kept["overflow"]
    # ONNX's reference runs FP16 as FP16, which ONNX Runtime on a CPU does not.
    want, (got,) = Session(source).run(samples[0])["y"], ReferenceEvaluator(str(out)).run(None, samples[0])
    assert np.allclose(got, want, rtol=2e-2, atol=1e-2)
    to_fp16(source, out)  # blind: nothing in the graph itself tells
    with np.errstate(over="ignore", invalid="ignore"):
        (blind,) = ReferenceEvaluator(str(out)).run(None, samples[0])
    assert not np.isfinite(blind).all()


def test_a_constant_out_of_range_is_kept(tmp_path, samples):
    model = graph_of([helper.make_node("Add", ["x", "mask"], ["y"], name="masked")], {"mask": [-3.4e38] + [0] * 7})
    record = to_fp16(written(model, tmp_path), tmp_path / "fp16.onnx")
    assert record.options["kept_in_fp32"] == {"masked": "constant mask has 3.4e+38, over 65504"}


def test_nodes_and_operators_can_be_kept_by_name(tmp_path, samples):
    source = written(classifier(), tmp_path)
    kept = to_fp16(source, tmp_path / "out.onnx", keep=["head", "Softmax"]).options["kept_in_fp32"]
    assert kept == {"head": "named in keep_fp32", "Softmax_4": "named in keep_fp32"}
    with pytest.raises(SourceError, match=r"keep_fp32 \(hed\): is neither an operator nor a node .*'Gemm', 'MatMul'"):
        to_fp16(source, tmp_path / "out.onnx", keep=["hed"])


def test_the_same_bytes_each_time(tmp_path, samples):
    source = written(normalised(), tmp_path)
    assert len({to_fp16(source, tmp_path / name, samples=samples).outputs[name] for name in ("a", "b")}) == 1


@pytest.mark.parametrize("model", [classifier, normalised])
def test_tensorrt_accepts_the_result(tmp_path, samples, model):
    source, out = written(model(), tmp_path), tmp_path / "fp16.onnx"
    assert to_fp16(source, out, samples=samples).notes == (
        f"accepted by the parser of tensorrt_rtx {rtx_module().__version__}",
    )
    require_accepted(rtx_module(), out)


def test_a_stage_that_breaks_a_model_for_tensorrt_is_an_error_and_an_odd_source_is_a_note(tmp_path):
    odd = classifier()
    odd.graph.node[2].op_type, odd.graph.node[2].domain = "QuickGelu", "com.microsoft"
    odd.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    good, bad = written(classifier(), tmp_path, "good.onnx"), written(odd, tmp_path, "bad.onnx")
    with pytest.raises(CompileError, match=r"accepted by TensorRT before this stage, and its result is not: .*QuickGelu"):
        acceptance(good, bad)
    assert "accepts neither the result nor the model before" in acceptance(bad, bad)
    assert "accepts neither" in to_fp16(bad, tmp_path / "out.onnx").notes[0]


def test_a_mask_of_infinity_is_called_so(tmp_path, samples):
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["c"]),
        helper.make_node("Where", ["c", "x", "none"], ["m"], name="mask"),
        helper.make_node("Softmax", ["m"], ["y"], name="share"),
    ]
    model = graph_of(nodes, {"zero": 0.0, "none": -np.inf})
    kept = to_fp16(written(model, tmp_path), tmp_path / "out.onnx", samples=samples).options["kept_in_fp32"]
    assert kept == dict.fromkeys(("mask", "share"), "m reaches inf")


def test_without_the_parser_the_record_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    record = to_fp16(written(classifier(), tmp_path), tmp_path / "out.onnx")
    assert record.notes[0].startswith("not checked with TensorRT's parser: ")


def test_control_flow_is_refused_by_name(tmp_path):
    value = helper.make_tensor_value_info
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "b", [], [value("r", FLOAT, None)])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    inputs = [value("x", FLOAT, ["n", 8]), value("c", TensorProto.BOOL, [])]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", FLOAT, ["n", 8])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(SourceError, match=r"\(If\): has control flow"):
        to_fp16(written(model, tmp_path), tmp_path / "o")


def test_a_model_without_floats_is_refused(tmp_path):
    value = helper.make_tensor_value_info
    int64 = TensorProto.INT64
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])], "g", [value("x", int64, ["n"])], [value("y", int64, ["n"])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(SourceError, match="computes nothing in FP32"):
        to_fp16(written(model, tmp_path), tmp_path / "o")


@pytest.mark.slow
def test_magika_in_half_precision_keeps_its_answers_and_tensorrt_takes_it(tmp_path):
    """Its activations reach 181,000 on real files: without measured ranges FP16 would make them infinite."""
    magika = pytest.importorskip("magika")
    folder = Path(__file__).parents[3] / "stacks" / "models"
    model = load_model(folder / "filetype.yaml")
    source, basic, out = Path(magika.__file__).parent / "models/standard_v3_3/model.onnx", tmp_path / "b", tmp_path / "fp16"
    files = sample_set(model, "fp32", folder).verify[::5]
    requests = list(encode_all(load_codec(model.io, folder), files, read_signature(source), "verify.inputs").tensors)
    optimise(source, basic, "basic")
    kept = to_fp16(basic, out, samples=requests).options["kept_in_fp32"]
    assert any("e+05" in reason for reason in kept.values())
    assert out.stat().st_size < 0.6 * source.stat().st_size
    found = parity(source, out, requests)
    assert found.cosine > 0.9999
    assert found.top1_agreement == 1
    require_accepted(rtx_module(), out)


def test_weights_beside_the_model_give_what_weights_inside_give(tmp_path, samples, monkeypatch):
    source, inside, beside = written(classifier(), tmp_path), tmp_path / "inside.onnx", tmp_path / "beside.onnx"
    to_fp16(source, inside, samples=samples)
    monkeypatch.setattr("gpuserve_images.optimise.shapes.INLINE_LIMIT", 100)
    monkeypatch.setitem(save.__kwdefaults__, "limit", 100)
    monkeypatch.setattr("gpuserve_images.optimise.saving.SMALL_TENSOR", 16)
    written_files = []
    real = onnx.save_model
    monkeypatch.setattr(
        "onnx.save",
        lambda model, file, *rest, **how: (written_files.append((Path(file).name, how)), real(model, file, *rest, **how)),
    )
    record = to_fp16(source, beside, samples=samples)
    assert {name: how.get("save_as_external_data") for name, how in written_files} == {
        "named.onnx": True,
        "augmented.onnx": True,
        "beside.onnx": True,
    }
    assert set(record.outputs) == {"beside.onnx", "beside.onnx.data"}
    for request in samples[:4]:
        np.testing.assert_array_equal(Session(beside).run(request)["scores"], Session(inside).run(request)["scores"])
