"""The content key changes with everything that decides the content, and with nothing else."""

import shutil

import onnx
import pytest
from e2e_small_model import classifier, write_model_folder

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.pipeline.job import engine_architectures
from gpuserve_images.pipeline.key import content_key, image_reference, image_tag
from gpuserve_images.spec import ModelSpec, load_model
from gpuserve_images.target import Target
from gpuserve_images.verify.spec import SloSpec

CPU = Target()


@pytest.fixture
def folder(tmp_path):
    return write_model_folder(tmp_path / "model").parent


def key_of(folder, build="int8", target=CPU, **changes: object) -> str:
    model = load_model(folder / "small.yaml")
    data = model.model_dump(exclude_none=True) | changes
    return content_key(ModelSpec.parse(data), build, folder=folder, target=target, base="registry/base:1")


def test_it_does_not_depend_on_place_or_time(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert key_of(folder) == key_of(tmp_path / "elsewhere")


def test_a_promise_of_the_service_is_no_content(folder):
    assert key_of(folder) == key_of(folder, slo={"latency_p95": "1s"})


def test_an_unrelated_file_is_no_content(folder):
    before = key_of(folder)
    (folder / "notes.txt").write_text("nothing")
    assert key_of(folder) == before


CHANGES = {
    "name": {"name": "other"},
    "batch": {"batch": {"max": 4}},
    "queue delay": {"batch": {"queue_delay": "5ms"}},
    "bar": {"verify": {"inputs": "samples", "top1_agreement": 0.8}},
    "verification samples": {"verify": {"inputs": {"folder": "samples", "limit": 50}, "top1_agreement": 0.9}},
    "calibration method": {
        "builds": {
            "int8": {"engine": "onnxruntime", "precision": "int8", "calibrate": {"inputs": "samples", "method": "minmax"}}
        }
    },
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_every_option_is_content(folder, changes):
    assert key_of(folder) != key_of(folder, **changes)


def test_files_are_content(folder):
    keys = {key_of(folder)}
    onnx.save(classifier(1), folder / "small.onnx")
    keys.add(key_of(folder))
    sample = next((folder / "samples").iterdir())
    sample.write_bytes(sample.read_bytes() + b"\0")
    keys.add(key_of(folder))
    (folder / "io.py").write_text("def encode(path): ...\ndef decode(outputs): ...\n")
    keys.add(key_of(folder, io="io.py"))
    (folder / "io.py").write_text("def encode(path): pass\ndef decode(outputs): pass\n")
    keys.add(key_of(folder, io="io.py"))
    assert len(keys) == 5


def test_builds_servers_and_bases_are_content(folder):
    model = load_model(folder / "small.yaml")
    keys = {
        content_key(model, build, folder=folder, target=target, base=base)
        for build in model.builds
        for target in (CPU, Target("gpu"))
        for base in ("a/b:1", "a/b:2")
    }
    assert len(keys) == 8


def test_an_onnx_image_serves_every_gpu_architecture(folder):
    assert key_of(folder, target=Target("gpu", "sm_80")) == key_of(folder, target=Target("gpu", "sm_90"))


def test_tool_versions_are_content(folder, monkeypatch):
    before = key_of(folder)
    monkeypatch.setattr("gpuserve_images.pipeline.stages.models.tool_versions", lambda *names: dict.fromkeys(names, "0"))
    assert key_of(folder) != before


def test_the_default_base_is_the_recipe_of_the_target(folder, monkeypatch):
    model = load_model(folder / "small.yaml")
    before = content_key(model, "fp32", folder=folder, target=CPU)
    assert before == content_key(model, "fp32", folder=folder, target=CPU, base="triton-cpu")
    monkeypatch.setattr("gpuserve_images.bases.serving.recipe_tag", lambda _: "changed")
    assert before != content_key(model, "fp32", folder=folder, target=CPU)


RTX = {"engine": "tensorrt-rtx", "architectures": ["sm_80", "sm_89"]}


def test_engines_know_their_architectures_and_no_server(folder):
    builds = {"builds": {"rtx": RTX}}
    both, one = (key_of(folder, "rtx", target, **builds) for target in (CPU, Target("gpu", "sm_80")))
    assert both != one
    assert both == key_of(folder, "rtx", Target("gpu"), **builds)


def test_the_wrong_gpu_is_refused_at_plan_time(folder):
    with pytest.raises(SpecError, match=r"builds.rtx.architectures.*makes no engine for sm_90.*add sm_90"):
        key_of(folder, "rtx", Target("gpu", "sm_90"), builds={"rtx": RTX})
    spec = ModelSpec.parse(load_model(folder / "small.yaml").model_dump(exclude_none=True) | {"builds": {"rtx": RTX}})
    assert engine_architectures("rtx", spec.builds["rtx"], Target("gpu", "sm_89")) == ("sm_89",)


def test_an_unknown_build_names_the_near_one(folder):
    with pytest.raises(SpecError, match="did you mean 'int8'"):
        key_of(folder, "int9")


@pytest.mark.parametrize(
    ("registry", "fix"),
    [
        ("https://localhost:5000/models", "write 'localhost:5000/models'"),
        ("localhost:5000/models/", "write 'localhost:5000/models'"),
        ("localhost:5000/Models", "write 'localhost:5000/models'"),
        ("localhost:5000/models:1", "write for example 'localhost:5000/models'"),
        ("", "write for example 'localhost:5000/models'"),
        (None, "write for example 'localhost:5000/models'"),
    ],
)
def test_what_is_no_registry_is_refused_before_it_is_asked(folder, registry, fix):
    model = load_model(folder / "small.yaml")
    with pytest.raises(SpecError) as caught:
        image_reference(model, "0" * 64, registry)
    assert str(caught.value).startswith("registry")
    assert str(caught.value).endswith(
        f"is no registry with a path of lower-case names, without a scheme and without a tag. Fix: {fix}"
    )


@pytest.mark.parametrize(
    "registry", ["localhost", "localhost:5000", "mine", "registry.example.com/ml-dev/a_b", "[::1]:5000/models"]
)
def test_a_registry_may_have_any_path_or_none(folder, registry):
    assert image_reference(load_model(folder / "small.yaml"), "0" * 64, registry).startswith(f"{registry}/small:")


def test_the_reference_is_known_without_building(folder):
    model = load_model(folder / "small.yaml")
    key = key_of(folder)
    assert image_reference(model, key, "localhost:5000/models") == f"localhost:5000/models/small:{image_tag(key)}"
    assert len(image_tag(key)) == 40
    assert model.slo is None
    assert SloSpec().availability is None
