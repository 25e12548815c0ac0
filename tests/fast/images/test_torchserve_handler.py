"""The handler that goes into TorchServe's archives, called as TorchServe calls it."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from e2e_small_model import FEATURES, classifier
from onnx import TensorProto, helper

from gpuserve_images.layouts.inside.torchserve_handler import Handler, _named


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
        (b"[" * 100_000, "RecursionError"),
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


def joined(*arrays, kind="FP32"):
    """Return a request with several inputs, named a, b and so on."""
    return {"inputs": [request(array, name, kind)["inputs"][0] for name, array in zip("abc", arrays, strict=False)]}


def sums(folder):
    """Serve s = a + b."""
    value = helper.make_tensor_value_info
    tensors = {name: value(name, TensorProto.FLOAT, ["n"]) for name in "abs"}
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["s"])], "g", [tensors["a"], tensors["b"]], [tensors["s"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return handler(folder, model, inputs=["a", "b"])


def numbers(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        # Together these two have as many rows in a as in b: without a check, the victim gets sums of the other's numbers.
        (joined(numbers(1000), numbers(1, 1, 1)), "{'a': [1], 'b': [3]}"),
        (joined(np.float32(1000), numbers(1)), "{'a': [], 'b': [1]}"),
        (joined(np.array(1000.0), np.array(1.0)), "{'a': [], 'b': []}"),
    ],
)
def test_a_request_whose_inputs_differ_in_rows_is_refused_and_mixed_with_no_other(tmp_path, bad, words):
    for tensor in bad["inputs"]:
        tensor["data"] = np.ravel(tensor["data"]).tolist()
    made, context = sums(tmp_path)
    other = joined(numbers(5, 6, 7), numbers(5))
    victim = joined(numbers(1), numbers(1))
    answers = made.handle([{"body": body} for body in (bad, victim, other)], context)
    assert words in answers[0]["error"]
    assert answers[1]["outputs"][0]["data"] == [2.0]
    assert "{'a': [3], 'b': [1]}" in answers[2]["error"]
    assert context.statuses == {0: 400, 2: 400}


def test_a_number_that_its_type_cannot_hold_is_the_fault_of_its_request_alone(tmp_path):
    made, context = sums(tmp_path)
    bad = joined(numbers(1), numbers(1))
    bad["inputs"][0] |= {"datatype": "UINT8", "data": [300]}
    answers = made.handle([{"body": bad}, {"body": joined(numbers(1), numbers(1))}], context)
    assert "OverflowError" in answers[0]["error"]
    assert answers[1]["outputs"][0]["data"] == [2.0]


def test_where_requests_fail_together_each_bad_one_fails_alone(tmp_path):
    made, context = sums(tmp_path)
    real = made._run

    def refusing(tensors):
        if (tensors["a"] < 0).any():
            msg = f"{tensors['a'].tolist()} is below zero"
            raise RuntimeError(msg)
        return real(tensors)

    made._run = refusing
    asked = [joined(numbers(value), numbers(1)) for value in (1, -2, 3, -4)]
    answers = made.handle([{"body": body} for body in asked], context)
    assert [answer["outputs"][0]["data"] for answer in answers[::2]] == [[2.0], [4.0]]
    assert [answer["error"] for answer in answers[1::2]] == [f"RuntimeError: [{value}] is below zero" for value in (-2.0, -4.0)]
    assert context.statuses == {1: 400, 3: 400}


def test_an_output_that_has_other_rows_than_were_asked_is_never_shared_out(tmp_path):
    value = helper.make_tensor_value_info
    kept = helper.make_graph(
        [
            helper.make_node("Constant", [], ["zero"], value_float=0.0),
            helper.make_node("Greater", ["x", "zero"], ["positive"]),
            helper.make_node("Compress", ["x", "positive"], ["y"], axis=0),
        ],
        "g",
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("y", TensorProto.FLOAT, ["m"])],
    )
    made, context = handler(tmp_path, helper.make_model(kept, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    asked = [numbers(-1, -1), numbers(7, 8), numbers(9)]
    answers = made.handle([{"body": request(array)} for array in asked], context)
    assert [answer["outputs"][0]["data"] for answer in answers] == [[], [7.0, 8.0], [9.0]]


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


@pytest.mark.parametrize(
    ("found", "outputs", "named"),
    [
        (1, [], {"output_0": 1}),
        ((1, [2, 3]), [], {"output_0": 1, "output_1": 2, "output_2": 3}),
        ({"scores": 1, "past": None, "aux": 2}, [], {"scores": 1, "aux": 2}),
        ([{"boxes": 1, "labels": 2}, {"boxes": 3}], [], {"0.boxes": 1, "0.labels": 2, "1.boxes": 3}),
        ({"scores": 1, "aux": 2}, ["aux"], {"aux": 2}),
        ({"scores": 1, "aux": 2}, ["a", "b"], {"a": 1, "b": 2}),
        ((1, 2), ["y", "total"], {"y": 1, "total": 2}),
    ],
)
def test_a_pytorch_answer_is_named_whatever_it_is_packed_in(found, outputs, named):
    assert _named(found, outputs) == named


def test_a_pytorch_answer_has_as_many_values_as_there_are_names():
    with pytest.raises(ValueError, match="zip"):
        _named((1, 2, 3), ["y", "total"])
