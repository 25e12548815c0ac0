"""Several builds in one image: versions of one model, and the models of an ensemble; each judged, each in the key."""

import numpy as np
import onnx
import pytest
import yaml
from e2e_small_ensemble import ENSEMBLE, halving, write_prepare
from e2e_small_model import FEATURES, write_model_folder
from onnx import TensorProto, helper, numpy_helper

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.layouts.served import LayoutError
from gpuserve_images.layouts.triton_protobuf import parse_config
from gpuserve_images.pipeline.chain import plan
from gpuserve_images.pipeline.job import Job
from gpuserve_images.pipeline.making import make
from gpuserve_images.pipeline.runner import Runner
from gpuserve_images.spec import ModelSpec
from gpuserve_images.target import Target
from gpuserve_images.verify.differences import ParityError


@pytest.fixture
def folder(tmp_path):
    folder = write_model_folder(tmp_path / "model").parent
    write_prepare(folder)
    return folder


def chain(folder, build="fp32", target=None, **changes: object):
    data = yaml.safe_load((folder / "small.yaml").read_text()) | changes
    return plan(Job(ModelSpec.parse(data), build, folder, target or Target()), "registry/base:1")


def made(folder, build="fp32", **changes: object):
    """Return the files of an image by path, and how its build was quantised."""
    with Runner(folder.parent / "cache") as runner:
        found = make(chain(folder, build, **changes), runner)
        return {path: file.read_bytes() for path, file in found.files(runner).items()}, found


def test_the_image_of_each_build_holds_all_versions(folder):
    layout = {"numbers": {1: "fp32", 2: "int8"}, "versions": "all"}
    images = {build: made(folder, build, layout=layout)[0] for build in ("fp32", "int8")}
    assert images["fp32"] == images["int8"]
    files = images["fp32"]
    assert set(files) == {"/models/small/config.pbtxt", "/models/small/1/model.onnx", "/models/small/2/model.onnx"}
    operators = {number: {node.op_type for node in onnx.load_from_string(files[f"/models/small/{number}/model.onnx"]).graph.node}
                 for number in (1, 2)}  # fmt: skip
    assert "QuantizeLinear" in operators[2] - operators[1]
    assert parse_config(files["/models/small/config.pbtxt"].decode()).version_policy.HasField("all")


@pytest.mark.parametrize(
    ("build", "layout", "words"),
    [
        (
            "fp32",
            {"versions": {"only": [3]}},
            r"\(3\): names no versions of the image of build 'fp32' of small, which has \[1\]",
        ),
        ("fp32", {"numbers": {1: "fp32", 2: "int8"}, "versions": {"only": [2, 3]}}, r"\(3\): .* which has \[1, 2\]"),
        ("int8", {"numbers": {1: "fp32"}, "versions": {"only": [2, 3]}}, r"\(2, 3\): .* 'int8' .* which has \[1\]"),
    ],
)
def test_versions_that_an_image_lacks_are_refused_before_anything_runs(folder, build, layout, words):
    with pytest.raises(LayoutError, match=r"layout.versions.only " + words):
        chain(folder, build, layout=layout)


def test_versions_that_another_model_of_an_ensemble_lacks_are_refused_too(folder):
    prepare = yaml.safe_load((folder / "prepare.yaml").read_text()) | {"layout": {"versions": {"only": [5]}}}
    (folder / "prepare.yaml").write_text(yaml.safe_dump(prepare))
    with pytest.raises(LayoutError, match=r"\(5\): names no versions of the image of build '.*' of prepare"):
        chain(folder, layout={"ensemble": ENSEMBLE})


def test_a_build_without_a_number_is_alone(folder):
    builds = {"fp32": {"engine": "onnxruntime"}, "basic": {"engine": "onnxruntime", "optimise": "basic"}}
    files, _ = made(folder, "basic", builds=builds, layout={"numbers": {1: "fp32"}})
    assert {path for path in files if path.endswith(".onnx")} == {"/models/small/1/model.onnx"}
    files, _ = made(folder, "fp32", builds=builds, layout={"numbers": {7: "fp32"}})
    assert {path for path in files if path.endswith(".onnx")} == {"/models/small/7/model.onnx"}


def test_a_version_that_misses_its_bar_is_made_another_way_or_refused(folder):
    builds = yaml.safe_load((folder / "small.yaml").read_text())["builds"]
    layout = {"numbers": {1: "fp32", 2: "int8"}}
    hopeless = builds | {"int8": builds["int8"] | {"verify": {"max_abs_error": 1e-9}}}
    with pytest.raises(ParityError, match="small:int8"):
        made(folder, builds=hopeless, layout=layout)


def test_an_ensemble_is_laid_out_with_its_models(folder):
    files, _ = made(folder, layout={"ensemble": ENSEMBLE})
    assert {"/models/prepare/1/model.onnx", "/models/small/1/model.onnx", "/models/whole/config.pbtxt"} <= set(files)
    config = parse_config(files["/models/whole/config.pbtxt"].decode())
    assert [step.model_name for step in config.ensemble_scheduling.step] == ["prepare", "small"]


def test_what_the_other_model_is_and_says_decides_the_key(folder):
    layout = {"ensemble": ENSEMBLE}
    before = chain(folder, layout=layout).key
    assert chain(folder, layout=layout).key == before
    write_prepare(folder, batch={"max": 4})
    after = chain(folder, layout=layout).key
    assert after != before
    write_prepare(folder, verify={"max_abs_error": 0.5})
    assert chain(folder, layout=layout).key not in {before, after}
    assert chain(folder).key not in {before, after}


def test_another_model_s_own_bars_hold(folder):
    value = helper.make_tensor_value_info
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(FEATURES, FEATURES)).astype(np.float32), "w")
    shape = ["batch", FEATURES]
    x, y = value("x", TensorProto.FLOAT, shape), value("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "mixing", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    rough = {"fp32": {"engine": "onnxruntime", "precision": "int8-dynamic"}}
    write_prepare(folder, model, verify={"max_abs_error": 1e-9}, builds=rough)
    with pytest.raises(ParityError, match="prepare:fp32"):
        made(folder, layout={"ensemble": ENSEMBLE})


def steps(**changes: object):
    return {"ensemble": ENSEMBLE | {"steps": [ENSEMBLE["steps"][0] | changes, ENSEMBLE["steps"][1]]}}


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"numbers": {1: "fp64"}}, "layout.numbers.1 = 'fp64': model 'small' has no such build"),
        (steps(model="prepares"), r"steps\[0\].model = 'prepares': has no YAML file .* did you mean 'prepare'"),
        (steps(build=None), r"steps\[0\].build: does not say which build of prepare goes in"),
        (steps(build="fp16"), r"layout.ensemble.steps\[0\].build = 'fp16': model 'prepare' has no such build"),
        ({"ensemble": ENSEMBLE | {"steps": [ENSEMBLE["steps"][1] | {"build": "fp32"}]}}, r"steps\[0\].build = 'fp32': is a build of this"),
    ],
)  # fmt: skip
def test_what_cannot_be_found_is_said_before_anything_is_built(folder, layout, words):
    with pytest.raises(SpecError, match=words):
        chain(folder, layout=layout)


def test_a_file_of_a_model_with_another_name_is_no_step(folder):
    write_prepare(folder, name="preprocess")
    words = r"steps\[0\].model = 'prepare': is the file prepare.yaml of a model that is called 'preprocess'"
    with pytest.raises(SpecError, match=words):
        chain(folder, layout={"ensemble": ENSEMBLE})


def test_engines_share_no_image(folder):
    builds = {"fp32": {"engine": "onnxruntime"}, "rtx": {"engine": "tensorrt-rtx", "architectures": ["sm_80"]}}
    with pytest.raises(SpecError, match=r"layout.numbers.2 = 'rtx': is built for tensorrt-rtx"):
        chain(folder, builds=builds, layout={"numbers": {1: "fp32", 2: "rtx"}})


def test_options_that_need_an_image_of_their_own(folder):
    write_prepare(folder, layout={"warmup": "samples"})
    with pytest.raises(SpecError, match=r"says `layout\.warmup`, which holds in an image of its own"):
        chain(folder, layout={"ensemble": ENSEMBLE})


def test_two_builds_do_not_share_a_number_twice(folder):
    with pytest.raises(SpecError, match=r"has several numbers for the builds \['fp32'\]"):
        chain(folder, layout={"numbers": {1: "fp32", 2: "fp32"}})


def test_shapes_that_do_not_meet_are_refused_before_anything_is_built(folder):
    write_prepare(folder, halving(FEATURES + 1))
    with pytest.raises(LayoutError, match=r"^layout.ensemble.steps\[1\].inputs.* takes tensor ready with another shape"):
        chain(folder, layout={"ensemble": ENSEMBLE})


def test_shapes_that_an_export_makes_are_compared_before_anything_is_made_of_it(folder, monkeypatch):
    write_prepare(folder, halving(FEATURES + 1))
    monkeypatch.setattr("gpuserve_images.pipeline.stages.wiring.at_hand", lambda *_: None)
    stages = chain(folder, layout={"ensemble": ENSEMBLE})
    with Runner(folder.parent / "cache") as runner:
        with pytest.raises(LayoutError, match="takes tensor ready with another shape"):
            make(stages, runner)
        assert {done.stage for done in runner.done.values()} <= {"source"}


def test_a_server_without_ensembles_refuses_one(folder):
    with pytest.raises(LayoutError, match=r"layout.ensemble: is not a feature of torchserve.*\['triton'\]"):
        chain(folder, target=Target(server="torchserve"), layout={"ensemble": ENSEMBLE})
