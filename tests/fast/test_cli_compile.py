"""`gpuserve compile`: a model to a folder, from its YAML file or alone, on real files."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from e2e_commands import run
from e2e_small_model import FEATURES
from onnx import helper, numpy_helper

from gpuserve_images.onnx_model.session import Session


def said(*arguments: object):
    return json.loads(run(*arguments, "--json").stdout)


def test_a_yaml_file_to_a_folder(place):
    result = said("compile", "small.yaml", "--build", "int8", "-o", "out")
    assert result["quantisation"] == "static"
    assert result["parity"]["top1_agreement"] >= 0.9
    assert sorted(result["files"]) == ["model.onnx", "report.html", "report.json", "signature.json"]
    outputs = Session(place / "out/model.onnx").run({"x": np.zeros((3, FEATURES), np.float32)})
    assert outputs["scores"].shape == (3, 4)
    assert [stage["origin"] for stage in result["stages"]] == ["made"] * 3


def test_a_file_alone_with_generated_inputs(place):
    result = said("compile", "small.onnx", "--precision", "fp16")
    assert result["output"] == "small-model"
    assert result["parity"]["samples"] == 32
    assert (place / "small-model/model.onnx").is_file()


def test_engines_for_two_gpus(place):
    result = run("compile", "small.onnx", "--arch", "sm_80", "--arch", "sm_89", "-o", "engines")
    assert "sm_80/model.engine" in result.stdout
    assert (place / "engines/sm_89/model.engine").stat().st_size > 1000
    note = "Their differences are those of the ONNX file that they were compiled from, in ONNX Runtime on the CPU."
    report = json.loads((place / "engines/report.json").read_text())
    for told in (result.stdout, (place / "engines/report.html").read_text(), report["notes"][0]):
        assert note in " ".join(told.split())


def test_a_model_that_amplifies_rounding_is_told_so(place):
    """Two convolutions, which ONNX Runtime sums in another order once they are blocked, and the sine of a large number."""
    node, weights = helper.make_node, np.random.default_rng(0).normal(size=(16, 16, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            node("Conv", ["x", "w"], ["first"], pads=[1, 1, 1, 1]),
            node("Conv", ["first", "w"], ["second"], pads=[1, 1, 1, 1]),
            node("Abs", ["second"], ["positive"]),
            node("ReduceMean", ["positive"], ["mean"], axes=[1, 2, 3], keepdims=0),
            node("Mul", ["mean", "factor"], ["large"]),
            node("Sin", ["large"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 16, 12, 12])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.float32(1000), "factor")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), place / "sine.onnx")
    told = " ".join(run("compile", "sine.onnx", fails=True).output.split())
    assert "Fix: The model itself strays by 0.0" in told
    assert told.endswith("if that is good enough, raise scaled_error by `--bar`.")
    run("compile", "sine.onnx", "--bar", "scaled_error=0.1")


def test_nothing_is_run_twice(place):
    run("compile", "small.yaml", "--build", "fp32", "-o", "one")
    assert "every stage was known" in run("compile", "small.yaml", "--build", "fp32", "-o", "two").stdout
    assert (place / "one/model.onnx").read_bytes() == (place / "two/model.onnx").read_bytes()


def test_a_folder_that_is_there_is_left_alone(place):
    (place / "out").mkdir()
    (place / "out/mine").write_text("mine")
    assert "is there already" in run("compile", "small.onnx", "-o", "out", fails=True).output
    run("compile", "small.onnx", "-o", "out", "--force")
    assert (place / "out/mine").read_text() == "mine"
    assert (place / "out/model.onnx").is_file()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"image": np.zeros((1, FEATURES), np.float32)},
            "(['image']): holds other inputs than the model has. Fix: Save exactly ['x']",
        ),
        ({"x": np.zeros((1, 3), np.float32)}, "['x'] (float32 [1, 3]): has another type or shape than the model's input"),
        (
            {"x": np.zeros((1, FEATURES), np.int64)},
            "['x'] (int64 [1, 8]): has another type or shape than the model's input",
        ),
    ],
    ids=["names", "shapes", "types"],
)
def test_a_calibration_set_that_the_model_does_not_take(place, arrays, words):
    (place / "odd").mkdir()
    for number in range(8):
        np.savez(place / f"odd/{number}.npz", **arrays)
    before = sorted(path.name for path in place.iterdir())
    options = ("--precision", "int8", "--bar", "top1_agreement=0.5", "--samples", "samples")
    output = " ".join(run("compile", "small.onnx", *options, "--calibrate", "odd", fails=True).output.split())
    assert words in output
    assert "sample odd/" in output
    assert sorted(path.name for path in place.iterdir()) == before
    run("compile", "small.onnx", *options, "--calibrate", "samples")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.slow
def test_a_build_that_is_ended_leaves_nothing_and_the_next_goes_on_where_it_was(place, tmp_path, end):
    (place / "io.py").write_text(
        "import time, pathlib\n"
        "def encode(path):\n    pathlib.Path('started').touch()\n    time.sleep(60)\n"
        "def decode(outputs): return ''\n"
    )
    text = (place / "small.yaml").read_text()
    (place / "small.yaml").write_text(f"{text}\nio: io.py\n")
    program = "import sys; from gpuserve.cli.main import main; main()"
    command = [sys.executable, "-c", program, "compile", "small.yaml", "--build", "fp32", "-o", "out"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=place) as process:
        while not (place / "started").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(end)
        assert "Traceback" not in process.communicate(timeout=30)[1]
    assert process.returncode == (130 if end is signal.SIGINT else -signal.SIGKILL)
    assert not list(place.glob("*out*"))
    stages = tmp_path / "cache" / "gpuserve" / "images" / "stages"
    assert len(list(stages.glob("verify/.*"))) == (0 if end is signal.SIGINT else 1)
    (place / "small.yaml").write_text(text)
    result = said("compile", "small.yaml", "--build", "fp32", "-o", "out")
    assert [(stage["stage"], stage["origin"]) for stage in result["stages"]] == [
        ("optimise", "local"),
        ("verify", "made"),
        ("capacity", "made"),
    ]
    run("images", "gc")
    assert not list(stages.glob("*/.*"))
