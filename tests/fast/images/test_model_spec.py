"""What a model's YAML may say, and what it answers when it says something else."""

import json
from pathlib import Path

import pytest
import yaml
from e2e_small_model import write_model_folder

from gpuserve.kubernetes.errors import SpecError
from gpuserve.kubernetes.spec import plain
from gpuserve_images.spec import ModelSpec, load_model
from gpuserve_images.verify.spec import BarsSpec

MODELS = Path(__file__).parents[3] / "stacks" / "models"
GOOD = {
    "name": "small",
    "source": {"file": "small.onnx"},
    "builds": {"fp32": {"engine": "onnxruntime"}},
    "verify": {"inputs": "samples"},
}
RTX = {"engine": "tensorrt-rtx", "architectures": ["sm_80"]}
INT8 = {"engine": "onnxruntime", "precision": "int8", "calibrate": "samples"}
PROFILE = {"min": [1, 8], "opt": [8, 8], "max": [16, 8]}


def problems(**changes: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        ModelSpec.parse(GOOD | changes, file="small.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_model_of_the_repository_loads(path):
    assert load_model(path).name == path.stem


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"sources": {}}, "sources", "did you mean 'source'?"),
        ({"name": "My Model"}, "name", "not a DNS label"),
        ({"source": {}}, "source", "one of `file:`, `url:`, or `package:`"),
        ({"source": {"file": "a.onnx", "package": "magika", "path": "b"}}, "source", "one of `file:`, `url:`, or `package:`"),
        ({"source": {"package": "magika"}}, "source", "belong together"),
        ({"source": {"package": "magika", "path": "../../etc/passwd"}}, "source.path", "leaves the package"),
        ({"source": {"package": "magika", "path": "/etc/passwd"}}, "source.path", "leaves the package"),
        ({"builds": {}}, "builds", "at least 1"),
        ({"builds": {"fp32": {"engine": "onnx"}}}, "builds.fp32.engine", "'onnxruntime'"),
        (
            {"builds": {"fp32": {"engine": "onnxruntime", "precison": "int8"}}},
            "builds.fp32.precison",
            "did you mean 'precision'?",
        ),
        ({"builds": {"int8": {"engine": "onnxruntime", "precision": "int8"}}}, "builds.int8", "add `calibrate:`"),
        ({"builds": {"fp32": {"engine": "onnxruntime", "calibrate": "samples"}}}, "builds.fp32", "remove `calibrate:`"),
        ({"builds": {"rtx": {"engine": "tensorrt-rtx"}}}, "builds.rtx", "add `architectures:"),
        ({"builds": {"rtx": {"engine": "tensorrt-rtx", "architectures": ["ampere"]}}}, "builds.rtx.architectures", "sm_80"),
        ({"builds": {"fp32": {"engine": "onnxruntime", "architectures": ["sm_80"]}}}, "builds.fp32", "remove `architectures:`"),
        ({"builds": {"a": RTX | {"precision": "int8-dynamic"}}}, "builds.a", "dynamically, which TensorRT does not take"),
        (
            {"builds": {"a": {"engine": "onnxruntime", "precision": "fp16", "optimise": "extended"}}},
            "builds.a",
            "write `optimise: basic`",
        ),
        ({"builds": {"a": RTX | {"optimise": "extended"}}}, "builds.a", "write `optimise: basic`"),
        ({"builds": {"a": RTX | {"compile": {"timing_cache": True}}}}, "builds.a", "tensorrt-rtx has no timing cache"),
        ({"builds": {"a": RTX | {"compile": {"version_compatible": True}}}}, "builds.a", "ships no lean runtime"),
        (
            {"builds": {"a": RTX | {"compile": {"hardware_compatibility": "ampere-plus"}}}},
            "builds.a",
            "list every GPU in `architectures:`",
        ),
        (
            {"builds": {"a": RTX | {"compile": {"optimisation_level": 6}}}},
            "builds.a.compile.optimisation_level",
            "less than or",
        ),
        ({"builds": {"a": {"engine": "onnxruntime", "compile": {"refit": True}}}}, "builds.a", "remove `compile:`"),
        ({"builds": {"a": {"engine": "onnxruntime", "profiles": {"x": PROFILE}}}}, "builds.a", "remove `profiles:`"),
        ({"builds": {"a": {"engine": "tensorrt"}}}, "builds.a", "add `architectures:"),
        ({"builds": {"a": {"engine": "onnxruntime", "keep_fp32": ["Pow"]}}}, "builds.a", "remove `keep_fp32:`"),
        (
            {"builds": {"a": RTX | {"profiles": {"x": PROFILE | {"min": [1]}}}}},
            "builds.a.profiles.x",
            "shapes of 1, 2 and 2 dimensions",
        ),
        (
            {"builds": {"a": RTX | {"profiles": {"x": PROFILE | {"min": [9, 8]}}}}},
            "builds.a.profiles.x",
            "9 <= 8 <= 16 on axis 0",
        ),
        ({"builds": {"a": RTX | {"profiles": {"x": PROFILE | {"max": [16, -1]}}}}}, "builds.a.profiles.x", "-1 on axis 1"),
        (
            {"builds": {"a": RTX | {"profiles": {"x": PROFILE | {"min": [0, 8]}}}}},
            "builds.a.profiles.x",
            "dimension of 0 on axis 0",
        ),
        ({"builds": {"int8": INT8}}, "", "no bar judges build 'int8'"),
        ({"verify": {"inputs": []}}, "verify.inputs", "at least 1"),
        ({"verify": {"inputs": "samples", "top1_agreement": 99}}, "verify.top1_agreement", "is not from 0 to 1"),
        (
            {"verify": {"generate": {"seed": 2**53}}},
            "verify.generate.seed = 9007199254740992",
            "less than or equal to 9007199254740991",
        ),
        ({"batch": {"max": 4, "preferred": [8]}}, "batch", "above the largest batch 4"),
        ({"batch": {"queue_delay": "1 minute"}}, "batch.queue_delay", "is not a length of time"),
        ({"batch": {"queue_delay": "9999999999h"}}, "batch", "lets a request wait 9999999999h for company, and 1h is the most"),
        ({"layout": {"instances": [{"gpus": [2**31]}]}}, "layout.instances[0].gpus[0]", "less than or equal to 2147483647"),
        ({"slo": {"availability": "101%"}}, "slo.availability", "over 100 percent"),
    ],
)
def test_a_wrong_model_is_refused_with_field_and_fix(changes, field, words):
    (problem,) = problems(**changes)
    assert problem.startswith(f"small.yaml: {field}")
    assert words in problem


def test_all_problems_of_a_file_come_at_once():
    assert len(problems(name="No Name", batch={"max": 0}, slo={"availability": "200"})) == 3


def test_a_missing_file_names_the_models_there_are(tmp_path):
    write_model_folder(tmp_path / "models")
    with pytest.raises(SpecError, match=r"does not exist.*\['small'\]"):
        load_model(tmp_path / "models" / "smal.yaml")


@pytest.mark.parametrize(
    ("text", "words"), [("name: [", "is not YAML"), ("just text", "is not a mapping"), ("", "is not a mapping")]
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, words):
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=words):
        load_model(path)


def test_a_build_overrides_the_models_bars_and_fp32_has_a_default():
    model = ModelSpec.parse(
        GOOD
        | {
            "builds": {"fp32": {"engine": "onnxruntime"}, "int8": INT8 | {"verify": {"top1_agreement": 0.9}}},
            "verify": {"inputs": "samples", "top1_agreement": 0.99, "cosine": 0.5},
        }
    )
    assert model.bars("fp32") == BarsSpec(top1_agreement=0.99, cosine=0.5, scaled_error=1e-4)
    assert model.bars("int8") == BarsSpec(top1_agreement=0.9, cosine=0.5)
    half = ModelSpec.parse(GOOD | {"builds": {"fp16": {"engine": "onnxruntime", "precision": "fp16"}}})
    assert half.bars("fp16") == BarsSpec(cosine=0.9999)


@pytest.mark.parametrize(
    ("build", "verify", "bars"),
    [
        ({}, {}, {"cosine": 0.9999}),
        ({}, {"top1_agreement": 0.9}, {"cosine": 0.9999, "top1_agreement": 0.9}),
        ({}, {"cosine": 0.99}, {"cosine": 0.99}),
        ({}, {"max_abs_error": 0.1}, {"max_abs_error": 0.1}),
        ({}, {"scaled_error": 1e-5}, {"scaled_error": 1e-5}),
        ({"compile": {"tf32": False}}, {}, {"scaled_error": 1e-4}),
        ({"precision": "fp16"}, {}, {"cosine": 0.9999}),
    ],
)
def test_an_engine_is_held_to_what_its_numbers_can_meet(build, verify, bars):
    """TF32, which TensorRT rounds products of fp32 numbers to, is no nearer than FP16."""
    spec = {"engine": "tensorrt", "architectures": ["sm_80"]} | build
    model = ModelSpec.parse({"name": "small", "source": {"file": "small.onnx"}, "builds": {"engine": spec}, "verify": verify})
    assert model.engine_bars("engine").stated() == bars
    default = {} if "max_abs_error" in verify else {"scaled_error": 1e-4}
    file = default | verify if spec.get("precision") != "fp16" else bars
    assert model.bars("engine").stated() == file


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("where", ["build", "model"])
def test_a_bar_of_none_judges_nothing_and_no_default_takes_its_place(precision, where):
    none = {"max_abs_error": "none"} if precision == "fp32" else {"cosine": "none"}
    build = {"engine": "onnxruntime", "precision": precision} | ({"verify": none} if where == "build" else {})
    bars = {"top1_agreement": 0.9} | (none if where == "model" else {})
    model = ModelSpec.parse(GOOD | {"builds": {"b": build}, "verify": {"inputs": "samples"} | bars})
    assert model.bars("b").stated() == {"top1_agreement": 0.9}
    with pytest.raises(SpecError, match="no bar judges build 'b'"):
        ModelSpec.parse(GOOD | {"builds": {"b": build | {"verify": none}}, "verify": {"inputs": "samples"}})


@pytest.mark.parametrize(
    ("bar", "value", "words"),
    [
        (
            "max_abs_error",
            float("inf"),
            "is no finite number, so it judges nothing. Fix: write a number such as 0.01, or `none`",
        ),
        ("cosine", float("nan"), "is no finite number, so it judges nothing. Fix: write a number such as 0.999, or `none`"),
        ("scaled_error", True, "is no finite number"),
        ("max_rel_error", "much", "is no finite number"),
        ("max_abs_error", 0, "is not above 0. Fix: write a number such as 0.01, or `none`"),
        ("top1_agreement", 97, "is not from 0 to 1. Fix: write a number such as 0.99, or `none`"),
        ("cosine", -2, "is not from -1 to 1"),
    ],
)
def test_a_bar_that_judges_nothing_is_refused(bar, value, words):
    with pytest.raises(SpecError) as caught:
        ModelSpec.parse(GOOD | {"verify": {"inputs": "samples", bar: value}})
    assert f"verify.{bar}" in str(caught.value)
    assert words in str(caught.value)


def test_generated_values_have_finite_edges():
    with pytest.raises(SpecError, match=r"verify\.generate\.ranges\.x.*has an edge that is no finite number"):
        ModelSpec.parse(GOOD | {"verify": {"generate": {"ranges": {"x": [0, float("inf")]}}, "top1_agreement": 0.9}})


def test_batch_sizes_to_verify_follow_the_batching():
    assert ModelSpec.parse(GOOD).verify_batches() == (1, 8, 32)
    assert ModelSpec.parse(GOOD | {"batch": {"max": 4}}).verify_batches() == (1, 4)
    assert ModelSpec.parse(GOOD | {"verify": {"inputs": "samples", "batches": [2]}}).verify_batches() == (2,)


def test_a_folder_may_be_written_short():
    short, long = (ModelSpec.parse(GOOD | {"verify": {"inputs": inputs}}) for inputs in ("samples", [{"folder": "samples"}]))
    assert short == long


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": "none"},
        {"layout": {"versions": "all", "instances": 2}},
        {"bake": {"form": "artifact"}, "builds": {"a": {"engine": "native", "base": "scratch"}}},
        {"builds": {"a": RTX | {"compile": {"tf32": False}}}},
    ],
)
def test_a_spec_survives_its_way_to_a_provider(changes):
    spec = ModelSpec.parse(GOOD | changes)
    assert ModelSpec.parse(json.loads(json.dumps(plain(spec)))) == spec
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_spec_survives_yaml(tmp_path):
    path = write_model_folder(tmp_path / "model")
    assert load_model(path) == ModelSpec.parse(yaml.safe_load(path.read_text(encoding="utf-8")))
