"""Engines through the whole pipeline: converted, judged, compiled, pushed; and what is refused before anything is."""

import json
import sys

import onnx
import pytest
import yaml
from e2e_engines import A100, as_tensorrt
from e2e_small_model import FEATURES, classifier, write_model_folder
from onnx import TensorProto, helper
from typer.testing import CliRunner

from gpuserve.cli.main import app
from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.compile.errors import CompileError
from gpuserve_images.compile.gpus import Gpus
from gpuserve_images.pipeline.build import build
from gpuserve_images.pipeline.key import content_key
from gpuserve_images.spec import load_model
from gpuserve_images.target import Target
from gpuserve_images.verify.attached import attached_report
from gpuserve_images.verify.differences import ParityError
from gpuserve_images.verify.report import VerifyReport

pytestmark = pytest.mark.slow  # whole builds; test_cli_compile and test_model_resource are the quick ones

ENGINE = "engine"
RTX = {"engine": "tensorrt-rtx", "architectures": ["sm_80", "sm_89"]}


@pytest.fixture
def make(tmp_path, registry, request):
    folder = write_model_folder(tmp_path / "model").parent
    path = f"{registry.host}/w{abs(hash(request.node.name)) % 10**8}"

    def run(spec, *, target=Target("gpu"), **changes):  # noqa: B008 - frozen
        data = yaml.safe_load((folder / "small.yaml").read_text()) | {"builds": {ENGINE: spec}} | changes
        (folder / "small.yaml").write_text(yaml.safe_dump(data))
        model = load_model(folder / "small.yaml")
        return build(model, ENGINE, folder=folder, registry=path, cache=tmp_path / "cache", target=target)

    return run


@pytest.mark.parametrize(
    ("changes", "stages", "precision"),
    [
        ({}, ["optimise", "compile", "compile"], "FLOAT"),
        ({"precision": "fp16"}, ["optimise", "fp16", "compile", "compile"], "HALF"),
        ({"precision": "int8", "calibrate": "samples"}, ["optimise", "quantise", "compile", "compile"], "INT8"),
    ],
)
def test_a_precision_is_made_judged_compiled_and_pushed(make, changes, stages, precision):
    report = make(RTX | changes)
    assert report.pushed
    done = [record.stage for record in report.records]
    assert [stage for stage in done if stage in {"optimise", "fp16", "quantise", "compile"}] == stages
    assert report.summary.parity is not None
    attached = attached_report(report.reference)
    assert attached is not None
    assert report.notes == attached.notes
    assert report.notes[0].startswith("Engines that were not run: sm_80, sm_89 (cannot be run here: ")
    assert report.summary.architectures == ("sm_80", "sm_89")
    summaries = [record.options["summary"] for record in report.records if record.stage == "compile"]
    assert all(summary["precisions"].get(precision) for summary in summaries)
    again = make(RTX | changes)
    assert (again.built, again.digest) == (False, report.digest)


def test_the_report_beside_the_engines_says_what_they_are_made_of(make, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    make(RTX | {"precision": "fp16"})
    result = CliRunner().invoke(app, ["compile", str(tmp_path / "model/small.yaml"), "-o", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["engines"]
    assert told["sm_89"]["precisions"]["HALF"] >= 4
    report = VerifyReport.model_validate_json((tmp_path / "out" / "report.json").read_text())
    assert {name: engine.model_dump() for name, engine in report.engines.items()} == told
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<td>sm_89</td>" in page
    assert f"{told['sm_89']['precisions']['HALF']} HALF" in page
    assert "weights" in page


def test_only_the_pools_engine_is_built(make):
    report = make(RTX, target=Target("gpu", "sm_89"))
    assert report.summary.architectures == ("sm_89",)
    with pytest.raises(SpecError, match="makes no engine for sm_90"):
        make(RTX, target=Target("gpu", "sm_90"))


def test_a_build_that_strays_is_not_compiled(make):
    with pytest.raises(ParityError, match="cosine"):
        make(RTX | {"precision": "int8", "calibrate": "samples", "verify": {"cosine": 0.9999999}})


TENSORRT = {"engine": "tensorrt", "architectures": ["sm_80"], "base": "scratch"}
"""With a module of TensorRT's name and interface, less its cross-building: what a machine with the package and no GPU has."""


@pytest.fixture
def tensorrt(monkeypatch, named_tensorrt):
    monkeypatch.setitem(sys.modules, "tensorrt", as_tensorrt())


def begun(tmp_path) -> list[str]:
    return [path.name for path in (tmp_path / "cache" / "stages").glob("*")]


def test_without_its_package_tensorrt_is_refused_before_anything_starts(make, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(CompileError, match=r"pip install 'gpuserve\[tensorrt\]'"):
        make(TENSORRT)
    assert begun(tmp_path) == []


def test_without_the_builder_there_is_no_name_for_what_it_makes(tmp_path, named_tensorrt):
    """A name of an absent version would be one that no machine with the builder ever pushes to."""
    path = write_model_folder(tmp_path / "model", builds={"engine": TENSORRT})
    model, asked = load_model(path), {"folder": path.parent, "target": Target("gpu")}
    named_tensorrt(None)
    words = r"builder is not installed here.*pip install --no-deps 'tensorrt-cu13==11\.1\.0\.106'"
    with pytest.raises(CompileError, match=words):
        content_key(model, "engine", **asked)
    keys = set()
    for version in ("11.1.0.106", "11.4.0.106", "11.1.0.106"):
        named_tensorrt(version)
        keys.add(content_key(model, "engine", **asked))
    assert len(keys) == 2


def test_without_its_gpu_tensorrt_is_refused_before_anything_starts(make, tensorrt, tmp_path):
    with pytest.raises(
        CompileError, match=r"architectures \(sm_80\): is built on a GPU of that architecture with tensorrt 11.4.0"
    ):
        make(TENSORRT)
    assert begun(tmp_path) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_engine_that_was_built_elsewhere_needs_no_gpu_here(make, tensorrt, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("gpuserve_images.pipeline.stages.engines.require_buildable", lambda *_: None)
        elsewhere.setattr("gpuserve_images.compile.tensorrt.require_buildable", lambda *_: A100.name)
        make(TENSORRT)
    report = make(TENSORRT | {"verify": {"max_abs_error": 0.5}})  # another bar, another image, the same engine
    assert report.pushed
    assert [stage.origin for stage in report.stages if stage.stage == "compile"] == ["local"]
    assert list((tmp_path / "home" / "gpuserve" / "timing").glob("tensorrt-11.4.0-*.cache"))


def test_a_free_axis_needs_a_profile_of_the_build(make, tmp_path):
    value = helper.make_tensor_value_info
    node = helper.make_node("Relu", ["x"], ["y"])
    inputs, outputs = ([value(name, TensorProto.FLOAT, ["n", "length"])] for name in "xy")
    model = helper.make_model(helper.make_graph([node], "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "model" / "small.onnx")
    with pytest.raises(CompileError, match=r"Declare `profiles: \{x: "):
        make(RTX)
    assert not (tmp_path / "cache").exists()  # told at plan time: nothing was begun
    profile = {"min": [-1, 1], "opt": [-1, FEATURES], "max": [-1, 64]}
    report = make(RTX | {"profiles": {"x": profile}})
    shapes = [record.options["profiles"] for record in report.records if record.stage == "compile"]
    assert shapes == [{"x": [[1, 1], [8, FEATURES], [16, 64]]}] * 2


def test_a_refittable_engine_without_a_driver_is_refused(make, monkeypatch):
    monkeypatch.setattr("gpuserve_images.compile.gpus.find_gpus", lambda: Gpus(problem="library", reason="no driver", fix="x"))
    with pytest.raises(CompileError, match=r"compile.refit \(True\): needs a GPU's driver"):
        make(RTX | {"compile": {"refit": True}})


def test_a_model_that_tensorrt_does_not_take_is_named(make, tmp_path):
    model = classifier()
    scaler = helper.make_node("Scaler", ["h2"], ["h3"], name="odd", domain="ai.onnx.ml", offset=[0.0], scale=[2.0])
    model.graph.node[2].CopyFrom(scaler)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    onnx.save(model, tmp_path / "model" / "small.onnx")
    with pytest.raises(CompileError, match=r"not accepted by the parser of tensorrt_rtx.*Scaler \(node 'odd'\)"):
        make(RTX)
