"""Layouts in the real MLServer: the answers of scikit-learn, XGBoost and LightGBM over the v2 protocol are the frameworks' own."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
from environments import environment, run, unpacked
from server_process import server_process
from v2_client import free_port, get, infer, wait_until_ready

from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.mlserver import SCRATCH
from gpuserve_images.layouts.served import ModelFiles, ServedModel, Wishes
from gpuserve_images.layouts.spec import BatchSpec, LayoutSpec

pytestmark = pytest.mark.slow
FRAMEWORKS = {"sklearn": "sklearn.joblib", "xgboost": "xgboost.json", "lightgbm": "lightgbm.txt"}


@pytest.fixture(scope="module")
def python():
    return environment("mlserver")


@pytest.fixture(scope="module")
def trained(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run(str(python), str(Path(__file__).parent / "train_models.py"), str(folder))
    return folder


@contextmanager
def server(python: Path, models: Path, scratch: Path) -> Iterator[tuple[str, str]]:
    """Yield the addresses of the API and of the metrics of an MLServer."""
    http, metrics = free_port(), free_port()
    ports = {"MLSERVER_HTTP_PORT": str(http), "MLSERVER_GRPC_PORT": str(free_port()), "MLSERVER_METRICS_PORT": str(metrics)}
    log = scratch / "mlserver.log"
    settings = models / "settings.json"
    settings.write_text(settings.read_text().replace(SCRATCH, str(scratch / "mlserver")))
    command = [str(python.parent / "mlserver"), "start", str(models)]
    environ = {**os.environ, **ports, "MLSERVER_HOST": "127.0.0.1"}
    with server_process(command, log, env=environ, cwd=scratch) as process:
        wait_until_ready(f"http://127.0.0.1:{http}/v2/health/ready", process, log)
        yield f"127.0.0.1:{http}", f"127.0.0.1:{metrics}"


def laid(trained, framework, tmp_path, name="", **options):
    model = ServedModel.of(name or framework, framework, trained / FRAMEWORKS[framework])
    files, _ = lay_out("mlserver", model, Wishes(batch=BatchSpec(max=8), options=LayoutSpec.parse(options)))
    return unpacked(files, tmp_path / "image") / "models"


def test_each_framework_answers_as_it_does_itself(python, trained, tmp_path):
    for framework in FRAMEWORKS:
        models = laid(trained, framework, tmp_path)
    expected = np.load(trained / "answers.npz")
    with server(python, models, tmp_path) as (address, metrics):
        for framework in FRAMEWORKS:
            answer = infer(address, framework, {"x": expected["x"]})
            np.testing.assert_allclose(answer["predict"].ravel(), expected[framework], rtol=1e-6, err_msg=framework)
            assert get(f"http://{address}/v2/models/{framework}/versions/1")["platform"] == framework
        assert 'model_infer_request_success_total{model="sklearn"' in get(f"http://{metrics}/metrics")


def test_requests_of_many_clients_keep_their_own_answers_in_shared_batches(python, trained, tmp_path):
    models = laid(trained, "lightgbm", tmp_path, instances=2)
    expected = np.load(trained / "answers.npz")
    answers = [None] * len(expected["x"])

    def ask(index):
        answers[index] = infer(address, "lightgbm", {"x": expected["x"][index : index + 1]})["predict"].ravel()[0]

    with server(python, models, tmp_path) as (address, _):
        threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(answers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    np.testing.assert_allclose(answers, expected["lightgbm"], rtol=1e-6)


def test_only_the_offered_versions_are_served(python, trained, tmp_path):
    versions = {number: ModelFiles.of(trained / FRAMEWORKS["xgboost"]) for number in (1, 2, 3)}
    wishes = Wishes(options=LayoutSpec.parse({"versions": {"only": [1, 3]}}))
    files, _ = lay_out("mlserver", ServedModel("trees", "xgboost", versions), wishes)
    with server(python, unpacked(files, tmp_path / "image") / "models", tmp_path) as (address, _):
        for number in (1, 3):
            assert get(f"http://{address}/v2/models/trees/versions/{number}")["name"] == "trees"
        with pytest.raises(requests.HTTPError, match="404"):
            get(f"http://{address}/v2/models/trees/versions/2")
