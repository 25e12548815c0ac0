"""What clients of an ensemble's image wait for is the ensemble: its speed is measured, not that of one of its models."""

import json

import numpy as np
import onnx
import pytest
import yaml
from e2e_small_ensemble import ENSEMBLE, halving, write_prepare
from e2e_small_model import FEATURES, write_model_folder
from onnx import TensorProto, helper

from gpuserve_images.layouts.spec import EnsembleSpec
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target
from gpuserve_images.verify.ensemble import EnsembleRunner, asked_models, ensemble_requests
from gpuserve_images.verify.inputs import Requests

SPEC = EnsembleSpec.parse(ENSEMBLE)
LATER_FIRST = EnsembleSpec.parse(ENSEMBLE | {"steps": ENSEMBLE["steps"][::-1]})


@pytest.fixture
def folder(tmp_path):
    path = write_model_folder(tmp_path / "model", layout={"ensemble": ENSEMBLE}, slo={"latency_p95": "10s"})
    write_prepare(path.parent)
    return path.parent


def capacity(folder):
    with Runner(folder.parent / "cache") as runner:
        chain = plan(Job(load_model(folder / "small.yaml"), "fp32", folder, Target()), "registry/base:1")
        return make(chain, runner).report(chain, runner).capacity


@pytest.mark.parametrize("spec", [SPEC, LATER_FIRST])
def test_an_ensemble_in_this_process_answers_as_its_models_in_turn(folder, spec):
    models = {name: Session(folder / f"{name}.onnx") for name in ("prepare", "small")}
    whole = EnsembleRunner(spec, models)
    assert [(tensor.name, tensor.shape) for tensor in whole.signature.inputs] == [("raw", (-1, FEATURES))]
    raw = np.random.default_rng(3).normal(size=(5, FEATURES)).astype(np.float32)
    assert whole.outputs == ["answer"]
    np.testing.assert_array_equal(whole.run({"raw": raw})["answer"], models["small"].run({"x": raw / 2})["scores"])


def test_the_capacity_of_its_image_is_that_of_the_ensemble(folder):
    measured = capacity(folder)
    assert measured.where.startswith("ensemble whole of prepare, small in process, ONNX Runtime")
    assert measured.at_slo > 0
    assert measured.requests_at_slo > 0
    assert {point.batch for point in measured.points} == {1, 8, 16}
    assert measured.notes == ()


def test_no_batch_is_larger_than_all_its_models_take(folder):
    write_prepare(folder, batch={"max": 8})
    assert {point.batch for point in capacity(folder).points} == {1, 8}
    write_prepare(folder, batch="none", verify={"batches": [1], "generate": {"shapes": {"x": [1, FEATURES]}}})
    assert {point.batch for point in capacity(folder).points} == {1}


def test_a_model_that_cannot_take_what_the_other_gives_leaves_no_number_and_says_why(folder):
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Slice", ["x", "start", "end", "axis"], ["y"])]
    numbers = {"start": [0], "end": [FEATURES // 2], "axis": [1]}
    constants = [onnx.numpy_helper.from_array(np.array(number, np.int64), name) for name, number in numbers.items()]
    # It declares any width, so nothing contradicts before it runs; half of it is too little for the next model.
    any_width = ["batch", "width"]
    sides = [value(name, TensorProto.FLOAT, any_width) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "half", sides[:1], sides[1:], constants)
    half = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    write_prepare(folder, half, verify={"generate": {"shapes": {"x": [FEATURES]}}})
    measured = capacity(folder)
    assert (measured.points, measured.at_slo, measured.requests_at_slo) == ((), None, None)
    assert "ensemble whole could not be measured" in measured.notes[0]
    assert "fails in ONNX Runtime on inputs x float32[1, 4]" in measured.notes[0]


def test_it_is_asked_what_the_models_that_take_a_request_are_asked(folder):
    assert asked_models(SPEC) == ("prepare",)
    both = EnsembleSpec.parse(
        {
            **ENSEMBLE,
            "inputs": ["raw", "other"],
            "steps": [*ENSEMBLE["steps"][:1], {"model": "small", "inputs": {"x": "other"}, "outputs": {"scores": "answer"}}],
        }
    )
    assert asked_models(both) == ("prepare", "small")
    given = {
        "prepare": Requests(("a", "b", "c"), [{"x": np.array([number])} for number in range(3)]),
        "small": Requests(("d", "e"), [{"x": np.array([number + 10])} for number in range(2)]),
    }
    asked = ensemble_requests(both, given)
    assert asked.names == ("a", "b", "c")
    assert [(int(one["raw"][0]), int(one["other"][0])) for one in asked.tensors] == [(0, 10), (1, 11), (2, 10)]
    assert [int(one["raw"][0]) for one in asked.tensors[1:]] == [1, 2]
    assert int(asked.tensors[-1]["other"][0]) == 10


def test_what_the_other_model_is_asked_decides_whether_it_is_measured_again(folder):
    def key():
        (way,) = plan(Job(load_model(folder / "small.yaml"), "fp32", folder, Target()), "registry/base:1").ways
        return way.capacity.key

    before = key()
    assert key() == before
    write_prepare(folder, verify={"generate": {"seed": 3}})
    changed = key()
    assert changed != before
    write_prepare(folder, halving(), batch={"max": 4}, verify={"generate": {"seed": 3}})
    assert key() not in {before, changed}


def test_versions_of_the_same_model_in_the_image_are_no_models_of_the_ensemble(folder):
    path = folder / "small.yaml"
    model = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(model | {"layout": {"ensemble": ENSEMBLE, "numbers": {1: "fp32", 2: "int8"}}}))
    measured = capacity(folder)
    assert measured.where.startswith("ensemble whole of prepare, small in process")
    assert json.loads(measured.model_dump_json())["notes"] == []
