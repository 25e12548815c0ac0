"""An image laid out for KServe, fetched by KServe's own storage initializer from a real registry, and served from what it fetched."""

import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from e2e_registry import BINARY, RegistryServer
from e2e_small_model import FEATURES, classifier
from environments import HERE, packages
from triton_server import TritonServer, missing
from v2_client import infer

from gpuserve_images.layouts.choosing import lay_out
from gpuserve_images.layouts.served import ModelFiles, ServedModel, Wishes
from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.onnx_model.signature import read_signature

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="needs a registry: apt-get install docker-registry"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]
FETCH = """
import sys, tarfile
from kserve_storage import Storage

if not hasattr(tarfile, "data_filter"):  # Debian 12's Python 3.11.2, which KServe's package does not think of
    extract = tarfile.TarFile.extract
    tarfile.TarFile.extract = lambda self, member, filter, **how: extract(self, member, **how)
Storage.download(sys.argv[1], sys.argv[2])
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with RegistryServer(tmp_path_factory.mktemp("registry")) as server:
        yield server.host


def fetched(registry, model, folder):
    """Bake a model into an image of its own, and return the folder that KServe fetches from it."""
    files, _ = lay_out("kserve", model, Wishes())
    layers = [Layer({path: File(content)}) for path, content in files.items()]
    uri = "oci://" + bake(f"{registry}/{model.name}:1", layers).reference
    environ = {
        **os.environ,
        "PYTHONPATH": str(packages(HERE / "requirements-kserve.lock")),
        "KSERVE_OCI_INSECURE_REGISTRY": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", FETCH, uri, str(folder)], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_an_onnx_model_is_fetched_and_served_by_triton(registry, tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(classifier(), path)
    repository = fetched(registry, ServedModel.of("small", "onnx", path, read_signature(path)), tmp_path / "mnt")
    x = np.random.default_rng(1).normal(size=(3, FEATURES)).astype(np.float32)
    with TritonServer(repository, tmp_path) as server:
        answer = infer(f"127.0.0.1:{server.http}", "small", {"x": x})["scores"]
    expected = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["scores"], {"x": x})[0]
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("form", "names", "expected"),
    [
        ("sklearn", ["forest.joblib"], {"model.joblib"}),
        ("lightgbm", ["trees.txt"], {"model.bst"}),
        ("tensorflow", ["saved_model.pb", "assets/words.txt"], {"1/saved_model.pb", "1/assets/words.txt"}),
    ],
)
def test_files_lie_where_the_server_of_the_format_looks(registry, tmp_path, form, names, expected):
    source = tmp_path / "source"
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    model = ServedModel("m", form, {1: ModelFiles(names[0], {name: source / name for name in names})})
    folder = fetched(registry, model, tmp_path / "mnt")
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == expected
