"""The generic model of the CPU Triton image, with a stand-in for the module that only Triton has."""

import importlib.util
import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

SOURCE = Path(__file__).parents[3] / "model_images/triton-cpu/onnx_model.py"


@dataclass
class Tensor:
    name: str
    array: np.ndarray

    def as_numpy(self):
        return self.array


@dataclass
class Response:
    output_tensors: list = field(default_factory=list)
    error: object = None


@dataclass
class Request:
    tensors: dict
    wanted: list

    def requested_output_names(self):
        return self.wanted


@pytest.fixture
def backend(monkeypatch):
    """The module that Triton would load, with Triton's own part replaced."""
    utils = types.ModuleType("triton_python_backend_utils")
    utils.Tensor = Tensor
    utils.InferenceResponse = Response
    utils.TritonError = str
    utils.get_input_tensor_by_name = lambda request, name: (
        Tensor(name, request.tensors[name]) if name in request.tensors else None
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    spec = importlib.util.spec_from_file_location("onnx_model", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(backend, folder, *, kind=TensorProto.FLOAT, batched=True, shape=("batch", "width")):
    """Serve a model with y = x and, for numbers, z = x + x."""
    nodes, outputs = [helper.make_node("Identity", ["x"], ["y"])], [helper.make_tensor_value_info("y", kind, shape)]
    if kind == TensorProto.FLOAT:
        nodes.append(helper.make_node("Add", ["x", "x"], ["z"]))
        outputs.append(helper.make_tensor_value_info("z", kind, shape))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, shape)], outputs)
    (folder / "1").mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "1" / "model.onnx")
    model = backend.TritonPythonModel()
    config = {"max_batch_size": 8 if batched else 0, "default_model_filename": ""}
    model.initialize({"model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1"})
    return model


def floats(rows, width=2, start=0.0):
    return np.arange(rows * width, dtype=np.float32).reshape(rows, width) + start


def test_requests_that_fit_together_share_one_run(backend, tmp_path, monkeypatch):
    model = load(backend, tmp_path)
    runs = []
    real = model._session.run
    monkeypatch.setattr(model, "_session", types.SimpleNamespace(run=lambda *args: runs.append(args) or real(*args)))
    inputs = [floats(1), floats(3, start=10), floats(2, width=5), floats(2, start=50)]
    responses = model.execute([Request({"x": x}, ["z", "y"]) for x in inputs])
    assert len(runs) == 2
    for x, response in zip(inputs, responses, strict=True):
        assert [tensor.name for tensor in response.output_tensors] == ["z", "y"]
        np.testing.assert_array_equal(response.output_tensors[0].array, x + x)
        np.testing.assert_array_equal(response.output_tensors[1].array, x)


def test_requests_without_a_batch_axis_run_alone(backend, tmp_path):
    model = load(backend, tmp_path, batched=False)
    responses = model.execute([Request({"x": floats(2)}, ["y"]), Request({"x": floats(2, start=5)}, ["y"])])
    np.testing.assert_array_equal(responses[1].output_tensors[0].array, floats(2, start=5))


def test_one_bad_request_does_not_spoil_the_others(backend, tmp_path):
    model = load(backend, tmp_path)
    good, bad = Request({"x": floats(1)}, ["y"]), Request({}, ["y"])
    responses = model.execute([bad, good])
    assert "x" in responses[0].error
    np.testing.assert_array_equal(responses[1].output_tensors[0].array, floats(1))


def test_where_requests_fail_together_each_bad_one_fails_alone(backend, tmp_path, monkeypatch):
    model = load(backend, tmp_path)
    real = model._session.run

    def refusing(names, tensors):
        if (tensors["x"] < 0).any():
            msg = f"{tensors['x'].tolist()} is below zero"
            raise RuntimeError(msg)
        return real(names, tensors)

    monkeypatch.setattr(model, "_session", types.SimpleNamespace(run=refusing))
    first, bad, last = model.execute([Request({"x": floats(1, start=start)}, ["y"]) for start in (5, -5, 9)])
    assert bad.error == "[[-5.0, -4.0]] is below zero"
    np.testing.assert_array_equal(first.output_tensors[0].array, floats(1, start=5))
    np.testing.assert_array_equal(last.output_tensors[0].array, floats(1, start=9))


def test_an_output_that_has_other_rows_than_were_asked_is_never_shared_out(backend, tmp_path, monkeypatch):
    model = load(backend, tmp_path)
    kept = types.SimpleNamespace(run=lambda _, tensors: [tensors["x"][(tensors["x"] > 0).all(axis=1)]])
    monkeypatch.setattr(model, "_session", kept)
    none, both = model.execute([Request({"x": floats(2, start=-9)}, ["y"]), Request({"x": floats(2, start=1)}, ["y"])])
    assert none.output_tensors[0].array.shape == (0, 2)
    np.testing.assert_array_equal(both.output_tensors[0].array, floats(2, start=1))


def test_a_scalar_goes_in_and_out_with_the_one_axis_that_triton_wants(backend, tmp_path):
    model = load(backend, tmp_path, batched=False, shape=())
    (response,) = model.execute([Request({"x": np.array([3], np.float32)}, ["z"])])
    assert response.error is None
    assert (response.output_tensors[0].array.shape, response.output_tensors[0].array.tolist()) == ((1,), [6.0])


def test_bytes_that_are_no_text_spoil_no_other_request(backend, tmp_path):
    model = load(backend, tmp_path, kind=TensorProto.STRING)
    bad, good = (Request({"x": np.array([[text]], dtype=np.object_)}, ["y"]) for text in (b"\xff", b"a"))
    responses = model.execute([bad, good])
    assert "utf-8" in responses[0].error
    assert responses[1].output_tensors[0].array.tolist() == [[b"a"]]


def test_text_goes_in_and_out_as_bytes(backend, tmp_path):
    model = load(backend, tmp_path, kind=TensorProto.STRING)
    text = np.array([["grün".encode(), b"b"]], dtype=np.object_)
    (response,) = model.execute([Request({"x": text}, ["y"])])
    assert response.output_tensors[0].array.tolist() == text.tolist()
