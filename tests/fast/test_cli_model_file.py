"""`gpuserve compile` of a file alone: what its options say in the place of a YAML file, and errors in their words."""

import re

import onnx
import pytest
from e2e_commands import run_compile as run
from e2e_graphs import branching

from gpuserve.cli.building import choose
from gpuserve.cli.model_file import Options
from gpuserve.cli.option_words import by_option
from gpuserve_images.errors import ImageError


def test_a_file_is_a_model_of_a_name_that_a_service_may_have(place):
    long = f"320n_{'x' * 60}"
    (place / "small.onnx").rename(place / f"{long}.onnx")
    run(f"{long}.onnx")
    assert (place / f"model-320n-{'x' * 29}-model" / "model.onnx").is_file()


def test_generated_inputs_have_the_values_that_are_said(place):
    options = Options(ranges=["x=5:6", "a=b:0=0:1"])
    generated = choose(place / "small.onnx", "", options).model.verify.generated
    assert generated is not None
    assert generated.ranges == {"x": (5, 6), "a=b:0": (0, 1)}
    run("small.onnx", "--range", "x=5:6", "-o", "out")
    assert (place / "out/model.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("small.yaml",), "has several builds. Fix: use one of 'fp32', 'int8'"),
        (("small.yaml", "--build", "int9"), "did you mean 'int8'"),
        (("small.yaml", "--build", "fp32", "--precision", "fp16"), "change the YAML file"),
        (("none.onnx",), "does not exist"),
        (("small.onnx", "--build", "x"), "leave it out"),
        (("small.onnx", "--precision", "int8"), "add --calibrate with"),
        (("small.onnx", "--precision", "int8", "--calibrate", "samples"), "add for example --bar"),
        (("small.onnx", "--precision", "int8-dynamic"), "--precision = 'int8-dynamic': strays from the source"),
        (("small.onnx", "--precision", "int4"), "--precision = 'int4': is not one of the possible values"),
        (("small.onnx", "--engine", "rtx"), "--engine = 'rtx': is not one of the possible values"),
        (("small.onnx", "--format", "onx"), "--format = 'onx': is not one of the possible values"),
        (("small.onnx", "--arch", "80"), "--arch = '80': is not a GPU architecture"),
        (("small.onnx", "--gpu", "80"), "--gpu = '80': is not a GPU architecture"),
        (("small.onnx", "--name", "Small"), "--name = 'Small': is not a DNS label"),
        (("small.onnx", "--bar", "cosine"), "write for example --bar cosine=0.99"),
        (("small.onnx", "--bar", "cosin=0.9"), "--bar = 'cosin=0.9': names no bar. Fix: did you mean 'cosine'"),
        (("small.onnx", "--bar", "cosine=2"), "--bar cosine = 2.0: is not from -1 to 1"),
        (("small.onnx", "--range", "x=1"), "--range = 'x=1': names no input with its bounds"),
        (("small.onnx", "--range", "x=2:1"), "--range x = [2.0, 1.0]: ends at 1 before it starts at 2"),
        (("small.onnx", "--range", "y=0:1"), "--range (y): names no input of the model"),
        (
            ("small.onnx", "--range", "x=0:1", "--samples", "samples"),
            "is about generated inputs, and --samples gives real ones",
        ),
        (("small.onnx", "--precision", "fp16", "--bar", "max_abs_error=1e-9"), "strays too far"),
        (("small.onnx", "--engine", "tensorrt"), "Fix: add `--arch` with your GPU's, for example `--arch sm_80`"),
        (
            ("small.onnx", "--arch", "sm_90"),
            "Fix: write `--engine tensorrt`, which is built on that GPU, or `--engine onnxruntime`",
        ),
        (("small.onnx", "--arch", "sm_86", "--gpu", "sm_89"), "--arch = ['sm_86']: makes no engine for sm_89"),
        (("small.onnx", "--arch", "sm_86", "--gpu", "sm_89"), "Fix: add `--arch sm_89`"),
        (("two",), "Fix: Name one of these files itself."),
        (("samples",), "Fix: Name the file itself, and what it is with `--format`"),
        (("small.onnx", "--samples", "arrays"), "(`io:` stands in a model's YAML: compile that instead of the file)"),
        (
            ("small.onnx", "--precision", "fp16", "--bar", "max_abs_error=1e-9"),
            "Fix: Build it in fp32; or, if that is good enough, raise max_abs_error by `--bar`. `--keep-fp32` would not do",
        ),
        (("broken.onnx",), "truncated ONNX file"),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_nothing(place, arguments, words):
    (place / "broken.onnx").write_bytes((place / "small.onnx").read_bytes()[:300])
    for folder in ("two", "arrays"):
        (place / folder).mkdir()
    for name in ("one.onnx", "other.onnx"):
        (place / "two" / name).write_bytes((place / "small.onnx").read_bytes())
    (place / "arrays" / "0.npy").write_bytes(b"\x93NUMPY")
    before = sorted(path.name for path in place.iterdir())
    assert words in run(*arguments, fails=True)
    assert sorted(path.name for path in place.iterdir()) == before


def test_errors_of_later_stages_name_the_file_that_was_given(place):
    onnx.save(branching(), place / "branching.onnx")
    for _ in range(2):  # the second time without the stage before
        refused = run("branching.onnx", "--shape", "x=3", "--precision", "fp16", fails=True)
        assert refused.startswith(f"{place / 'branching.onnx'} after optimise (If): has control flow")


def test_what_to_keep_is_said_as_options_that_do_it(place):
    arguments = ("small.onnx", "--precision", "fp16", "--bar", "max_abs_error=0.0012")
    told = re.search(r"Fix: Give `(--keep-fp32 .*?)`: with \d of its 4 layers", run(*arguments, fails=True))
    assert told
    run(*arguments, *told[1].split())
    assert "--keep-fp32 (hed): is neither an operator nor a node" in run(
        *arguments, "--keep-fp32", "hed", "--force", fails=True
    )
    assert "remove `--keep-fp32`, or write another `--precision`" in run(
        "small.onnx", "--keep-fp32", "head", "--force", fails=True
    )


def test_names_are_quoted_for_the_shell():
    text = "Write `keep_fp32: [a, 'b: c']` in the build: with 2 of its 9 layers, it is. Or build it in fp32."
    told = by_option(ImageError("build model: verify", "strays", text)).fix
    assert told == "Give `--keep-fp32 a --keep-fp32 'b: c'`: with 2 of its 9 layers, it is. Or build it in fp32."


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Write `precision: int8` with `calibrate:`.", "Write `--precision int8` with `--calibrate`."),
        ("Say it, for example `shapes: {a b: [3, 16]}`.", "Say it, for example `--shape 'a b=3,16'`."),
        ("Declare `profiles: {a: {min: [1], opt: [2], max: [3]}}` with", "Give `--profile a=1:2:3` with"),
    ],
)
def test_fixes_name_options(said, told):
    assert by_option(ImageError("build model", "strays", said)).fix == told
