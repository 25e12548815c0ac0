"""Whole builds by the commands: judged on the GPU at every batch size, timed there, and kept."""

import json

import pytest
from e2e_small_model import write_model_folder
from e2e_text_model import write_text_model
from typer.testing import CliRunner

from gpuserve.cli.main import app

INT8 = {"precision": "int8", "calibrate": "samples"}


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Run a command and return its JSON."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in (*arguments, "--json")])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.mark.parametrize(
    ("build", "bars"),
    [
        ({}, {"cosine": 0.9999}),
        ({"compile": {"tf32": False}}, {"max_abs_error": 1e-4}),
        ({"precision": "fp16"}, {"cosine": 0.9999}),
        (INT8, {}),
        ({"compile": {"version_compatible": True}}, {"cosine": 0.9999}),
    ],
    ids=["fp32", "without tf32", "fp16", "int8", "version compatible"],
)
def test_a_build_is_judged_and_timed_on_its_gpu(here, said, tmp_path, build, bars):
    spec = {"engine": "tensorrt", "architectures": [here.gpu.architecture], "base": "scratch"} | build
    model = write_model_folder(tmp_path / "model", builds={"engine": spec}, slo={"latency_p95": "1s"})
    made = said("compile", model, "--output", tmp_path / "out")
    ran = made["ran"][here.gpu.architecture]
    assert ran["batches"] == made["parity"]["batches"] == [1, 8, 16]
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["ran_bars"] == {"top1_agreement": 0.9} | bars
    assert made["engines"][here.gpu.architecture]["source"] == "engine"
    assert f"one instance on {here.gpu.name}, copies to and from it included" in made["capacity"]["where"]
    assert made["capacity"]["requests_at_slo"] > 0
    assert made["notes"] == []
    again = said("compile", model, "--output", tmp_path / "again")
    assert {stage["origin"] for stage in again["stages"]} == {"local"}


def test_half_precision_is_the_engines_own(here, said, tmp_path):
    spec = {"engine": "tensorrt", "architectures": [here.gpu.architecture], "base": "scratch", "precision": "fp16"}
    made = said("compile", write_model_folder(tmp_path / "model", builds={"engine": spec}), "--output", tmp_path / "out")
    assert "FP16" in made["engines"][here.gpu.architecture]["precisions"]


def test_a_text_of_any_length_within_its_profile(here, said, tmp_path):
    model = write_text_model(tmp_path / "text.onnx")
    asked = (
        "--arch",
        here.gpu.architecture,
        "--engine",
        "tensorrt",
        "--profile",
        "tokens=-1x1:-1x16:-1x64",
        "--shape",
        "tokens=12",
    )
    made = said("compile", model, *asked, "--output", tmp_path / "out")
    assert made["ran"][here.gpu.architecture]["cosine"] > 0.9999


def test_bench_times_an_engine_over_concurrency(here, said, tmp_path):
    spec = {"engine": "tensorrt", "architectures": [here.gpu.architecture], "base": "scratch"}
    model = write_model_folder(tmp_path / "model", builds={"engine": spec})
    asked = ("--build", "engine", "--concurrency", "1,4", "--batch", "1,16", "--duration", "1s", "--warm-up", "1s")
    capacity = said("bench", model, *asked)["capacity"]
    assert [(point["batch"], point["concurrency"]) for point in capacity["points"]] == [(1, 1), (1, 4), (16, 1), (16, 4)]
    assert all(point["errors"] == 0 and point["requests_per_second"] > 0 for point in capacity["points"])
