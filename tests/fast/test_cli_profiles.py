"""`gpuserve compile --profile`: an engine of a file alone whose text length is free, with shapes as trtexec writes them."""

import json

import onnx
import pytest
from e2e_commands import run_compile as run
from e2e_text_model import write_text_model
from onnx import TensorProto, helper

from gpuserve.cli.bench_options import shapes
from gpuserve.cli.building import choose
from gpuserve.cli.model_file import Options
from gpuserve.cli.profiles import read_profiles

ARCH = ("--arch", "sm_86")


@pytest.fixture
def place(place):
    write_text_model(place / "text.onnx")
    return place


def compiled(place) -> dict[str, list[list[int]]]:
    """The profiles of the one engine that was built."""
    (record,) = (place.parent / "cache").glob("gpuserve/images/stages/compile/*/record.json")
    return json.loads(record.read_text())["record"]["options"]["profiles"]


def spec_of(place, *profiles: str, **options: object):
    return choose(place / "text.onnx", "", Options(architectures=["sm_86"], profiles=profiles, **options)).model


@pytest.mark.parametrize(
    ("arguments", "bounds"),
    [
        (("tokens=1x1:8x64:16x512",), [[1, 1], [8, 64], [16, 512]]),
        (("tokens=-1x1:-1x64:-1x512",), [[1, 1], [8, 64], [32, 512]]),
        (("tokens=-1x1:-1x64:-1x512", "--max-batch", 4), [[1, 1], [4, 64], [4, 512]]),
        (("tokens=-1x48",), [[1, 48], [8, 48], [32, 48]]),
        (("tokens=-1,48",), [[1, 48], [8, 48], [32, 48]]),
    ],
)
def test_an_engine_has_the_shapes_that_were_asked_for(place, arguments, bounds):
    run("text.onnx", *ARCH, "--profile", *arguments, "-o", "out")
    assert (place / "out/sm_86/model.engine").stat().st_size > 1000
    assert compiled(place) == {"tokens": bounds}


def test_sizes_stand_between_crosses_or_commas():
    assert shapes(["image=3x224x224"]) == shapes(["image=3,224,224"]) == {"image": [3, 224, 224]}


def test_the_first_refusal_says_what_to_write(place):
    said = run("text.onnx", *ARCH, fails=True)
    (advice,) = [part for part in said.split("`") if part.startswith("--profile")]
    run("text.onnx", *ARCH, *advice.split(), "-o", "out")
    assert compiled(place) == {"tokens": [[1, 1], [8, 128], [32, 128]]}


def test_without_an_engine_the_refusal_names_the_shape(place):
    said = run("text.onnx", fails=True)
    assert said.startswith("--shape tokens: has open dimensions [-1]")
    (advice,) = [part for part in said.split("`") if part.startswith("--shape tokens=")]
    run("text.onnx", *advice.split(), "-o", "out")
    report = json.loads((place / "out/report.json").read_text())
    assert report["parity"]["samples"] == 32


@pytest.mark.parametrize("arch", [(), ARCH])
def test_the_refusal_of_several_inputs_names_them_all(place, arch):
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "length"]) for name in ("ids:0", "mask:0")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "length"])]
    graph = helper.make_graph([helper.make_node("Mul", ["ids:0", "mask:0"], ["y"])], "two", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), place / "two.onnx")
    said = run("two.onnx", *arch, fails=True)
    advice = said.split("`")[1]
    assert advice.count("ids:0=") == advice.count("mask:0=") == 1
    run("two.onnx", *arch, *advice.split(), "-o", "out")
    assert (place / "out/report.json").is_file()


def test_inputs_are_generated_in_the_tuned_size_unless_another_is_said(place):
    generated = spec_of(place, "tokens=1x1:8x64:16x512").verify.generated
    assert generated is not None
    assert generated.shapes == {"tokens": (64,)}
    other = spec_of(place, "tokens=1x1:8x64:16x512", shapes=["tokens=9"]).verify.generated
    assert other is not None
    assert other.shapes == {"tokens": (9,)}
    assert spec_of(place, "tokens=1x1:8x64:16x512", samples=place / "samples").verify.generated is None


@pytest.mark.parametrize(
    ("profiles", "most", "largest"),
    [
        (("tokens=1x1:8x64:16x512",), 0, 16),
        (("tokens=1x1:8x64:16x512",), 8, 8),
        (("tokens=1x1:8x64:16x512", "mask=1x1:8x64:12x512", "more=-1x4"), 0, 12),
        (("tokens=-1x1:-1x64:-1x512",), 0, 32),
    ],
)
def test_the_largest_batch_is_that_of_the_profiles(place, profiles, most, largest):
    assert spec_of(place, *profiles, max_batch=most).batch.max == largest


def test_names_with_signs_and_several_inputs():
    found = read_profiles(["a=b:0=1x2", "c=1x2:3x4:5x6"])
    assert {name: (profile.min, profile.opt, profile.max) for name, profile in found.items()} == {
        "a=b:0": ((1, 2), (1, 2), (1, 2)),
        "c": ((1, 2), (3, 4), (5, 6)),
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--profile", "tokens"),
            "--profile = 'tokens': names no input and its shapes. Fix: write for example --profile input_ids=",
        ),
        (("--profile", "=1x2"), "--profile = '=1x2': names no input"),
        (("--profile", "tokens="), "--profile = 'tokens=': has '', which is no shape"),
        (("--profile", "tokens=1x1:8;64:16x512"), "has '8;64', which is no shape"),
        (("--profile", "tokens=1x1:8x64"), "has 2 shapes; an engine has three, or one alone"),
        (("--profile", "tokens=1x9:8x64:16x32"), "--profile = 'tokens=1x9:8x64:16x32': wants 9 <= 64 <= 32 on axis 1"),
        (("--profile", "tokens=1x-1"), "has -1 on axis 1"),
        (("--profile", "tokens=1x0"), "has a dimension of 0 on axis 1"),
        (("--profile", "tokens=1x1:8:16x512"), "has shapes of 2, 1 and 2 dimensions"),
        (("--profile", "tokens=1x99999999999"), "--profile = 'tokens=1x99999999999': "),
        (("--profile", "tokens=1x2", "--profile", "tokens=1x3"), "'tokens=1x3': is the second one of input 'tokens'"),
        (("--profile", "tokenz=1x2"), "--profile tokenz: is no input of the model. Fix: did you mean 'tokens'"),
        (("--profile", "tokens=1"), "--profile tokens ([1]): has 1 dimensions, but the input has 2"),
        (("--profile", "tokens=1x1:8x64:16x512", "--max-batch", 32), "Write -1 on the batch axis, or change `--max-batch`"),
        (("--profile", "tokens=1x8", "--shape", "tokenz=8"), "--shape (tokenz): names no input of the model"),
        (("--profile", "tokens=1x8", "--shape", "tokens=a"), "--shape = 'tokens=a': has a size that is no whole number"),
        (
            ("--shape", "tokens=8", "--samples", "samples"),
            "--shape = 'tokens=8': is about generated inputs, and --samples gives",
        ),
    ],
)
def test_bad_input_names_the_option_and_leaves_nothing(place, arguments, words):
    before = sorted(path.name for path in place.iterdir())
    assert words in run("text.onnx", *ARCH, *arguments, fails=True)
    assert sorted(path.name for path in place.iterdir()) == before


def test_a_profile_without_an_engine_or_beside_a_yaml_file_is_refused(place):
    assert "bounds an engine's shapes, and none is made. Fix: add --arch" in run(
        "text.onnx", "--profile", "tokens=1x2", fails=True
    )
    assert "is said in small.yaml, and profiles on the command line too" in run(
        "small.yaml", "--build", "fp32", "--profile", "x=1x2", fails=True
    )


def test_of_a_yaml_file_the_field_is_named(place):
    (place / "text.yaml").write_text(
        "name: text\nsource: {file: text.onnx}\n"
        "builds: {rtx: {engine: tensorrt-rtx, architectures: [sm_86], profiles: {tokens: {min: [1], opt: [1], max: [1]}}}}\n"
    )
    assert run("text.yaml", fails=True).startswith("profiles.tokens ([1]): has 1 dimensions")
