"""`batch: none`: a first axis that holds points and not requests is nowhere taken as the batch."""

import json

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.profiles import profiles
from gpuserve_images.compile.spec import ProfileSpec
from gpuserve_images.errors import SourceError
from gpuserve_images.layouts.choosing import lay_out, lay_out_ensemble
from gpuserve_images.layouts.served import ModelFiles, ServedModel, Wishes
from gpuserve_images.layouts.spec import BatchSpec, EnsembleSpec
from gpuserve_images.layouts.tfserving import platform_config
from gpuserve_images.layouts.triton_protobuf import parse_config
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.inputs import verification_inputs

ALONE = BatchSpec(axis="none")
BASE = "registry/base:1"
WHOLE = {"generate": {"shapes": {"x": [5, 3]}}}


@pytest.fixture
def cloud(tmp_path):
    """Write a model of points that looks at all of them: where they are from their middle, turned."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["middle"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "middle"], ["placed"]),
        helper.make_node("MatMul", ["placed", "turn"], ["y"]),
    ]
    turn = numpy_helper.from_array(np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32), "turn")
    x, y = (value(name, TensorProto.FLOAT, ["points", 3]) for name in "xy")
    graph = helper.make_graph(nodes, "cloud", [x], [y], [turn])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "cloud.onnx")
    return tmp_path / "cloud.onnx"


def spec(**changes):
    base = {"name": "cloud", "source": {"file": "cloud.onnx"}, "builds": {"b": {"engine": "onnxruntime"}}, "batch": "none"}
    return ModelSpec.parse(base | changes)


def config(folder, model):
    """Return what Triton is told of a model that is built."""
    with Runner(folder / "cache") as runner:
        files = make(plan(Job(model, "b", folder, Target()), BASE), runner).files(runner)
        return parse_config(files["/models/cloud/config.pbtxt"].read_text())


def is_alone(found):
    dims = [list(tensor.dims) for tensor in (*found.input, *found.output)]
    return (found.max_batch_size, found.HasField("dynamic_batching"), dims) == (0, False, [[-1, 3], [-1, 3]])


@pytest.mark.parametrize(
    "build",
    [
        {"engine": "onnxruntime"},
        {"engine": "onnxruntime", "precision": "fp16"},
        {"engine": "onnxruntime", "precision": "int8-dynamic", "verify": {"cosine": 0.9}},
        {"engine": "native"},
    ],
    ids=lambda build: build.get("precision", build["engine"]),
)
def test_every_build_is_served_one_request_at_a_time(tmp_path, cloud, build):
    assert is_alone(config(tmp_path, spec(builds={"b": build}, verify=WHOLE)))


def test_samples_of_any_number_of_points_measure_ranges_and_judge(tmp_path, cloud):
    random = np.random.default_rng(0)
    for name, points in (("calibrate", (2, 7)), ("verify", (4, 4))):
        (tmp_path / name).mkdir()
        for number in range(16):
            np.savez(tmp_path / name / f"{number}.npz", x=random.normal(size=(points[number % 2], 3)).astype(np.float32))
    build = {
        "engine": "onnxruntime",
        "precision": "int8",
        "calibrate": {"inputs": "calibrate", "method": "minmax"},
        "verify": {"cosine": 0.9},
    }
    assert is_alone(config(tmp_path, spec(builds={"b": build}, verify={"inputs": "verify"})))
    build = {"engine": "onnxruntime", "precision": "fp16"}
    assert is_alone(config(tmp_path, spec(builds={"b": build}, verify={"inputs": "verify"})))


def test_warm_up_is_with_one_request_of_its_own_size(tmp_path, cloud):
    found = config(tmp_path, spec(layout={"warmup": "samples"}, verify=WHOLE))
    assert {(entry.batch_size, tuple(entry.inputs["x"].dims)) for entry in found.model_warmup} == {(1, (5, 3))}


def test_generated_inputs_have_whole_shapes(cloud, tmp_path):
    signature = read_signature(cloud)
    requests = verification_inputs(spec(verify=WHOLE), "b", tmp_path, signature, cloud)
    assert {request["x"].shape for request in requests.tensors} == {(5, 3)}
    with pytest.raises(SourceError, match=r"has open dimensions \[-1, 3\], so the size .* `shapes: \{x: \[16, 3\]\}`"):
        verification_inputs(spec(), "b", tmp_path, signature, cloud)
    with pytest.raises(SourceError, match=r"Give 2 sizes that fit \[-1, 3\]"):
        verification_inputs(spec(verify={"generate": {"shapes": {"x": [3]}}}), "b", tmp_path, signature, cloud)


def test_engines_need_bounds_of_that_axis(cloud):
    signature = read_signature(cloud)
    with pytest.raises(CompileError, match=r"has a free axis, and .* `profiles: \{x: \{min: \[1, 3\]"):
        profiles(signature, ALONE)
    declared = {"min": [1, 3], "opt": [64, 3], "max": [4096, 3]}
    shapes = profiles(signature, ALONE, {"x": ProfileSpec.parse(declared)})
    assert shapes["x"].plain() == list(declared.values())
    with pytest.raises(CompileError, match=r"has -1 for the batch axis, but the model has none. Fix: Write the bounds"):
        profiles(signature, ALONE, {"x": ProfileSpec.parse({name: [-1, 3] for name in declared})})


def test_no_other_server_joins_requests_either(tmp_path, cloud):
    model = ServedModel.of("m", "onnx", cloud, read_signature(cloud))
    properties = lay_out("torchserve", model, Wishes(ALONE, scratch=tmp_path))[0]["/models/config/config.properties"]
    assert b'"batchSize":1,' in properties
    (tmp_path / "m.joblib").write_bytes(b"")
    trees = ServedModel.of("m", "sklearn", tmp_path / "m.joblib")
    settings = json.loads(lay_out("mlserver", trees, Wishes(ALONE))[0]["/models/m/1/model-settings.json"])
    assert "max_batch_size" not in settings
    saved = ServedModel("m", "tensorflow", {1: ModelFiles("saved_model.pb", {"saved_model.pb": cloud})})
    assert "max_batch_size" not in platform_config(saved, Wishes(ALONE))


def test_an_ensemble_with_such_a_model_joins_none(cloud):
    model = ServedModel.of("cloud", "onnx", cloud, read_signature(cloud))
    steps = [{"model": "cloud", "inputs": {"x": "raw"}, "outputs": {"y": "answer"}}]
    ensemble = EnsembleSpec.parse({"name": "whole", "inputs": ["raw"], "outputs": ["answer"], "steps": steps})
    files, _ = lay_out_ensemble("triton", ensemble, {"cloud": (model, Wishes(ALONE))})
    assert all(is_alone(parse_config(files[f"/models/{name}/config.pbtxt"].decode())) for name in ("cloud", "whole"))


def test_a_request_is_measured_by_itself(cli, tmp_path, cloud):
    data = {"name": "cloud", "source": {"file": "cloud.onnx"}, "builds": {"b": {"engine": "onnxruntime"}}, "batch": "none"}
    (tmp_path / "cloud.yaml").write_text(yaml.safe_dump(data | {"verify": WHOLE}))
    quick = ("--duration", "30ms", "--warm-up", "0s", "--concurrency", "1")
    assert cli("bench", tmp_path / "cloud.yaml", *quick).exit_code == 0
    refused = cli("bench", tmp_path / "cloud.yaml", *quick, "--batch", "4")
    assert refused.exit_code != 0
    assert "--batch" in refused.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": {"axis": "none", "max": 4}}, r"so \['max'\] would have no effect"),
        ({"verify": {"batches": [1, 4]}}, r"verifies batches of \[4\], and the model has no batch axis"),
        ({"batch": {"axis": "second"}}, "use 'first' or 'none'"),
    ],
)
def test_what_contradicts_it_is_refused(changes, words):
    with pytest.raises(SpecError, match=words):
        spec(**changes)


def test_requests_whose_rows_cannot_be_told_apart_are_joined_by_nobody(tmp_path):
    """Four rows of each request in one axis: Triton would give each client a quarter of its own, and others' rows."""
    nodes = [helper.make_node("Reshape", ["x", "to"], ["y"])]
    value = helper.make_tensor_value_info
    x, y = value("x", TensorProto.FLOAT, ["n", 4, 3]), value("y", TensorProto.FLOAT, ["rows", 3])
    graph = helper.make_graph(nodes, "cloud", [x], [y], [numpy_helper.from_array(np.array([-1, 3]), "to")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "cloud.onnx")
    with pytest.raises(ParityError, match="has not one row for each request of a batch"):
        config(tmp_path, spec(batch={}))
    assert config(tmp_path, spec(verify={"generate": {"shapes": {"x": [1, 4, 3]}}})).max_batch_size == 0
