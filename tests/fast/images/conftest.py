import os
from importlib import metadata
from types import SimpleNamespace

import onnx
import pytest
from e2e_small_model import classifier
from faulty_http import FaultyServer
from registry_in_pieces import Registry

from gpuserve_images.compile import builders
from gpuserve_images.compile.profiles import profiles
from gpuserve_images.layouts.spec import BatchSpec
from gpuserve_images.oci import memory, retries
from gpuserve_images.onnx_model.signature import read_signature
from gpuserve_images.sources import transfer

CLOUDS = ("AWS_", "GOOGLE_", "HF_")


@pytest.fixture(autouse=True)
def _no_memory_of_other_runs(tmp_path_factory, monkeypatch):
    """A test sends what it says it sends, whatever was baked on this machine before."""
    folder = tmp_path_factory.mktemp("memory")
    monkeypatch.setattr(memory, "_folder", lambda: folder)


@pytest.fixture
def server(monkeypatch):
    """A registry that takes blobs in pieces and fails where a test wants it to; whoever is refused does not wait long."""
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.01)
    with Registry() as running:
        yield running
        running.shutdown()


@pytest.fixture
def named_tensorrt(monkeypatch):
    """TensorRT's distribution, which names engines; give another version to install that, or None. Its module is a test's own business."""
    there = {"version": "11.4.0.106"}

    def version(name):
        if name != "tensorrt-cu13":
            return metadata.version(name)
        if there["version"] is None:
            raise metadata.PackageNotFoundError(name)
        return there["version"]

    monkeypatch.setattr(builders, "version", version)
    return lambda other: there.update(version=other)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache that nothing was fetched into."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def nothing_of_the_user(own_cache, tmp_path, monkeypatch):
    """No credentials of this machine's user, no cache, no pauses, no machine to ask for a role."""
    for name in [name for name in os.environ if name.startswith(CLOUDS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=lambda _seconds: None))


@pytest.fixture
def aws_keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-word")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")


@pytest.fixture
def web():
    """A web server that fails where a test wants it to."""
    with FaultyServer() as running:
        yield running


@pytest.fixture
def source(tmp_path):
    """The file of a small classifier."""
    onnx.save(classifier(), tmp_path / "source.onnx")
    return tmp_path / "source.onnx"


@pytest.fixture
def shapes(source):
    """Profiles of that classifier, for batches of up to 16."""
    return profiles(read_signature(source), BatchSpec(max=16))
