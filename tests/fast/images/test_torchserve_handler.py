"""The handler that goes into TorchServe's archives, called as TorchServe calls it."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from e2e_small_model import FEATURES, classifier
from onnx import TensorProto, helper

from gpuserve_images.layouts.inside.torchserve_handler import Handler


class Context(SimpleNamespace):
    """What TorchServe passes, and the HTTP statuses it was told."""

    def set_response_status(self, *, code, phrase, idx):
        self.statuses[idx] = code


def handler(folder, model, **options):
    onnx.save(model, folder / "model.onnx")
    given = {"inputs": ["x"], "outputs": [], "batched": True, "intra_op": 1, "inter_op": 0} | options
    context = Context(
        system_properties={"model_dir": str(folder), "gpu_id": None},
        manifest={"model": {"serializedFile": "model.onnx"}},
        model_yaml_config=given,
        model_name="m",
        statuses={},
    )
    made = Handler()
    made.initialize(context)
    return made, context


def request(array, name="x", kind="FP32", **changes):
    data = array.ravel().tolist() if isinstance(array, np.ndarray) else array
    item = {"name": name, "shape": list(np.shape(array)), "datatype": kind, "data": data} | changes
    return {"inputs": [item]}


def rows(count):
    return np.random.default_rng(count).normal(size=(count, FEATURES)).astype(np.float32)


def test_requests_share_one_run_and_keep_their_own_answers(tmp_path):
    made, context = handler(tmp_path, classifier())
    runs = []
    real = made._run
    made._run = lambda tensors: runs.append(len(tensors["x"])) or real(tensors)
    asked = [rows(2), rows(1), rows(3)]
    answers = made.handle(
        [{"body": request(asked[0])}, {"body": json.dumps(request(asked[1])).encode()}, {"data": request(asked[2])}], context
    )
    assert runs == [6]
    assert [answer["outputs"][0]["shape"] for answer in answers] == [[2, 4], [1, 4], [3, 4]]
    for tensor, answer in zip(asked, answers, strict=True):
        alone = real({"x": tensor})["scores"]
        np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], alone.shape), alone, rtol=1e-5, atol=1e-6)


def test_without_a_batch_axis_each_request_runs_alone(tmp_path):
    made, context = handler(tmp_path, classifier(batch=1), batched=False)
    answers = made.handle([{"body": request(rows(1))}, {"body": request(rows(1))}], context)
    assert all("outputs" in answer for answer in answers)
    assert context.statuses == {}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "KeyError"),
        (b"{not json", "JSONDecodeError"),
        (request(rows(1), name="y"), r"inputs are ['y'], the model takes ['x']"),
        (request(rows(1), kind="FLOAT"), "KeyError: 'FLOAT'"),
        (request(rows(1), shape=[3, 3]), "cannot reshape"),
        (request(rows(1)[:, :3]), "INVALID_ARGUMENT"),
    ],
)
def test_a_bad_request_gets_an_error_of_its_own(tmp_path, body, words):
    made, context = handler(tmp_path, classifier())
    bad, good = made.handle([{"body": body}, {"body": request(rows(2))}], context)
    assert words in bad["error"]
    assert context.statuses == {0: 400}
    assert good["outputs"][0]["shape"] == [2, 4]


def test_text_and_whole_numbers_go_through(tmp_path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.STRING, ["n"])],
        [value("y", TensorProto.STRING, ["n"])],
    )
    made, context = handler(tmp_path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    (answer,) = made.handle([{"body": request(["grün", "b"], kind="BYTES")}], context)
    assert answer["outputs"] == [{"name": "y", "datatype": "BYTES", "shape": [2], "data": ["grün", "b"]}]
