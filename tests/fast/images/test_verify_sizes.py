"""Outputs whose size follows from values, such as the boxes that a detector found, of models that run each request alone."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpuserve_images.layouts.triton_protobuf import parse_config
from gpuserve_images.onnx_model.signature import Signature
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target
from gpuserve_images.verify.differences import Parity, ParityError
from gpuserve_images.verify.judging import judge
from gpuserve_images.verify.parity import measure, reference_outputs
from gpuserve_images.verify.spec import BarsSpec

NUMBERED = [{"x": np.array([[row]], np.float32)} for row in range(10)]


class _Played:
    """A detector that finds as many boxes as its input says, or a constant number."""

    def __init__(self, by=0.0, kind=np.float32, found=None, more=lambda row: 0) -> None:
        self.outputs, self.signature = ["boxes"], Signature(inputs=(), outputs=(), opset=17)
        self.by, self.kind, self.found, self.more = by, kind, found, more

    def run(self, inputs):
        row = int(inputs["x"][0, 0])
        count = (row % 4 if self.found is None else self.found) + self.more(row)
        return {"boxes": (np.arange(count * 4).reshape(count, 4) + row + self.by).astype(self.kind)}


def compared(source, build) -> Parity:
    return measure(build, reference_outputs(source, NUMBERED, (1,)), NUMBERED)


@pytest.mark.parametrize("kind", [np.float32, np.int64, str])
def test_a_build_that_finds_the_same_passes(kind):
    kind = object if kind is str else kind
    parity = compared(_Played(kind=kind), _Played(kind=kind))
    assert (parity.max_abs_error, parity.cosine, parity.samples) == (0, 1, 10)


def test_other_values_are_seen():
    assert compared(_Played(), _Played(by=0.5)).max_abs_error == 0.5
    assert compared(_Played(kind=np.int64), _Played(kind=np.int64, by=1)).scaled_error == 1
    with pytest.raises(ParityError, match="scaled_error is"):
        judge(compared(_Played(), _Played(by=0.5)), BarsSpec(scaled_error=1e-4), "b")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (_Played(more=lambda row: row == 5), r"output: sizes of boxes \(\[2, 4\] instead of \[1, 4\]\): differ .* on 1 of 10"),
        (_Played(found=3), "differ from those of its source on 8 of 10 samples"),
        (_Played(more=lambda row: 1), "differ from those of its source on 10 of 10 samples"),
    ],
    ids=["once", "always as many", "always one more"],
)
def test_other_sizes_are_refused(build, words):
    with pytest.raises(ParityError, match=words):
        compared(_Played(), build)


def test_so_is_a_build_whose_sizes_change_where_those_of_its_source_do_not():
    with pytest.raises(ParityError, match="has another size for one request than for another"):
        compared(_Played(found=3), _Played())


@pytest.mark.parametrize("images", [1, "images"])
def test_a_detector_that_suppresses_boxes_is_built(tmp_path, images):
    value = helper.make_tensor_value_info
    inputs = [value("boxes", TensorProto.FLOAT, [images, 12, 4]), value("scores", TensorProto.FLOAT, [images, 2, 12])]
    limits = [numpy_helper.from_array(np.array(number), name) for name, number in (("most", [5]),)]
    limits += [numpy_helper.from_array(np.array([at], np.float32), name) for name, at in (("overlap", 0.5), ("least", 0.2))]
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["kept"])
    graph = helper.make_graph([node], "detector", inputs, [value("kept", TensorProto.INT64, ["found", 3])], limits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "detector.onnx")
    fields = {"name": "detector", "source": {"file": "detector.onnx"}, "builds": {"b": {"engine": "onnxruntime"}}}
    sizes = {"batch": "none", "verify": {"generate": {"shapes": {"boxes": [1, 12, 4], "scores": [1, 2, 12]}}}}
    spec = ModelSpec.parse(fields | (sizes if images != 1 else {}))
    with Runner(tmp_path / "cache") as runner:
        made = make(plan(Job(spec, "b", tmp_path, Target()), "registry/base:1"), runner)
        config = parse_config(made.files(runner)["/models/detector/config.pbtxt"].read_text())
    assert (config.max_batch_size, list(config.output[0].dims)) == (0, [-1, 3])
