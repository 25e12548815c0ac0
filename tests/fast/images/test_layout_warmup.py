"""Zeros as Triton's warm-up: only where the model answers them, since Triton loads no model whose warm-up fails."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.layouts.choosing import lay_out, lay_out_ensemble
from gpuserve_images.layouts.served import LayoutError, ModelFiles, ServedModel, Wishes
from gpuserve_images.layouts.spec import EnsembleSpec, LayoutSpec
from gpuserve_images.layouts.triton_protobuf import parse_config
from gpuserve_images.onnx_model.signature import read_signature

NO_ZEROS = "does not answer zeros at batch size 1: .*Gather"


def model(folder, nodes, kinds, name="m", constants=()):
    tensors = [helper.make_tensor_value_info(tensor, kind, ["n", 2]) for tensor, kind in zip("xy", kinds, strict=True)]
    graph = helper.make_graph(nodes, "g", tensors[:1], tensors[1:], list(constants))
    path = folder / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return ServedModel.of(name, "onnx", path, read_signature(path))


@pytest.fixture
def counting(tmp_path):
    """Return a model that looks its numbers up in a table from -3 to -1: nothing is at 0."""
    table = numpy_helper.from_array(np.arange(3, dtype=np.float32), "table")
    three = numpy_helper.from_array(np.array(3, np.int64), "three")
    nodes = [helper.make_node("Add", ["x", "three"], ["index"]), helper.make_node("Gather", ["table", "index"], ["y"])]
    return model(tmp_path, nodes, (TensorProto.INT64, TensorProto.FLOAT), constants=[table, three])


@pytest.fixture
def numbers(tmp_path):
    return model(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], (TensorProto.FLOAT, TensorProto.FLOAT), "numbers")


@pytest.fixture
def parsing(tmp_path):
    """Return a model that reads numbers out of text."""
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    return model(tmp_path, nodes, (TensorProto.STRING, TensorProto.FLOAT), "parsing")


def warmed(served, server="triton", **options):
    files, record = lay_out(server, served, Wishes(options=LayoutSpec.parse(options)))
    config = parse_config(files[f"/models/{served.name}/config.pbtxt"].decode())
    return [entry.name for entry in config.model_warmup], record.notes


def test_zeros_are_the_default_where_they_are_answered(numbers):
    assert warmed(numbers) == (["zeros-1", "zeros-8"], ())
    assert warmed(numbers, warmup="zeros") == (["zeros-1", "zeros-8"], ())
    assert warmed(numbers, warmup="none") == ([], ())


@pytest.mark.parametrize("server", ["triton", "kserve"])
def test_zeros_that_fail_are_left_out_with_a_word(counting, server):
    warmups, (note,) = warmed(counting, server)
    assert not warmups
    assert note.startswith("no warm-up: version 1 of m does not answer zeros at batch size 1: ")


def test_zeros_that_fail_are_refused_where_they_were_written(counting, parsing):
    with pytest.raises(LayoutError, match=rf"layout.warmup \(zeros\): fails, version 1 of m {NO_ZEROS}.*`samples` or `none`"):
        warmed(counting, warmup="zeros")
    with pytest.raises(LayoutError, match="fails, version 1 of parsing does not answer zeros"):
        warmed(parsing, warmup="zeros")


def test_zeros_of_any_size_are_refused_where_they_were_written(tmp_path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["n", "length", 2])],
        [value("y", TensorProto.FLOAT, ["n", "length", 2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "free.onnx")
    free = ServedModel.of("free", "onnx", tmp_path / "free.onnx", read_signature(tmp_path / "free.onnx"))
    assert warmed(free) == ([], ())
    with pytest.raises(
        LayoutError, match=r"layout.warmup \(zeros\): needs one shape to try, and input x of free has any, \[-1, 2\]"
    ):
        warmed(free, warmup="zeros")


def test_only_versions_that_are_offered_have_to_answer(tmp_path, counting):
    same = model(tmp_path, [helper.make_node("Cast", ["x"], ["y"], to=1)], (TensorProto.INT64, TensorProto.FLOAT), "same")
    both = ServedModel("m", "onnx", {1: counting.newest, 2: same.newest}, same.signature)
    assert warmed(both) == (["zeros-1", "zeros-8"], ())
    warmups, (note,) = warmed(both, versions="all")
    assert not warmups
    assert note.startswith("no warm-up: version 1 of m")


def test_text_has_no_zeros_of_its_own(parsing, tmp_path):
    warmups, (note,) = warmed(parsing)
    assert (warmups, note.startswith("no warm-up: input x takes text")) == ([], True)
    kinds = (TensorProto.STRING, TensorProto.STRING)
    assert warmed(model(tmp_path, [helper.make_node("Identity", ["x"], ["y"])], kinds), warmup="zeros")[0]


def test_what_cannot_be_loaded_here_is_warmed_up_as_before(tmp_path, numbers):
    (tmp_path / "gpu.onnx").write_bytes(b"for GPUs only")
    other = ServedModel("m", "onnx", {1: ModelFiles.of(tmp_path / "gpu.onnx")}, numbers.signature)
    assert warmed(other) == (["zeros-1", "zeros-8"], ())


def test_an_ensemble_says_whose_warm_up_is_left_out(counting):
    steps = [{"model": "m", "inputs": {"x": "raw"}, "outputs": {"y": "answer"}}]
    spec = EnsembleSpec.parse({"name": "whole", "inputs": ["raw"], "outputs": ["answer"], "steps": steps})
    _, record = lay_out_ensemble("triton", spec, {"m": (counting, Wishes())})
    assert [note.startswith("m: no warm-up: version 1 of m does not") for note in record.notes] == [True]
