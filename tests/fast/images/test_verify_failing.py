"""What the owner of a model is told when its own file contradicts itself, or fails: what to change, and where."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.errors import SourceError
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.onnx_model.signature import Signature, TensorSpec
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.parity import reference_outputs

SAMPLES = [{"x": np.full((1, 2, 2), row, np.float32)} for row in range(8)]


def model(folder, nodes, output, constants=(), kind=TensorProto.FLOAT):
    value = helper.make_tensor_value_info
    inputs = [value("x", kind, ["n", 2, 2])]
    graph = helper.make_graph(nodes, "model", inputs, [value("y", TensorProto.FLOAT, output)], list(constants))
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "model.onnx")
    return folder / "model.onnx"


def flat(folder, rows, output):
    """Write a model that makes rows of four of its input; how many there are is written in the file."""
    to = numpy_helper.from_array(np.array([rows, 4]), "to")
    return model(folder, [helper.make_node("Reshape", ["x", "to"], ["y"])], output, [to])


def test_a_batch_that_is_free_outside_alone_is_named(tmp_path):
    """The first trace of many exporters: the batch is free in the signature, and 1 in a Reshape."""
    path = flat(tmp_path, 1, ["n", 4])
    words = r"answers 1 at once, and not 8, though its first axis is free: fails in ONNX Runtime .*Fix: Write `batch: none`"
    with pytest.raises(SourceError, match=words):
        reference_outputs(path, SAMPLES, (1, 8), batched=True)


def test_a_model_that_fails_alone_too_is_not_told_of_batches(tmp_path):
    with pytest.raises(SourceError, match=r"^\S+: fails in ONNX Runtime .*Fix: Correct the sample"):
        reference_outputs(flat(tmp_path, 3, ["n", 4]), SAMPLES, (1, 8), batched=True)


def test_a_shape_that_is_declared_and_never_given_is_named(tmp_path):
    flat(tmp_path, -1, ["n", 5])
    spec = ModelSpec.parse({"name": "m", "source": {"file": "model.onnx"}, "builds": {"b": {"engine": "onnxruntime"}}})
    words = r"output y \(FP32 \[-1, 4\]\) in place of y \(FP32 \[-1, 5\]\)\. Fix: Correct what the source's file declares"
    with Runner(tmp_path / "cache") as runner, pytest.raises(ParityError, match=words):
        make(plan(Job(spec, "b", tmp_path, Target()), "registry/base:1"), runner)


def test_what_clients_see_of_another_interface_is_named():
    x, y = (TensorSpec(name=name, dtype="FP32", shape=(-1, 4)) for name in "xy")
    one = Signature(inputs=(x,), outputs=(x, y), opset=17)
    assert one.difference(one) is None
    assert one.difference(one.model_copy(update={"outputs": (y, x)})) == "output y (FP32 [-1, 4]) in place of x (FP32 [-1, 4])"
    assert one.difference(one.model_copy(update={"outputs": (x,)})) == "outputs x in place of x, y"
    wider = x.model_copy(update={"shape": (8, 4), "dtype": "FP64"})
    assert one.difference(one.model_copy(update={"inputs": (wider,)})) == "input x (FP64 [8, 4]) in place of x (FP32 [-1, 4])"


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("Relu", ["x"], ["h"], name="a"), helper.make_node("Relu", ["h"], ["y"], name="a")], "what it names"),
        ([helper.make_node("Relu", ["nothing"], ["y"])], "what it names"),
        ([helper.make_node("Nobody", ["x"], ["y"], domain="us")], "with operators that ONNX Runtime has"),
    ],
    ids=["one name twice", "an input that is not there", "an operator that nobody has"],
)
def test_a_file_that_is_wrong_is_not_blamed_on_its_operators(tmp_path, nodes, words):
    path = model(tmp_path, nodes, ["n", 2, 2])
    if nodes[0].domain:
        written = onnx.load(path)
        written.opset_import.append(helper.make_opsetid("us", 1))
        onnx.save(written, path)
    with pytest.raises(SourceError, match=f"cannot be run by ONNX Runtime: .*Fix: [^:]*{words}"):
        Session(path)
