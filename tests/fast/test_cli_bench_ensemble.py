"""`gpuserve bench` of a model that answers as part of an ensemble: what its clients ask is measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e_small_ensemble import ENSEMBLE, write_prepare
from e2e_small_model import write_model_folder
from e2e_v2_server import http_server

from gpuserve_images.layouts.spec import EnsembleSpec
from gpuserve_images.onnx_model.session import Session
from gpuserve_images.verify.ensemble import EnsembleRunner

Cli = Callable[..., Any]
QUICK = ("--duration", "30ms", "--warm-up", "0s", "--concurrency", "1", "--json")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_model_folder(tmp_path / "model", layout={"ensemble": ENSEMBLE}).parent
    write_prepare(folder, verify={"generate": {"ranges": {"x": [5, 6]}}})
    return folder


def whole(folder: Path) -> EnsembleRunner:
    return EnsembleRunner(
        EnsembleSpec.parse(ENSEMBLE), {name: Session(folder / f"{name}.onnx") for name in ("prepare", "small")}
    )


def measured(result: Any) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["capacity"]["at_slo"] > 0
    return found


def names(got: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(request["path"], tensor["name"]) for request in got for tensor in request["head"]["inputs"]}


def test_a_server_is_asked_for_the_ensemble(cli: Cli, folder: Path) -> None:
    with http_server(whole(folder), name="whole", binary=False) as (url, got):
        report = measured(cli("bench", folder / "small.yaml", "--url", url, "--batch", "1,4", *QUICK))
        assert report["model"] == "small"
        assert names(got) == {("/v2/models/whole/infer", "raw")}
        values = [value for request in got for value in request["head"]["inputs"][0]["data"]]
        assert (min(values) >= 5, max(values) <= 6) == (True, True)
        got.clear()
        measured(cli("bench", folder / "small.yaml", "--url", url, "--range", "raw=1:2", *QUICK))
        assert all(1 <= value <= 2 for request in got for value in request["head"]["inputs"][0]["data"])


def test_one_of_its_models_can_be_asked_by_its_name(cli: Cli, folder: Path) -> None:
    with http_server(Session(folder / "small.onnx")) as (url, got):
        measured(cli("bench", folder / "small.yaml", "--url", url, "--model", "small", *QUICK))
        assert names(got) == {("/v2/models/small/infer", "x")}


def test_a_build_in_this_process_is_the_ensemble(cli: Cli, folder: Path) -> None:
    report = measured(cli("bench", folder / "small.yaml", "--build", "fp32", "--threads", "1", *QUICK))
    assert report["capacity"]["where"].startswith("ensemble whole of prepare, small in process")
    assert "1 thread of" in report["capacity"]["where"]


def test_an_option_about_no_input_of_the_ensemble_is_refused(cli: Cli, folder: Path) -> None:
    for option, text in (("--shape", "x=8"), ("--range", "x=0:1")):
        refused = cli("bench", folder / "small.yaml", "--build", "fp32", option, text, *QUICK)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert f"{option} = 'x': is no input of ensemble whole. Fix: " in refused.stderr


def test_a_source_that_is_no_onnx_file_is_described_by_the_server(cli: Cli, folder: Path) -> None:
    pytest.importorskip("sklearn")
    import joblib
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    model = LogisticRegression().fit(random.normal(size=(40, 8)), random.integers(0, 4, 40))
    joblib.dump(model, folder / "small.joblib")
    path = folder / "small.yaml"
    data = {**yaml.safe_load(path.read_text()), "source": {"file": "small.joblib", "format": "sklearn"}, "layout": {}}
    path.write_text(yaml.safe_dump(data))
    with http_server(Session(folder / "small.onnx")) as (url, got):
        measured(cli("bench", path, "--url", url, *QUICK))
        assert names(got) == {("/v2/models/small/infer", "x")}
    refused = cli("bench", path, *QUICK)
    assert (refused.exit_code, "--build: is required: the source is no ONNX model" in refused.stderr) == (1, True)
