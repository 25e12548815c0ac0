"""`gpuserve bench`: in process and against a server, and what it says when it cannot."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_small_model import write_model_folder
from e2e_v2_server import NAME, grpc_server, http_server

from gpuserve_images.onnx_model.session import Session

Cli = Callable[..., Any]
QUICK = ("--duration", "30ms", "--warm-up", "0s")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("bench") / "model", slo={"latency_p95": "10s"}).parent


def points(result: Any) -> list[tuple[int, int]]:
    assert result.exit_code == 0, result.output
    return [(point["batch"], point["concurrency"]) for point in json.loads(result.stdout)["capacity"]["points"]]


def test_a_yaml_brings_its_samples_and_its_slo(cli: Cli, folder: Path) -> None:
    result = cli("bench", folder / "small.yaml", *QUICK, "--concurrency", "2,1", "--batch", "1,4", "--json")
    assert points(result) == [(1, 1), (1, 2), (4, 1), (4, 2)]
    report = json.loads(result.stdout)
    assert report["model"] == "small"
    assert report["capacity"]["latency_p95_ms"] == 10_000
    assert report["capacity"]["at_slo"] > 0


def test_an_onnx_file_alone_gets_generated_inputs(cli: Cli, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = cli("bench", folder / "small.onnx", *QUICK, "--concurrency", "1", "--slo", "50ms", "--html", page, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "1 thread of" in result.stdout
    assert "most with p95 within 50 ms" in result.stdout
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("columns", ["80", "60", "40", None])
def test_no_figure_is_cut_off_in_a_narrow_terminal_or_a_pipe(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    monkeypatch.setenv("COLUMNS", columns or "")
    if columns is None:
        monkeypatch.delenv("COLUMNS")
    result = cli("bench", folder / "small.onnx", *QUICK, "--concurrency", "1")
    assert result.exit_code == 0, result.output
    assert "\N{HORIZONTAL ELLIPSIS}" not in result.stdout
    (heading,) = (line for line in result.stdout.splitlines() if "callers" in line)
    assert {"batch", "callers", "req/s", "p95", "errors"} <= set(heading.split())
    assert len(heading) <= int(columns or 200)
    if columns != "80":
        assert ("no room for" in result.stdout) == (columns is not None)


def test_a_build_is_made_and_measured(cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = cli("bench", folder / "small.yaml", "--build", "int8", *QUICK, "--concurrency", "1", "--json")
    assert points(result) == [(1, 1)]
    assert json.loads(result.stdout)["build"] == "int8"


@pytest.mark.parametrize(
    ("more", "fails", "said"),
    [
        ((), lambda _: True, "no point is without errors"),
        (("--slo", "10s"), lambda _: True, "no point keeps p95 within 10000 ms without errors"),
        (("--batch", "1,4"), lambda batch: batch == 1, "samples/s; no point at batch 1 keeps that without errors"),
    ],
)
def test_a_server_that_fails_some_requests_is_told_so(
    cli: Cli, folder: Path, more: tuple[str, ...], fails: Callable[[int], bool], said: str
) -> None:
    def fail(number: int) -> bool:
        return number % 3 == 0 and fails(got[-1]["head"]["inputs"][0]["shape"][0])

    with http_server(Session(folder / "small.onnx"), fail=fail) as (url, got):
        result = cli("bench", "--url", url, "--model", NAME, "--concurrency", "1", *more, *QUICK)
    assert said in " ".join(result.stdout.split())


def test_a_server_over_http_and_grpc(cli: Cli, folder: Path) -> None:
    session = Session(folder / "small.onnx")
    with http_server(session) as (url, got):
        asked = ("--url", url, "--model", NAME, "--host", "small.example.com", "--concurrency", "1,2", "--json")
        assert points(cli("bench", *asked, *QUICK)) == [(1, 1), (1, 2)]
        assert {request["host"] for request in got} == {"small.example.com"}
        assert points(cli("bench", folder / "small.yaml", "--url", url, "--concurrency", "1", "--json", *QUICK)) == [(1, 1)]
    with grpc_server(session) as (url, sizes):
        asked = ("--url", url.removeprefix("grpc://"), "--protocol", "grpc", "--model", NAME, "--batch", "3", "--json")
        assert points(cli("bench", *asked, "--concurrency", "1", *QUICK)) == [(3, 1)]
        assert set(sizes) == {3}


def test_a_server_that_names_no_inputs_needs_the_model_file(cli: Cli, folder: Path) -> None:
    with http_server(Session(folder / "small.onnx"), metadata={"name": NAME, "inputs": []}) as (url, _):
        alone = cli("bench", "--url", url, "--model", NAME, *QUICK)
        assert (alone.exit_code, "Give the model's YAML or ONNX file" in alone.stderr) == (1, True)
        with_file = cli("bench", folder / "small.onnx", "--url", url, "--model", NAME, "--concurrency", "1", "--json", *QUICK)
        assert points(with_file) == [(1, 1)]


def test_answers_of_a_type_that_numpy_lacks_are_measured(cli: Cli, folder: Path) -> None:
    tensors = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}]}
    tensors["outputs"] = [{"name": "scores", "datatype": "BF16", "shape": [-1, 4]}]
    with http_server(Session(folder / "small.onnx"), metadata={"name": NAME, **tensors}) as (url, _):
        assert points(cli("bench", "--url", url, "--model", NAME, "--concurrency", "1", "--json", *QUICK)) == [(1, 1)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "MODEL: is missing"),
        (["nowhere.onnx"], "MODEL = 'nowhere.onnx': is no file"),
        (["nowhere.yaml"], "does not exist"),
        (["{folder}/small.onnx", "--build", "int8"], "--build = 'int8': names a build, and an ONNX file has none"),
        (["{folder}/small.yaml", "--build", "int9"], "has no such build"),
        (["{folder}/small.onnx", "--concurrency", "1,x"], "--concurrency = '1,x': is not a list of whole numbers"),
        (["{folder}/small.onnx", "--concurrency", "0"], "a number that is not from 1 to 1024"),
        (["{folder}/small.onnx", "--concurrency", "4000"], "a number that is not from 1 to 1024"),
        (["{folder}/small.onnx", "--batch", "-1"], "--batch = '-1': has a number that is not at least 1"),
        (["{folder}/small.onnx", "--duration", "3 parsecs"], "--duration = '3 parsecs': is not a length of time"),
        (["{folder}/small.onnx", "--duration", "0s"], "is no time at all"),
        (["{folder}/small.onnx", "--slo", "fast"], "--slo = 'fast': is not a length of time"),
        (["{folder}/small.onnx", "--shape", "x"], "--shape = 'x': names no input and its sizes"),
        (["{folder}/small.onnx", "--shape", "x=a"], "has a size that is no whole number"),
        (["{folder}/small.onnx", "--shape", "x=9"], "verify.generate.shapes.x ([9]): contradicts the model's input"),
        (["{folder}/small.onnx", "--range", "x=1"], "--range = 'x=1': names no input with its bounds"),
        (["{folder}/small.onnx", "--range", "x=3:1"], "ends at 1 before it starts at 3"),
        (["{folder}/small.onnx", "--range", "y=0:1"], "names no input of the model"),
        (["{folder}/small.onnx", "--host", "a"], "--host = 'a': belongs to a server"),
        (["{folder}/small.onnx", "--html", "/nowhere/a.html"], "lies in a folder that does not exist"),
        (["--url", "http://127.0.0.1:1"], "--model: is required with `--url`"),
        (["--url", "ftp://x", "--model", "m"], "is no address of an inference server"),
        (["--url", "http://127.0.0.1:1", "--model", "m"], "gave no answer"),
        (["--url", "http://127.0.0.1:1", "--model", "m", "--threads", "2"], "--threads: means a model in this process"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(cli: Cli, folder: Path, arguments: list[str], words: str) -> None:
    result = cli(
        "bench", *(argument.format(folder=folder) for argument in arguments), *(() if "--duration" in arguments else QUICK)
    )
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Fix: " in result.stderr
    assert result.stdout == ""


def test_a_file_that_is_no_model_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    result = cli("bench", tmp_path / "m.onnx", *QUICK)
    assert (result.exit_code, "is not an ONNX file" in result.stderr) == (1, True)


@pytest.mark.slow
def test_progress_appears_after_two_seconds_and_an_interrupt_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    program = [sys.executable, "-c", "from gpuserve.cli.main import main; main()"]
    command = [*program, "bench", folder / "small.onnx", "--concurrency", "1,2,4", "--duration", "1s", "--html", page]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "concurrency" in line
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    output, _ = process.communicate(timeout=20)
    assert time.monotonic() - started < 8
    assert (process.returncode, output, page.exists()) == (130, "", False)
